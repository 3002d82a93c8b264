"""ONNX Runtime, OpenVINO and CTranslate2 on int8 encoders as worker.py hosts them: hidden states of full batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy

from .token_ids import seconds, token_ids


class Encoder(ABC):
    """What the three share: `{"batch": b, "tokens": t}`, and the hidden states of given sentences."""

    version: str

    @abstractmethod
    def call(self, ids: Any) -> Any:
        """Hidden states of int64 [batch, tokens], no padding."""

    def run(self, batch: int, tokens: int) -> float:
        ids = numpy.array([token_ids(tokens, row * tokens) for row in range(batch)], numpy.int64)
        return seconds(lambda: self.call(ids))

    def pooled(self, ids: list[list[int]]) -> list[list[float]]:
        """The mean of each sentence's hidden states, of length one; one sentence a call, so none is padded."""
        means = [numpy.asarray(self.call(numpy.array([sentence], numpy.int64)))[0].mean(axis=0) for sentence in ids]
        return [(mean / numpy.linalg.norm(mean)).tolist() for mean in means]


class OnnxRuntime(Encoder):
    """The dynamically quantized export."""

    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.version = f"onnxruntime {onnxruntime.__version__}"

    def call(self, ids: Any) -> Any:
        return self.session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})[0]


class OpenVino(Encoder):
    """The statically quantized model, compiled for latency."""

    def __init__(self, path: str, threads: int) -> None:
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self.model = openvino.Core().compile_model(path, "CPU", options)
        self.version = f"openvino {openvino.__version__}"

    def call(self, ids: Any) -> Any:
        return self.model([ids, numpy.ones_like(ids)])[0]


class CTranslate2(Encoder):
    """CTranslate2's encoder; its result is taken out as an array, like the others'."""

    def __init__(self, path: str, threads: int) -> None:
        import ctranslate2

        self.encoder = ctranslate2.Encoder(path, device="cpu", intra_threads=threads, inter_threads=1)
        self.version = f"ctranslate2 {ctranslate2.__version__} ({self.encoder.compute_type})"

    def call(self, ids: Any) -> Any:
        return numpy.array(self.encoder.forward_batch(ids.tolist()).last_hidden_state)
