"""A file of an architecture that llama.cpp knows opens there, and gives torch's numbers."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from edgeformer.converters import convert
from golden import cases
from golden.cases import relative_error
from support.probes import llama_cpp

KNOWN = {name: case for name, case in cases.architectures().items() if name in gguf.MODEL_ARCH_NAMES.values()}
TOLERANCE = 2e-3  # of the range of torch's row: its products of floats add up in other orders, some of them in F16


def test_llama_cpp_knows_most_architectures() -> None:
    assert {"llama", "bert"} <= set(KNOWN)


@pytest.mark.parametrize("architecture", KNOWN)
def test_llama_cpp_gives_torchs_numbers(architecture: str, tmp_path: Path) -> None:
    name = KNOWN[architecture]
    numbers, kind = cases.expected(name), cases.CASES[name]["kind"]
    report = convert(cases.FOLDER / name, tmp_path / "out.gguf", type="f32")
    job = {"path": report.path}
    if kind == "decoder":
        job["ids"], wanted = numbers["ids"].tolist(), numbers["logits"]
    elif kind == "encoder":
        job["ids"] = cases.split(numbers["ids"], numbers["lengths"])[0]
        wanted = numbers["hidden"][: len(job["ids"])]
    else:
        sources, targets = cases.sources_and_targets(name)
        job["ids"], job["target"] = sources[0], targets[0]
        wanted = numbers["logits"][: len(targets[0])]
    assert relative_error(np.array(llama_cpp("rows", job), np.float32), wanted) < TOLERANCE


@pytest.mark.parametrize("architecture", KNOWN)
def test_names_of_tensors_are_those_that_gguf_knows(architecture: str, tmp_path: Path) -> None:
    report = convert(cases.FOLDER / KNOWN[architecture], tmp_path / "out.gguf", type="f32")
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[number]}
    for tensor in report.tensors:
        stem = tensor.name.removesuffix(".weight").removesuffix(".bias")
        layers = [part for part in stem.split(".") if part.isdigit()]
        assert any(stem == name.format(bid=layers[0] if layers else 0) for name in known), tensor.name
