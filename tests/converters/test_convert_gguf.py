"""From one GGUF file to another: metadata stay what they are, to the type; a file is known by its first bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import CheckpointFormatError, ModelNotFoundError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from support.checkpoints import LLAMA, llama_tensors, write_folder

KINDS = {"uint8": 7, "int8": -7, "uint16": 7, "int16": -7, "uint32": 7, "int32": 7, "uint64": 7, "int64": 7,
         "float32": 0.5, "float64": 0.1, "bool": True, "string": "text"}  # fmt: skip


def with_every_kind(path: Path, architecture: str = "llama") -> Path:
    """A file with a value and an array of every kind, empty arrays too, and one matrix."""
    with GGUFWriter(path, architecture) as writer:
        for kind, value in KINDS.items():
            writer.add(f"test.{kind}", value, kind)
            writer.add(f"test.{kind}.array", [value, value], kind)
            writer.add(f"test.{kind}.empty", [], kind)
        writer.add("general.file_type", 0, "uint32")
        writer.declare("token_embd.weight", (4, 32), 0)
        writer.write("token_embd.weight", np.ones((4, 32), np.float32))
    return path


def test_metadata_keep_their_types(tmp_path: Path) -> None:
    source = with_every_kind(tmp_path / "source.gguf")
    convert(source, tmp_path / "out.gguf", type="q8_0")
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "out.gguf")
    kept = [key for key in before.fields if not key.startswith("GGUF.") and key != "general.file_type"]
    assert len(kept) == 3 * len(KINDS) + 1
    for key in kept:
        assert after.fields[key].types == before.fields[key].types
        # What follows a field's key, byte by byte: its type and its value.
        parts = [[part.tobytes() for part in file.fields[key].parts[1:]] for file in (before, after)]
        assert parts[0] == parts[1]
    assert after.fields["general.file_type"].contents() == 7


def test_a_gguf_file_needs_no_suffix(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))
    convert(folder, tmp_path / "f32.gguf", type="f32")
    convert(folder, tmp_path / "direct.gguf")
    blob = (tmp_path / "f32.gguf").rename(tmp_path / "sha256-0123")
    convert(blob, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "direct.gguf").read_bytes()


def test_what_is_no_gguf_file_is_none_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("some text")
    with pytest.raises(CheckpointFormatError, match="some tex"):
        convert(tmp_path / "text.gguf", tmp_path / "out.gguf")
    with pytest.raises(ModelNotFoundError, match="no such file"):
        convert(tmp_path / "none.gguf", tmp_path / "out.gguf")
    write_folder(tmp_path / "folder", LLAMA, {})
    with_every_kind(tmp_path / "folder" / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match="by its own path"):
        convert(tmp_path / "folder", tmp_path / "out.gguf")


def test_an_architecture_that_edgeformer_does_not_run_is_converted_with_a_note(tmp_path: Path) -> None:
    source = with_every_kind(tmp_path / "source.gguf", "mamba")
    report = convert(source, tmp_path / "out.gguf", type="q8_0")
    assert any("cannot load" in note and "mamba" in note for note in report.notes)
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert file.tensors["token_embd.weight"].type_name == "q8_0"
