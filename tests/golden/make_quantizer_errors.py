"""Writes quantizer_errors.json: the errors of ggml's quantizers on the tensors of quantizer_tensors.py.

    PYTHONPATH=tests python tests/golden/make_quantizer_errors.py

needs gguf and llama-cpp-python, or LLAMA_CPP_LIB, the folder of its ggml library. Errors are root mean squares, without
and with importance.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
from support.ggml_quantizer import GgmlQuantizer, library_path
from support.quantizer_tensors import TENSORS, importance, tensor, weighted_rmse

NAMES = "Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 TQ1_0 TQ2_0"


def errors(ggml: GgmlQuantizer, type_name: str, tensor_name: str) -> list[float]:
    """ggml's error without and with importance, six digits."""
    weights, found = tensor(tensor_name), []
    quantization = gguf.GGMLQuantizationType[type_name]
    for column_weights in (None, importance(tensor_name)):
        decoded = gguf.quants.dequantize(ggml.quantize(quantization, weights, column_weights), quantization)
        found.append(float(f"{weighted_rmse(weights, decoded, column_weights):.5e}"))
    return found


def main() -> None:
    path = library_path()
    if path is None:
        raise SystemExit("no ggml here: pip install llama-cpp-python, or set LLAMA_CPP_LIB")
    ggml = GgmlQuantizer(path)
    table = {t.lower(): {name: errors(ggml, t, name) for name in TENSORS} for t in NAMES.split()}
    target = Path(__file__).with_name("quantizer_errors.json")
    target.write_text(json.dumps({"library": path.resolve().name, "errors": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
