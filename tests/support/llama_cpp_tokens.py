"""Run by an interpreter that has llama-cpp-python: its ids of texts, and its greedy continuation, as JSON.

usage: python llama_cpp_tokens.py < {"path": ..., "texts": [...], "start": [...], "length": n}

Without a start, only the vocabulary is read.
With "source" and "file_type" (llama.cpp's number), it first writes the file by llama.cpp's quantizer.
"""

from __future__ import annotations

import ctypes
import json
import sys

import llama_cpp
import numpy as np
from llama_cpp import Llama


def quantize(source: str, path: str, file_type: int) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = file_type, 1
    if llama_cpp.llama_model_quantize(source.encode(), path.encode(), ctypes.byref(parameters)):
        raise SystemExit(f"{source}: llama.cpp cannot quantize it")


def main() -> None:
    job = json.load(sys.stdin)
    if "source" in job:
        quantize(job["source"], job["path"], job["file_type"])
    ids = list(job["start"])
    model = Llama(job["path"], n_ctx=256, n_threads=1, verbose=False, logits_all=True, vocab_only=not ids)
    if ids:
        model.eval(ids)
    while len(ids) < job["length"]:
        ids.append(int(np.argmax(model.scores[len(ids) - 1])))
        model.eval(ids[-1:])
    texts = [model.tokenize(text.encode(), add_bos=True, special=False) for text in job["texts"]]
    json.dump({"ids": ids, "texts": texts}, sys.stdout)


if __name__ == "__main__":
    main()
