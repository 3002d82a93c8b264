"""llama.cpp and ik_llama.cpp as worker.py hosts them, through the C functions of their Python packages.

No tokenizer, no sampler; flash attention, an F16 cache, micro-batches of 512, logits of every sequence's last row.
"""

from __future__ import annotations

from typing import Any

from .token_ids import seconds, token_ids

MICRO_BATCH = 512


class LlamaCpp:
    """llama-cpp-python. `context` is for one sequence; `sequences` of them decode together in one batch."""

    def __init__(self, path: str, threads: int, context: int, sequences: int = 1) -> None:
        import llama_cpp

        self.library, self.sequences = llama_cpp, sequences
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, user_data: None)  # kept: C holds the pointer
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = context * sequences, sequences
        params.n_batch, params.n_ubatch = max(MICRO_BATCH, context), MICRO_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.batch = llama_cpp.llama_batch_init(max(MICRO_BATCH, context), 0, 1)
        features = llama_cpp.llama_print_system_info().decode()
        self.version = f"llama-cpp-python {llama_cpp.__version__} ({features.strip()})"

    def fill(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Rows of (token, position, sequence, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted

    def decode(self) -> None:
        status = self.library.llama_decode(self.context, self.batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def decode_steps(self, ids: list[int]) -> None:
        for position, token in enumerate(ids):
            self.fill([(token, position, sequence, True) for sequence in range(self.sequences)])
            self.decode()

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        if prefill:
            self.fill([(token, i, 0, i == prefill - 1) for i, token in enumerate(token_ids(prefill))])
            return seconds(self.decode)
        return seconds(lambda: self.decode_steps(token_ids(decode)))


class IkLlamaCpp:
    """ik-llama-cpp-python, with its repacking of rows at loading where `repack`."""

    def __init__(self, path: str, threads: int, context: int, repack: bool) -> None:
        from importlib.metadata import version

        from ik_llama_cpp import _ctypes_api as library
        from ik_llama_cpp._internals import make_batch_range, make_batch_single

        self.library, self.make_range, self.make_single = library, make_batch_range, make_batch_single
        library.llama_backend_init()
        model_params = library.llama_model_default_params()
        model_params.repack_tensors, model_params.use_mmap = repack, not repack
        self.model = library.llama_model_load_from_file(path.encode(), model_params)
        if not self.model:
            raise RuntimeError(f"ik_llama.cpp does not load {path}")
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, max(MICRO_BATCH, context), MICRO_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn = True
        self.context = library.llama_init_from_model(self.model, params)
        self.version = f"ik-llama-cpp-python {version('ik-llama-cpp-python')} (repack={repack})"

    def decode(self, batch: Any) -> None:
        status = self.library.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")

    def decode_all(self, batches: list[Any]) -> None:
        for batch in batches:
            self.decode(batch)

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        self.library.llama_kv_cache_clear(self.context)
        if prefill:
            batch = self.make_range(token_ids(prefill), pos_start=0, logits_last=True)
            return seconds(lambda: self.decode(batch))
        batches = [self.make_single(token, position) for position, token in enumerate(token_ids(decode))]
        return seconds(lambda: self.decode_all(batches))
