"""`translate` and `summarize` of texts of any length, through a second model, with the settings of tasks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import edgeformer
import pytest
from edgeformer.converters import convert
from edgeformer.errors import (
    ContextOverflowError,
    InvalidInputError,
    InvalidOptionError,
    MissingDependencyError,
    ModelFormatError,
)
from edgeformer.text.task_settings import TaskSettings
from golden import cases

SPM = cases.FOLDER / "sentencepiece" / "unigram.model"
TASKS = {
    "summarization": {"prefix": "read the: ", "num_beams": 3, "length_penalty": 2.0, "max_length": 9, "min_length": 4,
                      "no_repeat_ngram_size": 2, "early_stopping": True},
    "translation_en_to_de": {"prefix": "three: ", "max_length": 300},
}  # fmt: skip
TEXT = "  The sea. These kings sang!\n\n\tAt sea.\nThen rest"


def load(folder: Path, name: str, settings: dict[str, Any], model: str, **config: Any) -> edgeformer.Model:
    source = Path(shutil.copytree(cases.FOLDER / name, folder / name))
    shutil.copy(SPM, source / model)
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    known = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**known, **config}))
    nothing = [0, 1, 2, 3, *range(30, known["vocab_size"])]  # so that every token is text
    start = known["decoder_start_token_id"]
    generation = {"decoder_start_token_id": start, "suppress_tokens": nothing, "no_repeat_ngram_size": 1}
    (source / "generation_config.json").write_text(json.dumps(generation))
    return edgeformer.load(convert(source, folder / f"{name}.gguf", type="f32").path, threads=1, kv_type="f32")


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory):
    codes = ["deu_Latn", "eng_Latn", "fra_Latn"]
    settings = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": codes}
    with load(tmp_path_factory.mktemp("nllb"), "m2m100-fairseq", settings, "sentencepiece.bpe.model") as model:
        yield model


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory):
    settings, more = {"tokenizer_class": "T5Tokenizer"}, {"task_specific_params": TASKS, "n_positions": 24}
    with load(tmp_path_factory.mktemp("t5"), "t5-relu-scaled", settings, "spiece.model", **more) as model:
        yield model


def one(model: edgeformer.Model, text: str, **options: Any) -> str:
    return model.generate(text, max_tokens=6, **options).text


def test_a_model_of_sentences_gets_sentences(nllb) -> None:
    found = nllb.translate(TEXT, max_tokens=6)
    sea, kings, at, rest = (one(nllb, part) for part in ("The sea.", "These kings sang!", "At sea.", "Then rest"))
    assert found == f"  {sea} {kings}\n\n\t{at}\n{rest}"
    assert nllb.translate([TEXT, "At sea."], max_tokens=6) == [found, at]
    assert nllb.translate(TEXT, max_tokens=6, split=False) == one(nllb, TEXT)


def test_other_models_get_a_text_whole_if_it_fits(t5) -> None:
    short = "The sea. At sea."
    assert t5.translate(short, max_tokens=6) == one(t5, short)
    parts = [one(t5, part) for part in ("The sea.", "At sea.")]
    assert t5.translate(short, max_tokens=6, split=True) == " ".join(filter(None, parts))
    long = " ".join([short] * 8)
    assert t5.translate(long, max_tokens=6) == " ".join(filter(None, parts * 8))
    with pytest.raises(ContextOverflowError):
        t5.translate(long, max_tokens=6, split=False)
    endless = "thekings" * 40
    assert t5.translate(endless, max_tokens=6)


def test_token_ids_are_never_split(nllb) -> None:
    ids = [nllb.tokenize("The sea. At sea."), nllb.tokenize("At sea.")]
    assert nllb.translate(ids, max_tokens=6) == [result.text for result in nllb.generate(ids, max_tokens=6)]


def test_a_prefix_stands_before_every_sentence(t5) -> None:
    found = t5.translate("The sea. At sea.", split=True, prefix="kings: ", max_tokens=6)
    assert found == " ".join(one(t5, f"kings: {part}") for part in ("The sea.", "At sea."))
    named = t5.translate("The sea.", source_language="en", target_language="de", max_tokens=6)
    assert named == one(t5, "three: The sea.")
    with pytest.raises(InvalidOptionError, match="names no languages"):
        t5.translate("The sea.", source_language="en", target_language="fr")


def test_a_prefix_of_the_target_is_part_of_the_translation(nllb) -> None:
    front = nllb.target_tokenizer.encode("kings", add_special_tokens=False)
    ids = nllb.generate("At sea", target_prefix="kings", max_tokens=4).token_ids
    found = nllb.translate("At sea", target_prefix="kings", max_tokens=4, split=False)
    assert found == nllb.target_tokenizer.decode([*front, *ids])
    assert found.startswith("kings")
    with pytest.raises(InvalidOptionError, match="several targets: give split=False"):
        nllb.translate(TEXT, target_prefix="kings")


def test_a_translation_goes_through_a_second_model(nllb, t5) -> None:
    between = nllb.translate(TEXT, source_language="deu_Latn", target_language="eng_Latn", max_tokens=6, num_beams=2)
    options = {"source_language": "deu_Latn", "pivot_language": "eng_Latn", "target_language": "fra_Latn"}
    found = nllb.translate(TEXT, through=nllb, max_tokens=6, num_beams=2, **options)
    languages = {"source_language": "eng_Latn", "target_language": "fra_Latn"}
    assert found == nllb.translate(between, max_tokens=6, num_beams=2, **languages)
    lists = nllb.translate([TEXT], through=t5, max_tokens=6)
    assert lists == t5.translate(nllb.translate([TEXT], max_tokens=6), max_tokens=6)


@pytest.mark.parametrize(("options", "message"), [
    ({"through": 3}, "through: a model is needed, not 3"),
    ({"pivot_language": "eng_Latn"}, "give the second model as through"),
    ({"split": "yes"}, "split: True, False or None"),
    ({"n": 2}, "has no option 'n'"),
])  # fmt: skip
def test_what_is_wrong_is_named(nllb, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        nllb.translate("the sea", **options)


def test_a_pivot_has_one_target(nllb) -> None:
    with pytest.raises(InvalidOptionError, match="there are two targets"):
        nllb.translate("the sea", through=nllb, target_prefix="kings")
    with pytest.raises(InvalidOptionError, match="adapter cannot be combined with through"):
        nllb.translate("the sea", through=nllb, adapter=object())


def test_the_extra_is_named_where_the_splitter_is_missing(nllb, t5, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(MissingDependencyError, match=r"edgeformer\[text\].*or give split=False"):
        nllb.translate(TEXT)
    assert nllb.translate("At sea", split=False, max_tokens=6) == one(nllb, "At sea")
    assert t5.translate("The sea. At sea.", max_tokens=6) == one(t5, "The sea. At sea.")


def test_a_summary_follows_the_settings_of_its_task(t5) -> None:
    settings = {"num_beams": 3, "length_penalty": 2.0, "no_repeat_ngram_size": 2}
    text = "read the: The sea. At sea."
    found = t5.summarize("The sea. At sea.")
    assert found == t5.generate(text, **settings, max_tokens=8, min_tokens=3).text
    assert t5.summarize(["The sea. At sea."], num_beams=1) == [
        t5.generate(text, num_beams=1, no_repeat_ngram_size=2, max_tokens=8, min_tokens=3).text
    ]
    assert t5.summarize("The sea. At sea.", max_tokens=5) == t5.generate(text, **settings, max_tokens=5).text
    plain = t5.generate("The sea. At sea.", **settings, max_tokens=8, min_tokens=3).text
    assert t5.summarize("The sea. At sea.", prefix="") == plain
    sampled = t5.summarize("The sea.", temperature=0.9, seed=3, max_tokens=5)
    assert sampled == t5.generate(
        "read the: The sea.", temperature=0.9, seed=3, max_tokens=5, no_repeat_ngram_size=2
    ).text  # fmt: skip


def test_a_long_text_is_summarized_in_parts_of_whole_sentences(t5) -> None:
    text = "The kings sang. At sea.\nThree seats. The rest read."
    assert len(t5.tokenize("read the: " + text)) > t5.n_ctx
    parts = t5._parts(t5.session, text, "read the: ", {})
    assert 1 < len(parts) < 4
    assert " ".join(parts).split() == text.split()
    assert t5.summarize(text) == " ".join(t5.summarize(part).strip() for part in parts)
    with pytest.raises(InvalidInputError, match="generate\\(\\) takes token ids"):
        t5.summarize([[3, 4]])


@pytest.mark.parametrize("text", ["3", "[]", '{"tasks": [1]}', '{"tasks": {"a": 3}}', '{"sentences": 1}',
                                  '{"tasks": {"a": {"num_beams": 0}}}', '{"tasks": {"a": {"prefix": 5}}}'])  # fmt: skip
def test_damaged_tasks_are_named(text: str) -> None:
    with pytest.raises(ModelFormatError, match=r"general\.tasks\.json"):
        TaskSettings.from_metadata({"general.tasks.json": text}, "model.gguf")
    with pytest.raises(ModelFormatError, match="is not a string"):
        TaskSettings.from_metadata({"general.tasks.json": 3}, "model.gguf")


def test_a_checkpoint_with_damaged_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(edgeformer.ConversionError, match="task_specific_params: num_beams"):
        load(tmp_path, "t5-relu-scaled", {}, "spiece.model", task_specific_params={"a": {"num_beams": -1}})
