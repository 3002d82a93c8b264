"""llama.cpp's fused tensors: queries, keys and values below one another in one tensor give what three give."""

from __future__ import annotations

from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from edgeformer.quants import by_name
from golden import cases
from support.probes import llama_cpp

SPLIT = ("llama-untied-biases", "qwen3-untied-biases")


def with_fused_attention(source: Path, out: Path, kinds: tuple[str, ...] = ("weight", "bias")) -> Path:
    """The F32 file again, each layer's three tensors of these kinds as one."""
    with GGUFFile(source) as file, GGUFWriter(out, file.get("general.architecture", str)) as writer:
        for key in file.metadata:
            if key != "general.architecture":
                writer.add_encoded(key, file.encoded(key))
        tensors = {name: file.dequantize(name) for name in file.tensors}
        for layer in range(file.get(f"{file.get('general.architecture', str)}.block_count", int)):
            for kind in kinds:
                names = [f"blk.{layer}.attn_{part}.{kind}" for part in "qkv"]
                if names[0] in tensors:
                    tensors[f"blk.{layer}.attn_qkv.{kind}"] = np.concatenate([tensors.pop(name) for name in names])
        for name, array in tensors.items():
            writer.declare(name, array.shape, by_name("f32").id)
        for name, array in tensors.items():
            writer.write(name, by_name("f32").quantize(array))
    return out


@pytest.mark.parametrize("name", SPLIT)
def test_one_tensor_gives_the_bits_of_three(name: str, tmp_path: Path) -> None:
    path = Path(convert(cases.FOLDER / name, tmp_path / "three.gguf", type="f32").path)
    ids = cases.expected(name)["ids"].tolist()
    logits = []
    for one in (path, with_fused_attention(path, tmp_path / "one.gguf")):
        with edgeformer.load(one, threads=1, kv_type="f32") as model:
            logits.append(model.logits(ids))
    assert np.array_equal(*logits)


def test_llama_cpp_reads_the_same_file(tmp_path: Path) -> None:
    path = convert(cases.FOLDER / SPLIT[0], tmp_path / "three.gguf", type="f32").path
    one = with_fused_attention(Path(path), tmp_path / "one.gguf")
    numbers = cases.expected(SPLIT[0])
    theirs = np.array(llama_cpp("rows", {"path": str(one), "ids": numbers["ids"].tolist()}), np.float32)
    assert cases.relative_error(theirs, numbers["logits"]) < 2e-3


def test_biases_left_apart_are_refused(tmp_path: Path) -> None:
    path = convert(cases.FOLDER / SPLIT[0], tmp_path / "three.gguf", type="f32").path
    one = with_fused_attention(Path(path), tmp_path / "one.gguf", ("weight",))
    with pytest.raises(UnsupportedModelError, match=r"attn_[qkv]\.bias' is part of a layer and would not be used"):
        edgeformer.load(one)
