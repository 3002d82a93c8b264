"""Run by an interpreter that has llama-cpp-python: what a model computes of token ids, as JSON.

usage: python llama_cpp_rows.py < {"path": ..., "ids": [...], "target": [...], "adapter": ...}

The rows are logits, one for each id (of "target" where there is one: an encoder-decoder reads "ids" first); of an
encoder, its hidden states.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp
import numpy as np

NO_POOLING = 0


def batch_of(ids: list[int]) -> Any:
    """A batch of one sequence from position 0 that asks for every row."""
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for index, token in enumerate(ids):
        batch.token[index], batch.pos[index], batch.logits[index] = token, index, True
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
    return batch


def copied(pointer: Any, width: int) -> list[float]:
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (width,)).tolist()


def rows(model: Any, context: Any, ids: list[int], target: list[int] | None) -> list[list[float]]:
    if target is None and llama_cpp.llama_model_has_decoder(model) and llama_cpp.llama_get_memory(context):
        target = ids
    elif llama_cpp.llama_encode(context, batch_of(ids)):
        raise SystemExit("llama.cpp cannot encode the ids")
    if target is None:
        width = llama_cpp.llama_model_n_embd(model)
        return [copied(llama_cpp.llama_get_embeddings_ith(context, i), width) for i in range(len(ids))]
    if llama_cpp.llama_decode(context, batch_of(target)):
        raise SystemExit("llama.cpp cannot decode the ids")
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    return [copied(llama_cpp.llama_get_logits_ith(context, i), size) for i in range(len(target))]


def main() -> None:
    job = json.load(sys.stdin)
    model = llama_cpp.llama_model_load_from_file(job["path"].encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"{job['path']}: llama.cpp refuses it")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 256, 1, 1
    settings.n_batch = settings.n_ubatch = 256
    settings.pooling_type = NO_POOLING
    settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, settings)
    if not llama_cpp.llama_get_memory(context):
        llama_cpp.llama_set_embeddings(context, True)
    if "adapter" in job:
        adapter = llama_cpp.llama_adapter_lora_init(model, job["adapter"].encode())
        if not adapter:
            raise SystemExit(f"{job['adapter']}: llama.cpp refuses it")
        one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter), 1, (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, *one) == 0
    json.dump(rows(model, context, job["ids"], job.get("target")), sys.stdout)


if __name__ == "__main__":
    main()
