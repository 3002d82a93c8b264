"""Writes quantizer_errors.json: the errors of ggml's quantizers on the tensors of quantizer_tensors.py.

    PYTHONPATH=tests python tests/golden/make_quantizer_errors.py

needs edgeformer, gguf and llama-cpp-python, or LLAMA_CPP_LIB, the folder of its ggml library. Errors are root mean
squares, without and with importance.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
from support.ggml_quantizer import GgmlQuantizer, library_path
from support.quantizer_tensors import COMPARED, TENSORS, importance, tensor, weighted_rmse


def errors(ggml: GgmlQuantizer, type_id: int, tensor_name: str) -> list[float]:
    """ggml's error without and with importance, six digits."""
    weights, found = tensor(tensor_name), []
    quantization = gguf.GGMLQuantizationType(type_id)
    for column_weights in (None, importance(tensor_name)):
        decoded = gguf.quants.dequantize(ggml.quantize(quantization, weights, column_weights), quantization)
        found.append(float(f"{weighted_rmse(weights, decoded, column_weights):.5e}"))
    return found


def main() -> None:
    path = library_path()
    if path is None:
        raise SystemExit("no ggml here: pip install llama-cpp-python, or set LLAMA_CPP_LIB")
    ggml = GgmlQuantizer(path)
    table = {kind.name: {name: errors(ggml, kind.id, name) for name in TENSORS} for kind in COMPARED}
    target = Path(__file__).with_name("quantizer_errors.json")
    target.write_text(json.dumps({"library": path.resolve().name, "errors": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
