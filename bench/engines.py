"""The runtimes that compare_peers.py times, each behind the same three calls, and the worker process that hosts one.

A worker is started as `PYTHON bench/engines.py` by the interpreter that has the runtime installed, reads one JSON
request a line (`{"engine": ..., "options": {...}}` first, then `{"run": {...}, "repeat": n}`) and answers one JSON line
each, so that two runtimes take turns on the same machine. Nothing of a runtime is imported before it is asked for.
"""
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_TOKEN, TOKEN_STEP, TOKEN_RANGE = 1, 7919, 30000


def token_ids(count: int, start: int = 0) -> list[int]:
    """The ids that every runtime is given: scattered over the embedding, the same everywhere."""
    return [FIRST_TOKEN + (start + i) * TOKEN_STEP % TOKEN_RANGE for i in range(count)]


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class EdgeformerDecoder:
    """edgeformer on a GGUF: `{"prefill": n}` or `{"decode": n}` from an empty sequence, logits of the last row only."""

    def __init__(self, path: str, threads: int, context: int, isa: str | None = None) -> None:
        from edgeformer.session import Session

        self.session = Session.open(path, threads=threads, n_ctx=context, isa=isa)
        self.version = edgeformer_version(self.session.isa)

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        sequence = self.session.new_sequence()
        steps = [token_ids(prefill)] if prefill else [[token] for token in token_ids(decode)]

        def work() -> None:
            for ids in steps:
                self.session.forward([(sequence, ids)])

        elapsed = seconds(work)
        sequence.free()
        return elapsed


class EdgeformerEncoder:
    """edgeformer on a converted encoder: `{"batch": b, "tokens": t}` to hidden states."""

    def __init__(self, path: str, threads: int, isa: str | None = None) -> None:
        from edgeformer.session import Session

        self.session = Session.open(path, threads=threads, isa=isa)
        self.version = edgeformer_version(self.session.isa)

    def run(self, batch: int, tokens: int) -> float:
        sentences = [token_ids(tokens, row * tokens) for row in range(batch)]
        return seconds(lambda: self.session.hidden(sentences))


def edgeformer_version(isa: str) -> str:
    from importlib.metadata import version

    return f"edgeformer {version('edgeformer')} ({isa})"


class LlamaCpp:
    """llama.cpp through llama-cpp-python's C functions: no tokenizer, no sampler, logits of the same rows."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        import llama_cpp

        self.library = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, user_data: None)  # kept: C holds the pointer
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, 512, 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        features = llama_cpp.llama_print_system_info().decode()
        self.version = f"llama-cpp-python {llama_cpp.__version__} ({features.strip()})"

    def fill(self, ids: list[int], position: int) -> None:
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position + i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == len(ids) - 1

    def decode(self, ids: list[int], position: int) -> None:
        self.fill(ids, position)
        status = self.library.llama_decode(self.context, self.batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        if prefill:
            return seconds(lambda: self.decode(token_ids(prefill), 0))
        return seconds(lambda: [self.decode([token], position) for position, token in enumerate(token_ids(decode))])


class IkLlamaCpp:
    """ik_llama.cpp through ik-llama-cpp-python's C functions, with its row-interleaved repacking where `repack`."""

    def __init__(self, path: str, threads: int, context: int, repack: bool) -> None:
        from importlib.metadata import version

        from ik_llama_cpp import _ctypes_api as library
        from ik_llama_cpp._internals import make_batch_range, make_batch_single

        self.library, self.make_range, self.make_single = library, make_batch_range, make_batch_single
        library.llama_backend_init()
        model_params = library.llama_model_default_params()
        model_params.repack_tensors, model_params.use_mmap = repack, not repack
        self.model = library.llama_model_load_from_file(path.encode(), model_params)
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, 512, 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn = True
        self.context = library.llama_init_from_model(self.model, params)
        self.version = f"ik-llama-cpp-python {version('ik-llama-cpp-python')} (repack={repack})"

    def decode(self, batch: Any) -> None:
        status = self.library.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        self.library.llama_kv_cache_clear(self.context)
        if prefill:
            batch = self.make_range(token_ids(prefill), pos_start=0, logits_last=True)
            return seconds(lambda: self.decode(batch))
        batches = [self.make_single(token, position) for position, token in enumerate(token_ids(decode))]
        return seconds(lambda: [self.decode(batch) for batch in batches])


class OnnxRuntime:
    """ONNX Runtime on the dynamically quantized int8 export of an encoder: hidden states of full batches."""

    def __init__(self, path: str, threads: int) -> None:
        import numpy
        import onnxruntime

        self.numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.version = f"onnxruntime {onnxruntime.__version__}"

    def run(self, batch: int, tokens: int) -> float:
        rows = [token_ids(tokens, row * tokens) for row in range(batch)]
        ids = self.numpy.array(rows, self.numpy.int64)
        feed = {"input_ids": ids, "attention_mask": self.numpy.ones_like(ids)}
        return seconds(lambda: self.session.run(None, feed))


class OnnxExport:
    """Exports an encoder to ONNX and quantizes it: `{"checkpoint": folder}`. Its own process, for it loads torch."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.version = "export"

    def run(self, checkpoint: str) -> float:
        return seconds(lambda: self.export(checkpoint))

    def export(self, checkpoint: str) -> None:
        import torch
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from transformers import AutoModel

        class HiddenStates(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        ids = torch.ones(2, 16, dtype=torch.long)
        names = ["input_ids", "attention_mask", "hidden_states"]
        whole = self.path.with_suffix(".float.onnx")
        torch.onnx.export(HiddenStates(), (ids, ids), str(whole), input_names=names[:2], output_names=names[2:],
                          dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names}, dynamo=False,
                          opset_version=17)
        quantize_dynamic(str(whole), str(self.path), weight_type=QuantType.QInt8)
        whole.unlink()


ENGINES: dict[str, Callable[..., Any]] = {
    "edgeformer-decoder": EdgeformerDecoder, "edgeformer-encoder": EdgeformerEncoder, "llama.cpp": LlamaCpp,
    "ik_llama.cpp": IkLlamaCpp, "onnxruntime": OnnxRuntime, "onnx-export": OnnxExport,
}


def serve() -> None:
    """Answer requests until the pipe closes. Runtimes that print to stdout get stderr instead."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = None
    for line in sys.stdin:
        request = json.loads(line)
        if "engine" in request:
            engine = ENGINES[request["engine"]](**request["options"])
            answers.write(json.dumps({"version": engine.version}) + "\n")
        elif engine is not None:
            times = [engine.run(**request["run"]) for _ in range(request["repeat"])]
            answers.write(json.dumps({"seconds": times}) + "\n")


if __name__ == "__main__":
    serve()
