"""Adapters on the command line: made into a file, merged, given to a call."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeformer.cli import main
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.tools.demo import CHECKPOINT
from support.adapters import factors, write_adapter


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """stdout of a command that succeeds."""
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_an_adapter_changes_a_text_as_it_does_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_checkpoint(CHECKPOINT) as checkpoint:
        shapes = {name: checkpoint.info(name).shape for name in checkpoint.names()}
    pairs = {
        name.removesuffix(".weight"): factors(shape, 8, seed=len(name))
        for name, shape in shapes.items()
        if name.endswith(("linear1.weight", "linear2.weight"))
    }
    assert len(pairs) >= 4
    peft, base = str(write_adapter(tmp_path / "peft", pairs, {"lora_alpha": 80})), str(CHECKPOINT)
    plain, merged, beside = (str(tmp_path / f"{name}.gguf") for name in ("plain", "merged", "beside"))
    run(capsys, "convert", base, plain, "--type", "f32")
    run(capsys, "convert", base, merged, "--type", "f32", "--adapter", peft)
    assert "f32" in run(capsys, "convert", peft, beside, "--base", base)
    text = ("--prompt", "March 5, 1999", "--max-tokens", "8", "--temperature", "0")
    texts = [run(capsys, "generate", path, *text) for path in (plain, merged)]
    assert texts[0] != texts[1]
    assert run(capsys, "generate", plain, *text, "--adapter", beside) == texts[1]


def test_an_adapter_without_its_base_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peft = write_adapter(tmp_path / "peft", {"x": factors((4, 4), 8)}, {})
    assert main(["convert", str(peft), str(tmp_path / "out.gguf")]) != 0
    assert "name the checkpoint that it belongs to, with base or --base" in capsys.readouterr().err
