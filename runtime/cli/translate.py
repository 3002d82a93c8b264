"""``edgeformer translate``"""

from __future__ import annotations

from . import options
from .output import input_texts, load_model, print_json, progress

BATCH_SIZE = 32  # lines in one run: the first answers come early, and the cache need not hold all


def translate(
    file: options.ModelFile,
    texts: options.Texts = None,
    num_beams: options.NumBeams = 1,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Run an encoder-decoder over texts: one line of output for each.

    An empty line gives an empty line, so the output stays beside its input.

    Example: printf '4 March 1997\\n' | edgeformer translate dates.gguf
    """
    sources = input_texts(texts)
    pairs: list[tuple[str, str]] = []
    with load_model(file, threads=threads) as model, progress("translating") as report:
        for start in range(0, len(sources), BATCH_SIZE):
            batch = sources[start : start + BATCH_SIZE]
            answers = iter(model.translate([source for source in batch if source], num_beams=num_beams))
            results = [next(answers) if source else "" for source in batch]
            pairs += zip(batch, results, strict=True)
            if not json:
                print("\n".join(results), flush=True)
            report(len(pairs), len(sources))
    if json:
        print_json([{"source": source, "text": text} for source, text in pairs])
