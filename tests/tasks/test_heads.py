"""Verbs of heads give what transformers' pipelines gave for the checkpoints in golden/tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
import tokenizers
from edgeformer.converters import convert

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "tasks"
NEAR = 2e-6  # of scores

Open = Callable[[str], edgeformer.Model]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The converted file of a folder, each converted once."""
    scratch = tmp_path_factory.mktemp("tasks")

    def path_of(name: str) -> Path:
        path = scratch / f"{name}.gguf"
        if not path.exists():
            folder = scratch / name
            shutil.copytree(FOLDER / name, folder)
            shutil.copytree(FOLDER / "tokenizers" / expected(name)["tokenizer"], folder, dirs_exist_ok=True)
            convert(folder, path, type="f32")
        return path

    return path_of


@pytest.fixture
def opened(paths: Callable[[str], Path]) -> Any:
    """A function from the folder's name to the model, closed afterwards."""
    models = []

    def open_model(name: str) -> edgeformer.Model:
        models.append(edgeformer.load(paths(name), threads=2))
        return models[-1]

    yield open_model
    for model in models:
        model.close()


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "expected.json").read_text(encoding="utf-8"))


def calls(name: str) -> list[tuple[dict[str, Any], Any]]:
    """Arguments and result of every call of a folder."""
    return [({k: v for k, v in call.items() if k != "result"}, call["result"]) for call in expected(name)["calls"]]


@pytest.mark.parametrize("name", ["classes", "several-labels"])
def test_classes(name: str, opened: Open) -> None:
    model = opened(name)
    for arguments, wanted in calls(name):
        result = model.classify(**arguments)
        assert [scored.label for scored in result.labels] == [scored["label"] for scored in wanted]
        assert [s.score for s in result.labels] == pytest.approx([s["score"] for s in wanted], abs=NEAR)
        assert (result.label, result.score) == (result.labels[0].label, result.labels[0].score)


def test_zero_shot_labels(opened: Open) -> None:
    model = opened("inference")
    for arguments, wanted in calls("inference"):
        result = model.classify(**arguments, truncate="right")
        assert [scored.label for scored in result.labels] == list(wanted)
        assert [scored.score for scored in result.labels] == pytest.approx(list(wanted.values()), abs=NEAR)


@pytest.mark.parametrize("name", ["entities", "entities-byte-level"])
def test_entities(name: str, opened: Open) -> None:
    model = opened(name)
    for arguments, wanted in calls(name):
        text = arguments["text"]
        result = model.tokens(**arguments)
        if "stride" in arguments:  # the pipeline gives a first entity without characters twice
            result = [entity for entity in result if entity.text]
            wanted = [theirs for theirs in wanted if theirs["start"] < theirs["end"]]
        for entity, theirs in zip(result, wanted, strict=True):
            assert entity.label == theirs.get("entity_group", theirs.get("entity"))
            assert entity.score == pytest.approx(theirs["score"], abs=NEAR)
            assert entity.text == text[theirs["start"] : theirs["end"]].strip() == text[entity.start : entity.end]


def test_answers(opened: Open) -> None:
    model = opened("answers")
    for arguments, wanted in calls("answers"):
        result = model.answer(**{"window": model.n_ctx, **arguments})
        assert [span.text for span in result.spans] == [span["answer"] for span in wanted]
        assert [(s.start, s.end) for s in result.spans] == [(s["start"], s["end"]) for s in wanted]
        assert [span.score for span in result.spans] == pytest.approx([span["score"] for span in wanted], abs=NEAR)


@pytest.mark.parametrize("name", ["masks", "masks-byte-level"])
def test_masked_words(name: str, opened: Open) -> None:
    model = opened(name)
    for arguments, wanted in calls(name):
        result = model.fill_mask(**arguments)
        for words, theirs in zip(result.masks, wanted, strict=True):
            assert [word.token_id for word in words] == [word["token"] for word in theirs]
            assert [word.text for word in words] == [word["token_str"].strip() for word in theirs]
            assert [word.score for word in words] == pytest.approx([word["score"] for word in theirs], abs=NEAR)
        if len(wanted) == 1:
            assert result.text == wanted[0][0]["sequence"]


def test_ranks(opened: Open) -> None:
    model = opened("ranks")
    for arguments, wanted in calls("ranks"):
        result = model.rank(**arguments, truncate="right")
        assert [found.index for found in result] == np.argsort(-np.array(wanted), kind="stable").tolist()
        for found in result:
            assert found.score == pytest.approx(wanted[found.index], abs=NEAR)
            assert found.document == arguments["documents"][found.index]


# -- what holds for all of them ---------------------------------------------------------------------------------------


TEXTS = ["Clara flew to Oslo.", "x", "the mill stood still; nobody at Acme Corp. knew"]

