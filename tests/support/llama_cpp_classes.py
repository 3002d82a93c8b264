"""Run by an interpreter that has llama-cpp-python: the numbers of a model's classes for a sequence, as JSON.

usage: python llama_cpp_classes.py < {"path": ..., "ids": [...]}
"""

from __future__ import annotations

import json
import sys

import llama_cpp
from llama_cpp_rows import batch_of, copied


def main() -> None:
    job = json.load(sys.stdin)
    model = llama_cpp.llama_model_load_from_file(job["path"].encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"{job['path']}: llama.cpp refuses it")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 256
    settings.n_threads = settings.n_threads_batch = 1
    settings.embeddings = True  # pooled as the file says
    context = llama_cpp.llama_init_from_model(model, settings)
    if llama_cpp.llama_encode(context, batch_of(job["ids"])):
        raise SystemExit("llama.cpp cannot encode the ids")
    count = llama_cpp.llama_model_n_cls_out(model)
    json.dump(copied(llama_cpp.llama_get_embeddings_seq(context, 0), count), sys.stdout)


if __name__ == "__main__":
    main()
