"""Run by an interpreter that has llama-cpp-python: its ids of texts under the vocabulary of each file, as JSON.

usage: python llama_cpp_texts.py < {"paths": [...], "texts": [...]}
"""

from __future__ import annotations

import json
import sys

from llama_cpp import Llama


def main() -> None:
    job = json.load(sys.stdin)
    answers = []
    for path in job["paths"]:
        model = Llama(path, vocab_only=True, verbose=False)
        answers.append([model.tokenize(text.encode(), add_bos=True, special=False) for text in job["texts"]])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
