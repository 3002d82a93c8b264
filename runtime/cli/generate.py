"""``edgeformer generate``"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .inputs import input_prompt
from .output import load_model, print_json

if TYPE_CHECKING:
    from ..generation.streams import GenerationStream


def generate(
    file: options.ModelFile,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="The text to go on from; - reads stdin, less its last newline.")
    ],
    max_tokens: Annotated[
        int | None,
        options.option("--max-tokens", "-n", help="Tokens at most; default: to the end token or the context's end."),
    ] = None,
    temperature: Annotated[
        float | None, options.option("--temperature", help="0 is greedy; default: the model's own.")
    ] = None,
    top_p: Annotated[float | None, options.option("--top-p", help="Draw from this share of the probability.")] = None,
    top_k: Annotated[int | None, options.option("--top-k", help="Draw from the k most likely tokens.")] = None,
    min_p: Annotated[
        float | None, options.option("--min-p", help="Leave out tokens below this share of the most likely one.")
    ] = None,
    typical_p: Annotated[
        float | None, options.option("--typical-p", help="Draw from the most typical tokens that make up this share.")
    ] = None,
    top_n_sigma: Annotated[
        float | None, options.option("--top-n-sigma", help="Leave out what is so many deviations below the best.")
    ] = None,
    repeat_penalty: Annotated[
        float | None, options.option("--repeat-penalty", help="Above 1: tokens that occurred become less likely.")
    ] = None,
    presence_penalty: Annotated[
        float | None, options.option("--presence-penalty", help="Taken from the score of tokens in the new text.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, options.option("--frequency-penalty", help="The same, for each time that they are there.")
    ] = None,
    no_repeat_ngram_size: Annotated[
        int | None, options.option("--no-repeat-ngram-size", help="So many tokens in a row occur only once.")
    ] = None,
    bad_words: Annotated[
        list[str] | None, options.option("--bad-word", help="A text never to write; may be given several times.")
    ] = None,
    min_tokens: Annotated[int | None, options.option("--min-tokens", help="The text does not end before.")] = None,
    seed: Annotated[int | None, options.option("--seed", help="The same seed draws the same text.")] = None,
    stop: Annotated[
        list[str] | None, options.option("--stop", help="End before this string; may be given several times.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt in front.")] = False,
    num_beams: Annotated[int | None, options.option("--num-beams", help="Beam search with this many.")] = None,
    adapter: Annotated[
        str | None, options.option("--adapter", metavar="FILE", help="A LoRA adapter in GGUF to run with.")
    ] = None,
    special_tokens: Annotated[
        bool, typer.Option("--special-tokens", help="Let the prompt spell the model's control tokens.")
    ] = False,
    truncate: options.TruncateLeft = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    kv_type: options.KvType = "f16",
    json: options.Json = False,
) -> None:
    """Continue a text. It appears as it is made: token by token at a terminal, line by line elsewhere.

    Only the new text is printed. Ctrl-C stops within a token and keeps what there is.

    Example: edgeformer generate my-model.gguf --prompt "Once upon a time" --max-tokens 100 --temperature 0.8
    """
    from ..tasks.job import call_options

    text = input_prompt(prompt)
    choices: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "typical_p": typical_p,
        "top_n_sigma": top_n_sigma,
        "repeat_penalty": repeat_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "bad_words": bad_words or None,
        "min_tokens": min_tokens,
        "seed": seed,
        "stop": stop or None,
        "echo": echo or None,
        "num_beams": num_beams,
        "special_tokens": special_tokens or None,
        "truncate": "left" if truncate else None,
    }
    with load_model(file, threads=threads, n_ctx=n_ctx, kv_type=kv_type) as model:
        choices["adapter"] = None if adapter is None else model.load_adapter(adapter)
        if call_options(model, choices).num_beams > 1:  # whose text is known at the end
            result = model.generate(text, **choices)
            if json:
                print_json(result)
            else:
                print(result.text)
        elif json:
            _print_result(model.generate(text, stream=True, **choices))
        else:
            print_as_it_comes(chunk.text for chunk in model.generate(text, stream=True, **choices))


def _print_result(stream: GenerationStream) -> None:
    """Print the result of a stream in JSON; after Ctrl-C what there is, whose `finish_reason` is "cancelled"."""
    try:
        for _ in stream:
            pass
    except KeyboardInterrupt:
        print_json(stream.result)
        raise
    print_json(stream.result)


def print_as_it_comes(pieces: Iterable[str]) -> None:
    """Print a text: at a terminal each piece at once, elsewhere line by line. What came is kept whatever happens."""
    whole_lines = not sys.stdout.isatty()
    held, in_line = "", False
    try:
        for piece in pieces:
            held += piece
            ready = held.rfind("\n") + 1 if whole_lines else len(held)
            if ready:
                print(held[:ready], end="", flush=True)
                held, in_line = held[ready:], held[ready - 1] != "\n"
    except BaseException:
        if held or in_line:
            print(held, flush=True)
        raise
    print(held, flush=True)
