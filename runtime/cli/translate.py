"""``edgeformer translate``"""

from __future__ import annotations

from . import options
from .output import input_texts, print_json


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
    import edgeformer

    sources = input_texts(texts)
    with edgeformer.load(file, threads=threads) as model:
        answers = iter(model.translate([source for source in sources if source], num_beams=num_beams))
    results = [next(answers) if source else "" for source in sources]
    if json:
        print_json([{"source": source, "text": text} for source, text in zip(sources, results, strict=True)])
    else:
        print("\n".join(results))