BATCHES: list[tuple[str, str, dict[str, Any]]] = [
    ("classes", "classify", {}),
    ("several-labels", "classify", {}),
    ("inference", "classify", {"labels": ["art", "travel"]}),
    ("entities", "tokens", {"aggregation": "average"}),
    ("entities-byte-level", "tokens", {"stride": 5}),
    ("masks", "fill_mask", {}),
]


@pytest.mark.parametrize(("name", "verb", "options"), BATCHES, ids=[f"{name}-{verb}" for name, verb, _ in BATCHES])
def test_a_list_gives_what_each_text_gives_alone(name: str, verb: str, options: dict[str, Any], opened: Open) -> None:
    call = getattr(opened(name), verb)
    texts = [f"{text} [MASK]" for text in TEXTS] if verb == "fill_mask" else TEXTS
    assert call(texts, **options) == [call(text, **options) for text in texts]
    assert call([], **options) == []


def test_answers_of_a_list_are_those_of_each(opened: Open) -> None:
    model = opened("answers")
    questions = ["Who flew?", "What stood still?", "Who knew?"]
    assert model.answer(questions, TEXTS, top_k=2) == [
        model.answer(question, text, top_k=2) for question, text in zip(questions, TEXTS, strict=True)
    ]
    assert model.answer([], []) == []


def test_documents_are_scored_as_each_alone(opened: Open) -> None:
    model = opened("ranks")
    found = model.rank("Who flew?", TEXTS)
    assert sorted(one.index for one in found) == [0, 1, 2]
    for one in found:
        assert one.score == model.rank("Who flew?", [one.document])[0].score
    assert model.rank("Who flew?", TEXTS, top_k=2) == found[:2]
    assert model.rank("Who flew?", []) == []


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("classes", {"classify"}),
        ("inference", {"classify"}),
        ("ranks", {"classify", "rank"}),
        ("entities", {"tokens"}),
        ("answers", {"answer"}),
        ("masks", {"fill_mask", "encode", "similarity"}),
    ],
)
def test_a_verb_is_there_where_the_head_is(name: str, there: set[str], opened: Open) -> None:
    model = opened(name)
    heads = {"classify", "rank", "tokens", "answer", "fill_mask", "encode", "similarity"}
    assert heads & set(model.verbs) == there
    for verb in heads - there:
        with pytest.raises(edgeformer.UnsupportedModelError, match=f"{verb}: an encoder .* does not have this verb"):
            getattr(model, verb)("a", "b") if verb in ("rank", "answer", "similarity") else getattr(model, verb)("a")


def test_results_are_records(opened: Open) -> None:
    result = opened("classes").classify("x", top_k=2)
    assert result["label"] == result.label == opened("classes").labels[{"bad": 0, "fair": 1, "good": 2}[result.label]]
    assert len(result["labels"]) == 2
    assert json.loads(json.dumps(result.to_dict()))["labels"][0] == {"label": result.label, "score": result.score}
    assert repr(result).startswith("Classification(label=")


def test_texts_that_do_not_fit_raise_unless_they_may_be_cut(opened: Open) -> None:
    long = "bees " * 80
    with pytest.raises(edgeformer.ContextOverflowError) as caught:
        opened("classes").classify(["x", long])
    assert (caught.value.available, caught.value.truncate) == (64, "right")
    for call in (
        lambda **options: opened("inference").classify(long, labels=["art"], **options),
        lambda **options: opened("entities").tokens(long, **options),
        lambda **options: opened("ranks").rank("Who?", [long], **options),
    ):
        with pytest.raises(edgeformer.ContextOverflowError):
            call()
        assert call(truncate="right")
    with pytest.raises(edgeformer.ContextOverflowError):
        opened("masks").fill_mask(long + "[MASK]")
    assert opened("answers").answer("Who?", long).text
    with pytest.raises(edgeformer.InvalidOptionError, match=r"a window has room for 0 tokens"):
        opened("answers").answer(long, "Bees.")


def test_an_answer_may_be_that_there_is_none(opened: Open) -> None:
    spans = opened("answers").answer("Who?", "Bees live.", top_k=100, impossible=True).spans
    assert [(span.start, span.end) for span in spans if not span.text] == [(0, 0)]
    assert all(span.text == "Bees live."[span.start : span.end] for span in spans)


def test_words_may_be_chosen_from(opened: Open) -> None:
    model = opened("masks")
    every = {word.text: word.score for word in model.fill_mask("the [MASK] stood", top_k=500).words}
    names = sorted(text for text in every if text.isalpha())[:2]
    chosen = model.fill_mask("the [MASK] stood", targets=[*names, names[0]]).words
    assert {word.text: word.score for word in chosen} == {name: every[name] for name in names}


