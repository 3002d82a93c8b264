"""Figures of quality against their definitions, and models over labelled data whose answers are known."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.cli import main
from edgeformer.converters import convert
from edgeformer.errors import EdgeformerError, InvalidInputError, InvalidOptionError, UnsupportedModelError
from edgeformer.tools.demo import CHECKPOINT, samples
from edgeformer.tools.evaluation import Evaluation, evaluate
from edgeformer.tools.evaluation.data import read_rows
from edgeformer.tools.evaluation.metrics import (
    average_ranks,
    confusion_of,
    pearson,
    spearman,
    translation_figures,
)
from edgeformer.tools.evaluation.pictures import draw
from support.bigram import BOS, VOCABULARY, FakeSession, model_of

GOLDEN = Path(__file__).parents[1] / "golden" / "tasks"
TABLE = np.random.default_rng(7).normal(0, 2, (VOCABULARY, VOCABULARY)).astype(np.float32)


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("dates") / "dates.gguf"
    convert(CHECKPOINT, path, type="q4_0")
    return str(path)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, str]]]:
    """A model of classes, and texts with the labels that transformers gave them."""
    folder = tmp_path_factory.mktemp("classes")
    shutil.copytree(GOLDEN / "classes", folder / "model")
    expected = json.loads((GOLDEN / "classes" / "expected.json").read_text())
    shutil.copytree(GOLDEN / "tokenizers" / expected["tokenizer"], folder / "model", dirs_exist_ok=True)
    convert(folder / "model", folder / "classes.gguf", type="f32")
    calls = [call for call in expected["calls"] if isinstance(call["text"], str) and call.keys() == {"text", "result"}]
    rows = [{"text": call["text"], "label": call["result"][0]["label"]} for call in calls]
    assert len(rows) >= 3
    return str(folder / "classes.gguf"), rows


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Any], str]:
    """Makes a path under which a given model is loaded."""

    def loads(model: Any) -> str:
        path = tmp_path / "known.gguf"
        path.write_bytes(b"x" * 1234)
        monkeypatch.setattr("edgeformer.tools.evaluation.run.load", lambda *_, **__: model)
        return str(path)

    return loads


def test_ranks_share_their_mean() -> None:
    assert average_ranks([3, 1, 3, 2, 3]).tolist() == [4, 1, 4, 2, 4]
    assert average_ranks([0.5]).tolist() == [1]


def test_correlations_are_those_of_numpy_and_of_the_formula_of_ranks() -> None:
    x, y = np.random.default_rng(3).normal(0, 1, (2, 40))
    assert math.isclose(pearson(x, y), np.corrcoef(x, y)[0, 1])
    differences = x.argsort().argsort() - y.argsort().argsort()  # no two are equal
    assert math.isclose(spearman(x, y), 1 - 6 * (differences**2).sum() / (40 * (40**2 - 1)))
    assert math.isclose(spearman(x, np.exp(x)), 1)
    for wrong in ([1, 1, 1], [2]):
        with pytest.raises(InvalidInputError, match="a correlation needs"):
            pearson(wrong, wrong)


def test_confusion_and_the_figures_of_classes() -> None:
    confusion = confusion_of(list("aabbcd"), list("abbbca"), list("abcx"))
    assert confusion.labels == ["a", "b", "c", "x", "d"]
    assert confusion.counts == [[1, 1, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]
    assert confusion.accuracy == 4 / 6
    shown = {entry.label: (entry.precision, entry.recall, entry.f1, entry.support) for entry in confusion.classes()}
    assert shown["a"] == (0.5, 0.5, 0.5, 2)
    assert shown["b"] == (2 / 3, 1.0, 0.8, 2)
    assert shown["x"] == (0.0, 0.0, 0.0, 0) and shown["d"] == (0.0, 0.0, 0.0, 1)


def test_bleu_is_its_definition() -> None:
    pytest.importorskip("sacrebleu")
    found, references = ["the cat sat on the mat today"], ["the cat sat on a mat today"]
    shares = [6 / 7, 4 / 6, 2 / 5, 1 / 4]  # n-grams of one to four words; both have seven
    figures = translation_figures(found, references)
    assert math.isclose(figures["bleu"], 100 * math.prod(shares) ** 0.25, rel_tol=1e-6)
    assert figures["exact"] == 0 and 0 < figures["chrf"] < 100
    assert translation_figures(references, references) == pytest.approx({"bleu": 100, "chrf": 100, "exact": 1})


def test_the_loss_of_a_decoder_is_that_of_its_table(loads: Callable[[Any], str]) -> None:
    path = loads(model_of(FakeSession(TABLE, n_ctx=40)))
    texts = ["abcdefg" * 20, "x"]
    found = evaluate(path, [{"text": text} for text in texts], "generate")
    table = TABLE.astype(np.float64)
    log_probs = table - np.log(np.exp(table).sum(1, keepdims=True))
    losses = []
    for text in texts:
        ids = [BOS, *text.encode()]
        losses += [-log_probs[before, after] for before, after in itertools.pairwise(ids)]
    assert math.isclose(found.figures["loss"], np.mean(losses), rel_tol=1e-6)
    assert math.isclose(found.figures["perplexity"], math.exp(np.mean(losses)), rel_tol=1e-5)
    assert (found.figures["tokens"], found.items, found.primary) == (len(losses), 2, "loss")
    assert found.file_bytes == 1234 and found.ms_per_item > 0 and found.gap is None


def test_the_loss_of_a_trained_model_is_torchs(test_models: Path) -> None:
    folder = test_models / "shakespeare-llama-5m"
    expected = json.loads((folder / "expected.json").read_text())
    text = test_models / "text" / "shakespeare-valid.txt"
    found = evaluate(folder, text, "generate", n_ctx=256, kv_type="f32")
    # torch's is of whole windows alone; the rest of the text is less than half of one.
    assert math.isclose(found.figures["loss"], expected["validation_loss"], rel_tol=1e-3)


def test_translations_and_the_gap_to_the_checkpoint(dates: str) -> None:
    pytest.importorskip("sacrebleu")
    rows = [{"source": source, "target": target} for source, target in samples()[:12]]
    rows[0]["target"] = "1000-01-01"  # one that is wrong
    found = evaluate(dates, rows, "translate", reference=CHECKPOINT, options={"num_beams": 2})
    assert found.figures["exact"] == 11 / 12
    assert found.gap == pytest.approx(0, abs=20)
    again = evaluate(dates, rows, "translate", reference=found)
    assert again.gap == again.figures["chrf"] - found.figures["chrf"]
    with pytest.raises(InvalidOptionError, match="evaluation of something else"):
        evaluate(dates, rows[:5], "translate", reference=found)


def test_pairs_are_compared_by_their_cosines(loads: Callable[[Any], str]) -> None:
    class Vectors:
        def __enter__(self) -> Vectors:
            return self

        def __exit__(self, *_: object) -> None: ...

        def encode(self, texts: list[str], **options: Any) -> np.ndarray:
            assert options == {"prompt_name": "query"}
            return np.array([[math.cos(len(text)), math.sin(len(text))] for text in texts]) * 5

    rows = [
        {"sentence1": "a" * n, "sentence2": "b", "score": str(score)} for n, score in ((1, 5), (2, 3), (3, 4), (4, 0))
    ]
    found = evaluate(loads(Vectors()), rows, "encode", options={"prompt_name": "query"})
    cosines = [math.cos(n - 1) for n in (1, 2, 3, 4)]
    assert math.isclose(found.figures["spearman"], 0.8)
    assert math.isclose(found.figures["pearson"], np.corrcoef(cosines, [5, 3, 4, 0])[0, 1])
    with pytest.raises(InvalidInputError, match=r"data\[0\]: the score 'good' is no number"):
        evaluate(loads(Vectors()), [{**rows[0], "score": "good"}], "encode")


def test_classes_by_name_and_by_number(classes: tuple[str, list[dict[str, str]]]) -> None:
    path, rows = classes
    found = evaluate(path, rows, "classify")
    assert found.figures == pytest.approx({"accuracy": 1, "precision": 1, "recall": 1, "f1": 1})
    assert found.confusion is not None and sum(map(sum, found.confusion.counts)) == len(rows)
    labels = found.confusion.labels
    wrong = [dict(row) for row in rows]
    wrong[0]["label"] = next(label for label in labels if label != rows[0]["label"])
    numbered = [{"review": row["text"], "label": labels.index(row["label"])} for row in wrong]
    again = evaluate(path, numbered, "classify", columns={"text": "review"}, reference=found)
    assert math.isclose(again.figures["accuracy"], 1 - 1 / len(rows))
    assert again.gap is not None and math.isclose(again.gap, -1 / len(rows))
    for label in ("nothing", 99, 0.5, True):
        with pytest.raises(InvalidInputError, match=r"data\[0\]: the label .* is not one of the model's"):
            evaluate(path, [{"text": "x", "label": label}], "classify")


def test_a_model_without_the_verb_is_named(dates: str) -> None:
    with pytest.raises(UnsupportedModelError, match="classify"):
        evaluate(dates, [{"text": "x", "label": "y"}], "classify")
    with pytest.raises(InvalidInputError, match="with decoders alone"):
        evaluate(dates, [{"text": "xyz"}], "generate")
    with pytest.raises(InvalidOptionError, match="task: generate, translate, encode, classify are possible"):
        evaluate(dates, [], "rank")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_data_of_every_format(kind: str, tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"\nc', "label": "x", "more": "1"}, {"text": "d\té", "label": "y", "more": "2"}]
    path = tmp_path / f"data.{kind}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    read = read_rows(path, "classify", None, None)
    assert [(row["text"], row["label"]) for row in read] == [(row["text"], row["label"]) for row in rows]
    assert str(path) in read[1]["place"]
    assert len(read_rows(path, "classify", {"text": "more"}, 1)) == 1
    assert read_rows(path, "classify", {"text": "more"}, 1)[0]["text"] == "1"


def test_a_text_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one\ntwo\n")
    assert [row["text"] for row in read_rows(tmp_path / "text.txt", "generate", None, None)] == ["one\ntwo\n"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.csv", b"text,kind\na,b\n", "line 2: no 'label' for classify; it has text, kind"),
        ("data.csv", b"text,label\na\n", "no 'label'"),
        ("data.csv", b"", "there are no rows"),
        ("data.csv", b'text,label\n"a,b\n', "unexpected end of data"),
        ("data.csv", b"text,label\n\xff,b\n", "is not UTF-8"),
        ("data.jsonl", b'{"text": "a"', "line 1: no JSON"),
        ("data.jsonl", b"[1]\n", "line 1: an object is needed"),
        ("data.jsonl", b'{"text": 5, "label": "x"}\n', "no 'text'"),
        ("data.xlsx", b"", "data come as .csv"),
        (None, b"", "No such file"),
    ],
)
def test_damaged_data_are_named(name: str | None, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / (name or "data.csv")
    if name is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=words):
        read_rows(path, "classify", None, None)


def test_columns_that_a_task_does_not_have_are_named() -> None:
    with pytest.raises(InvalidOptionError, match="classify has text, label, text_pair, not 'score'"):
        read_rows([{"text": "a"}], "classify", {"score": "x"}, None)


def evaluations() -> list[Evaluation]:
    confusion = confusion_of(list("aab"), list("aba"), list("ab"))
    given = confusion.classes(), confusion
    return [
        Evaluation(f"m/{name}.gguf", "classify", 3, {"accuracy": 1 / 3}, "accuracy", 1.5, size, None, *given)
        for name, size in (("one", 10**6), ("two", 2 * 10**6))
    ]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(evaluations(), tmp_path / "picture.svg")
    svg = (tmp_path / "picture.svg").read_text()
    assert svg.count('id="axes_') == 4 and "<svg" in svg
    with pytest.raises(InvalidInputError, match=r"picture\.odd"):
        draw(evaluations(), tmp_path / "picture.odd")
    with pytest.raises(EdgeformerError, match="no evaluations"):
        draw([], tmp_path / "picture.svg")


def test_the_command_compares_files(
    classes: tuple[str, list[dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    path, rows = classes
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"t": row["text"], "label": row["label"]}) + "\n" for row in rows))
    command = ["evaluate", path, "--task", "classify", "--data", str(data), "--column", "text=t", "--float", path]
    assert main([*command, "--json"]) == 0
    reference, found = json.loads(capsys.readouterr().out)
    assert (reference["gap"], found["gap"]) == (None, 0.0)
    assert found["figures"]["accuracy"] == 1 and found["classes"][0]["support"] >= 0
    picture = tmp_path / "picture.png"
    assert main([*command, "--limit", "2", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "2 items; the gap is of accuracy" in out and "what is there, and what was found" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", path, "--task", "classify", "--data", str(data), "--column", "text"]) == 1
    assert "NAME=COLUMN" in capsys.readouterr().err
