"""``edgeformer generate``"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from . import options
from .output import load_model, print_json, read_stdin


def generate(
    file: options.ModelFile,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to go on from; - reads stdin.")],
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
    repeat_penalty: Annotated[
        float | None, options.option("--repeat-penalty", help="Above 1: tokens that occurred become less likely.")
    ] = None,
    seed: Annotated[int | None, options.option("--seed", help="The same seed draws the same text.")] = None,
    stop: Annotated[
        list[str] | None, options.option("--stop", help="End before this string; may be given several times.")
    ] = None,
    num_beams: Annotated[int | None, options.option("--num-beams", help="Beam search with this many.")] = None,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    kv_type: options.KvType = "f16",
    json: options.Json = False,
) -> None:
    """Continue a text; at a terminal it appears as it is made.

    Only the new text is printed. Ctrl-C stops within a token.

    Example: edgeformer generate my-model.gguf --prompt "Once upon a time" --max-tokens 100 --temperature 0.8
    """
    text = read_stdin() if prompt == "-" else prompt
    choices: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": seed,
        "stop": stop or None,
        "num_beams": num_beams,
    }
    with load_model(file, threads=threads, n_ctx=n_ctx, kv_type=kv_type) as model:
        if json:
            print_json(model.generate(text, **choices))
        elif sys.stdout.isatty() and (num_beams or 1) == 1:
            for chunk in model.generate(text, stream=True, **choices):
                print(chunk.text, end="", flush=True)
            print()
        else:
            print(model.generate(text, **choices).text)