WRONG: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str]] = [
    ("classes", "classify", ("x",), {"labels": ["a"]}, "a class 'entailment' is needed, .* are bad, fair"),
    ("classes", "classify", ("x",), {"top_k": 0}, "top_k"),
    ("classes", "classify", ("x",), {"truncate": "left"}, "truncate"),
    ("classes", "classify", (["x", "y"],), {"text_pair": ["z"]}, "text_pair: 1 texts for 2"),
    ("classes", "classify", (["x", 7],), {}, r"text\[1\]"),
    ("classes", "classify", ([1, 10**6],), {}, "10+"),
    ("inference", "classify", ("x",), {"labels": []}, "labels"),
    ("inference", "classify", ("x",), {"labels": "art"}, "labels"),
    ("inference", "classify", ("x",), {"labels": ["a"], "hypothesis_template": "no place"}, "hypothesis_template"),
    ("inference", "classify", ("x",), {"labels": ["a"], "text_pair": "y"}, "text_pair"),
    ("ranks", "rank", ("x", "y"), {}, "documents: a list"),
    ("ranks", "rank", (3, ["y"]), {}, "a str is needed"),
    ("entities", "tokens", ("x",), {"aggregation": "last"}, "simple, first, average, max, none"),
    ("entities", "tokens", ("x",), {"stride": 3, "truncate": "right"}, "contradict"),
    ("entities", "tokens", ("x",), {"stride": 3, "aggregation": "none"}, "stride"),
    ("entities", "tokens", ("x",), {"stride": 64}, "stride"),
    ("entities", "tokens", ("x",), {"ignore_labels": "O"}, "ignore_labels"),
    ("entities", "tokens", ([1, 2],), {}, "a str is needed"),
    ("answers", "answer", ("x", ""), {}, r"context\[0\]: it has no tokens"),
    ("answers", "answer", (["x"], ["y", "z"]), {}, "context: 2 for 1 questions"),
    ("answers", "answer", ("x", "y"), {"window": 65}, "window"),
    ("masks", "fill_mask", ("x",), {}, r"text\[0\]: it has no mask: write \[MASK\]"),
    ("masks", "fill_mask", ("[MASK]",), {"targets": ["no such word at all"]}, "not one token"),
    ("masks", "fill_mask", ("[MASK]",), {"targets": "river"}, "targets"),
]


@pytest.mark.parametrize(("name", "verb", "arguments", "options", "message"), WRONG)
def test_what_is_wrong_is_named(
    name: str, verb: str, arguments: tuple[Any, ...], options: dict[str, Any], message: str, opened: Open
) -> None:
    with pytest.raises(edgeformer.EdgeformerError, match=message) as caught:
        getattr(opened(name), verb)(*arguments, **options)
    kinds = (edgeformer.InvalidInputError, edgeformer.InvalidOptionError, edgeformer.UnsupportedModelError)
    assert isinstance(caught.value, kinds)


def test_similarity_is_the_cosine_of_the_vectors(opened: Open) -> None:
    model = opened("masks")
    vectors = model.encode(TEXTS).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert model.similarity(TEXTS, TEXTS[:2]) == pytest.approx(unit @ unit[:2].T, abs=1e-6)
    assert model.similarity("x", "x").shape == (1, 1)
    with pytest.raises(edgeformer.InvalidOptionError, match="normalize_embeddings"):
        model.similarity("x", "x", normalize_embeddings=False)


@pytest.mark.parametrize("folder", sorted((FOLDER.parent / "sentences").iterdir()), ids=lambda folder: folder.name)
def test_vectors_are_those_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    wanted = json.loads((folder / "expected.json").read_text())
    with edgeformer.load(convert(folder, tmp_path / "out.gguf", type="f32").path, threads=2) as model:
        for call in wanted["calls"]:
            vectors = model.encode(wanted["texts"], prompt_name=call["prompt_name"], truncate="right")
            assert vectors == pytest.approx(np.array(call["vectors"]), abs=1e-5)


def test_an_encoder_decoder_that_tells_classes_reads_hypotheses(tmp_path: Path) -> None:
    """BART's: the model of most zero-shot pipelines."""
    folder = tmp_path / "bart"
    shutil.copytree(FOLDER.parent / "bart-classes", folder)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz ."]
    library = tokenizers.Tokenizer(tokenizers.models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>"))
    library.add_special_tokens(pieces[:4])
    library.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    library.save(str(folder / "tokenizer.json"))
    with edgeformer.load(convert(folder, tmp_path / "out.gguf", type="f32").path, threads=1, kv_type="f32") as model:
        assert "classify" in model.verbs and "generate" not in model.verbs
        result = model.classify(["a cat.", "the sun"], labels=["an animal", "a star"])
        pair = model.classify("a cat.", text_pair="This example is an animal.")
        ids, _ = model.tokenizer.encode_pair("a cat.", "This example is an animal.")
        assert pair == model.classify(ids)
        assert sum(scored.score for scored in result[0].labels) == pytest.approx(1)
        many = model.classify([ids] * 70)  # more than the caches hold at a time
    assert many == [pair] * 70


def test_loading_makes_no_classes_of_results(paths: Callable[[str], Path]) -> None:
    program = "import sys, edgeformer as e; e.load(sys.argv[1]); assert 'edgeformer.tasks.results' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, str(paths("classes"))], check=True)
