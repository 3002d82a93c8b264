"""Commands of heads print what the verbs give."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import edgeformer
import pytest
from edgeformer.cli import main
from edgeformer.converters import convert

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "tasks"
TEXT = "Clara Novak flew from Oslo to New-York on Monday."


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The converted file of a folder of golden/tasks."""
    scratch = tmp_path_factory.mktemp("tasks")

    def path_of(name: str) -> str:
        if not (scratch / f"{name}.gguf").exists():
            shutil.copytree(FOLDER / name, scratch / name)
            shutil.copytree(FOLDER / "tokenizers" / "wordpiece", scratch / name, dirs_exist_ok=True)
            convert(scratch / name, scratch / f"{name}.gguf", type="f32")
        return str(scratch / f"{name}.gguf")

    return path_of


def run(capsys: pytest.CaptureFixture[str], *arguments: str, stdin: str = "") -> str:
    """stdout of a command that succeeds and writes nothing on stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        code = main(list(arguments))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, stdin: bytes = b"") -> str:
    """The one line on stderr of a command that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        assert main(list(arguments)) == 1
    err = capsys.readouterr().err
    assert err.startswith("edgeformer: error: ") and err.count("\n") == 1
    return err


def test_classify(path: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = path("classes")
    with edgeformer.load(file) as model:
        results = model.classify([TEXT, "x"])
    lines = [f"{result.label}\t{result.score:.4f}\n" for result in results]
    assert run(capsys, "classify", file, TEXT, "x") == "".join(lines)
    assert run(capsys, "classify", file, stdin=f"{TEXT}\n\nx\n") == f"{lines[0]}\n{lines[1]}"
    (tmp_path / "texts.txt").write_text(f"{TEXT}\nx\n")
    assert run(capsys, "classify", file, "--input", str(tmp_path / "texts.txt")) == "".join(lines)
    documents = json.loads(run(capsys, "classify", file, TEXT, "--json", "--top-k", "3"))
    assert documents == [{"text": TEXT, "result": results[0].to_dict()}]
    assert len(run(capsys, "classify", file, TEXT, "--top-k", "2").split("\t")) == 4


def test_zero_shot(path: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    file = path("inference")
    with edgeformer.load(file) as model:
        wanted = model.classify(TEXT, labels=["art", "travel"], hypothesis_template="About {}.", multi_label=True)
    flags = ("-l", "art", "-l", "travel", "--hypothesis", "About {}.", "--multi-label")
    assert run(capsys, "classify", file, TEXT, *flags) == f"{wanted.label}\t{wanted.score:.4f}\n"


def test_tokens(path: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    file = path("entities")
    with edgeformer.load(file) as model:
        entities = model.tokens(TEXT, aggregation="first")
    shown = run(capsys, "tokens", file, TEXT, "--aggregation", "first")
    assert [f"[{entity.text}]({entity.label})" in shown for entity in entities] == [True] * len(entities)
    for entity in entities:
        shown = shown.replace(f"[{entity.text}]({entity.label})", entity.text, 1)
    assert shown == f"{TEXT}\n"
    (document,) = json.loads(run(capsys, "tokens", file, TEXT, "-a", "first", "--json"))
    assert document["result"] == [entity.to_dict() for entity in entities]


def test_fill_mask(path: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    file = path("masks")
    with edgeformer.load(file) as model:
        masks = model.fill_mask("the [MASK] stood [MASK]", top_k=2).masks
    lines = ["\t".join(f"{word.text}\t{word.score:.4f}" for word in words) + "\n" for words in masks]
    assert run(capsys, "fill-mask", file, "the [MASK] stood [MASK]", "--top-k", "2") == "".join(lines)


def test_answer(path: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    file = path("answers")
    with edgeformer.load(file) as model:
        found = model.answer("Who flew?", TEXT, top_k=2)
    lines = "".join(f"{span.text}\t{span.score:.4f}\n" for span in found.spans)
    assert run(capsys, "answer", file, "Who flew?", TEXT, "--top-k", "2") == lines
    assert run(capsys, "answer", file, "Who flew?", "--top-k", "2", stdin=f"{TEXT}\n") == lines
    assert json.loads(run(capsys, "answer", file, "Who flew?", TEXT, "--top-k", "2", "--json")) == found.to_dict()


def test_rank(path: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    file = path("ranks")
    with edgeformer.load(file) as model:
        found = model.rank("Who flew?", [TEXT, "x", "the mill"], top_k=2)
    lines = "".join(f"{one.score:.4f}\t{one.document}\n" for one in found)
    assert run(capsys, "rank", file, "Who flew?", TEXT, "x", "the mill", "--top-k", "2") == lines
    assert run(capsys, "rank", file, "Who flew?", "--top-k", "2", stdin=f"{TEXT}\nx\n\nthe mill\n") == lines
    documents = json.loads(run(capsys, "rank", file, "Who flew?", TEXT, "x", "the mill", "--json", "--top-k", "2"))
    assert documents == [one.to_dict() for one in found]


def test_errors_are_one_line_with_the_texts_number(
    path: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, long = path("classes"), "bees " * 80
    assert "text 2: " in (error := complaint(capsys, "classify", file, "x", long)) and "--truncate" in error
    assert "line 3: " in complaint(capsys, "classify", file, stdin=f"x\n\n{long}\n".encode())
    assert "line 2: the text is not UTF-8" in complaint(capsys, "classify", file, stdin=b"x\n\xff\n")
    assert run(capsys, "classify", file, "x", long, "--truncate").count("\n") == 2
    assert "text 1: " in (error := complaint(capsys, "fill-mask", path("masks"), "no mask"))
    assert "it has no mask: write [MASK]" in error
    assert "--truncate" not in complaint(capsys, "fill-mask", path("masks"), f"{long}[MASK]")
    for command in ("classify", "tokens", "fill-mask"):
        assert "no text" in complaint(capsys, command, path({"classify": "classes"}.get(command, "entities")))
    assert "no text" in complaint(capsys, "rank", path("ranks"), "query")
    assert "no text" in complaint(capsys, "answer", path("answers"), "query")
    assert "does not have this verb" in complaint(capsys, "tokens", file, "x")
    (tmp_path / "a.txt").write_text("x\n")
    assert "give one of the two" in complaint(capsys, "classify", file, "x", "-i", str(tmp_path / "a.txt"))
    assert "missing.txt" in complaint(capsys, "classify", file, "-i", str(tmp_path / "missing.txt"))
