"""A file of an architecture that llama.cpp knows opens there, and gives torch's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import gguf
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.engine.session import Session
from golden import cases
from golden.cases import DECODERS, relative_error
from support.probes import llama_cpp

NUMBERS = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
ROWS = (*DECODERS, *cases.ENCODERS, *cases.ENCODER_DECODERS)  # of which llama.cpp can be asked for every row
KNOWN = [name for name in ROWS if cases.architecture(name) in NUMBERS]
TOLERANCE = 2e-3  # of the range of torch's row: its products of floats add up in other orders, some of them in F16

STEPS = 64


def test_llama_cpp_knows_most_architectures() -> None:
    assert {"llama", "bert"} <= {cases.architecture(name) for name in KNOWN}


def job_of(name: str, path: str) -> tuple[dict[str, Any], np.ndarray]:
    """What llama.cpp is to compute of a case's file, and the rows that it must give."""
    numbers, kind = cases.expected(name), cases.CASES[name]["kind"]
    if kind == "decoder":
        return {"path": path, "ids": numbers["ids"].tolist()}, numbers["logits"]
    if kind == "encoder_decoder":
        sources, targets = cases.sources_and_targets(name)
        return {"path": path, "ids": sources[0], "target": targets[0]}, numbers["logits"][: len(targets[0])]
    ids = cases.split(numbers["ids"], numbers["lengths"])[0]
    if kind == "encoder":
        return {"path": path, "ids": ids}, numbers["hidden"][: len(ids)]
    session = Session.open(path, threads=1)  # before a head, llama.cpp shows the rows that the head reads
    return {"path": path, "ids": ids}, session.hidden([ids])


@pytest.mark.parametrize("name", KNOWN)
def test_llama_cpp_gives_torchs_numbers_or_a_note_says_what_it_does(name: str, tmp_path: Path) -> None:
    report = convert(cases.FOLDER / name, tmp_path / "out.gguf", type="f32")
    job, wanted = job_of(name, str(report.path))
    if any(note.startswith("llama.cpp refuses") for note in report.notes):
        with pytest.raises(AssertionError, match=r"llama\.cpp refuses it"):
            llama_cpp("rows", job)
        return
    error = relative_error(np.array(llama_cpp("rows", job), np.float32), wanted)
    assert (error < TOLERANCE) != any(note.startswith("llama.cpp") for note in report.notes)


CLASSES = [
    name for name in cases.HEADS if cases.CASES[name]["output"] == "classes" and cases.architecture(name) in NUMBERS
]


@pytest.mark.parametrize("name", CLASSES)
def test_llama_cpp_gives_torchs_classes_or_a_note_says_what_it_does(name: str, tmp_path: Path) -> None:
    report = convert(cases.FOLDER / name, tmp_path / "out.gguf", type="f32")
    numbers = cases.expected(name)
    job = {"path": report.path, "ids": cases.split(numbers["ids"], numbers["lengths"])[1]}
    if any(note.startswith("llama.cpp refuses") for note in report.notes):
        with pytest.raises(AssertionError, match=r"llama\.cpp refuses it"):
            llama_cpp("classes", job)
        return
    error = relative_error(np.array(llama_cpp("classes", job), np.float32), numbers["classes"][1])
    assert (error < TOLERANCE) != any(note.startswith("llama.cpp") for note in report.notes)


# Without those whose rounding may change the experts that a row chooses.
@pytest.mark.parametrize("name", [name for name in KNOWN if name in DECODERS and "kv_types" not in cases.CASES[name]])
def test_llama_cpp_takes_the_same_greedy_path_through_an_f16_file(name: str, tmp_path: Path) -> None:
    """Over 64 tokens it would choose each that edgeformer chose, or one that is next to tied with it."""
    report, ids = convert(cases.FOLDER / name, tmp_path / "out.gguf", type="f16"), cases.expected(name)["ids"].tolist()
    if any(note.startswith("llama.cpp") for note in report.notes):
        pytest.skip("a note says that llama.cpp computes something else")
    with edgeformer.load(report.path, kv_type="f32") as model:
        sequence, path, fed = model.session.new_sequence(), [], ids
        for _ in range(STEPS):
            path.append(int(model.session.forward([(sequence, fed)])[-1].argmax()))
            fed = path[-1:]
    rows = np.array(llama_cpp("rows", {"path": report.path, "ids": [*ids, *path[:-1]]}), np.float32)[len(ids) - 1 :]
    behind = rows.max(axis=1) - rows[np.arange(STEPS), path]
    assert (behind <= TOLERANCE * np.ptp(rows, axis=1)).all()


@pytest.mark.parametrize("name", KNOWN)
def test_names_of_tensors_are_those_that_gguf_knows(name: str, tmp_path: Path) -> None:
    report = convert(cases.FOLDER / name, tmp_path / "out.gguf", type="f32")
    refused = any(note.startswith("llama.cpp refuses") for note in report.notes)  # then of any architecture
    tensors = gguf.TENSOR_NAMES if refused else gguf.MODEL_TENSORS[NUMBERS[report.architecture]]
    known = {gguf.TENSOR_NAMES[tensor] for tensor in tensors}
    known |= {"rope_factors_long", "rope_factors_short"}  # which llama.cpp reads of more architectures than listed
    for tensor in report.tensors:
        stem = tensor.name.removesuffix(".weight").removesuffix(".bias")
        layers = [part for part in stem.split(".") if part.isdigit()]
        assert any(stem == one.format(bid=layers[0] if layers else 0) for one in known), tensor.name
