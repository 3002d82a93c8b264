"""Writes llama_quantize_types.json: the type that llama.cpp's quantizer gives to every matrix of small models.

usage: python make_llama_quantize.py    (needs llama-cpp-python and gguf; the version used is in the file)

The models of quantized_shapes.py are zeros: the choice depends on shapes alone.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from quantized_shapes import MODELS, VOCABULARY, grouped_by_role, shapes

OUT = Path(__file__).parent / "llama_quantize_types.json"
# MXFP4 is left out: without experts llama.cpp writes Q8_0 for it.
FILE_TYPES = {
    "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
    "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "q2_k_s": 21, "iq4_nl": 25, "iq4_xs": 30,
    "tq1_0": 36, "tq2_0": 37, "f16": 1, "bf16": 32,
}  # fmt: skip


def write(path: Path, model: str) -> None:
    architecture, layers, width, heads, shared, inner, _ = MODELS[model]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(32)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-12)
    writer.add_rope_dimension_count(width // heads)
    writer.add_causal_attention(architecture == "llama")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    for name, shape in shapes(model).items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def importance(model: str) -> ctypes.Array[llama_cpp.llama_model_imatrix_data]:
    """Ones for every matrix, as llama.cpp takes them, and the entry without a name that ends the list."""
    matrices = {name: shape[-1] for name, shape in shapes(model).items() if len(shape) == 2}
    entries = (llama_cpp.llama_model_imatrix_data * (len(matrices) + 1))()
    for entry, (name, width) in zip(entries, matrices.items(), strict=False):
        entry.name, entry.size = name.encode(), width
        entry.data = ctypes.cast((ctypes.c_float * width)(*[1.0] * width), ctypes.POINTER(ctypes.c_float))
    return entries


def quantized_types(source: Path, out: Path, model: str, file_type: int, weighted: bool) -> dict[str, str]:
    """Types of the matrices that llama.cpp writes, by name without layer: runs of a type over the layers."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = file_type, 1
    entries = importance(model)
    if weighted:
        parameters.imatrix = ctypes.cast(entries, type(parameters.imatrix))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp cannot quantize {model} to {file_type}")
    reader = gguf.GGUFReader(out)
    if reader.fields["general.file_type"].contents() != file_type:
        raise SystemExit(f"llama.cpp wrote {model} as another file type than {file_type}")
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in reader.tensors}
    roles = grouped_by_role(model, types)
    return {role: " ".join(f"{kind}*{len(list(run))}" for kind, run in groupby(found)) for role, found in roles.items()}


def lines(table: dict[str, Any]) -> str:
    """JSON with a line for each file type of a model."""
    models = []
    for model, mixes in table["models"].items():
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(types)}" for name, types in mixes.items())
        models.append(f" {json.dumps(model)}: {{\n{rows}\n }}")
    version = json.dumps(table["llama_cpp_python"])
    return f'{{"llama_cpp_python": {version}, "models": {{\n' + ",\n".join(models) + "\n}}\n"


def main() -> None:
    silent = llama_cpp.llama_log_callback(lambda *_: None)  # must live as long as llama.cpp may call it
    llama_cpp.llama_log_set(silent, None)
    table: dict[str, Any] = {"llama_cpp_python": llama_cpp.__version__, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "source.gguf", Path(folder) / "out.gguf"
        for model in MODELS:
            write(source, model)
            for weighted in (False, True):
                table["models"][f"{model}{', weighted' if weighted else ''}"] = {
                    name: quantized_types(source, out, model, file_type, weighted)
                    for name, file_type in FILE_TYPES.items()
                    if weighted or name != "q2_k_s"  # which llama.cpp refuses without importances
                }
    OUT.write_text(lines(table))


if __name__ == "__main__":
    main()
