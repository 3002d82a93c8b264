"""`python bench` and `python -m bench`: the same commands, from any folder."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # `python bench` puts the folder itself on the path, where its modules are nobody's business
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.arguments import main

if __name__ == "__main__":
    main()
