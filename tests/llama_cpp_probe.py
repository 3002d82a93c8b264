"""Run by an interpreter that has llama-cpp-python: its ids of texts, and its greedy continuation, as JSON.

usage: python llama_cpp_probe.py < {"path": ..., "texts": [...], "start": [...], "length": n}
"""

from __future__ import annotations

import json
import sys

import numpy as np
from llama_cpp import Llama


def main() -> None:
    job = json.load(sys.stdin)
    model = Llama(job["path"], n_ctx=256, n_threads=1, verbose=False, logits_all=True)
    ids = list(job["start"])
    model.eval(ids)
    while len(ids) < job["length"]:
        ids.append(int(np.argmax(model.scores[len(ids) - 1])))
        model.eval(ids[-1:])
    texts = [model.tokenize(text.encode(), add_bos=True, special=False) for text in job["texts"]]
    json.dump({"ids": ids, "texts": texts}, sys.stdout)


if __name__ == "__main__":
    main()
