"""edgeformer's side of count_tokens.py: loads a GGUF, runs the work twice with one thread, marks around the second.

usage: python bench/arm/edgeformer_tokens.py MODEL.gguf prefill|decode TOKENS

Runs under the emulated CPU.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.engines_edgeformer import Decoder


def main() -> None:
    path, work, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
    engine = Decoder(path, threads=1, context=512)
    engine.run(**{work: tokens})
    os.getpgid(0)
    engine.run(**{work: tokens})
    os.getpgid(0)
    print(engine.version)


if __name__ == "__main__":
    main()
