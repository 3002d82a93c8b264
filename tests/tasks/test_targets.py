"""Encoder-decoders: languages, prefixes of targets, where they looked, and how long their texts may be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import InvalidOptionError
from golden import cases

SPM = cases.FOLDER / "sentencepiece" / "unigram.model"
SOURCE = [11, 5, 23, 8, 40]


def converted(folder: Path, tokenizer: str, codes: list[str], **generation: Any) -> Path:
    """The golden M2M-100 with a vocabulary in the form of a family that knows languages."""
    source = Path(shutil.copytree(cases.FOLDER / "m2m100-fairseq", folder / "model"))
    shutil.copy(SPM, source / "sentencepiece.bpe.model")
    settings = {"tokenizer_class": tokenizer, "additional_special_tokens": codes, "src_lang": codes[1]}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    if generation:
        (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **generation}))
    return Path(convert(source, folder / "model.gguf", type="f32").path)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory):
    path = converted(tmp_path_factory.mktemp("nllb"), "NllbTokenizer", ["deu_Latn", "eng_Latn", "fra_Latn"])
    with edgeformer.load(path, threads=1, kv_type="f32") as model:
        yield model


@pytest.fixture(scope="module")
def mbart(tmp_path_factory: pytest.TempPathFactory):
    path = converted(tmp_path_factory.mktemp("mbart"), "MBartTokenizer", ["de_DE", "en_XX", "fr_XX"])
    with edgeformer.load(path, threads=1, kv_type="f32") as model:
        yield model


def code(model: edgeformer.Model, name: str) -> int:
    assert model.tokenizer is not None
    return next(token for token in range(model.vocab_size) if model.tokenizer.token(token) == name)


def following(model: edgeformer.Model, source: list[int], start: list[int], count: int) -> list[int]:
    """The greedy path after `start`, from the logits of whole targets."""
    target = list(start)
    while len(target) < len(start) + count:
        token = int(model.logits(source, target)[-1].argmax())
        if token == 2:
            break
        target.append(token)
    return target[len(start) :]


def test_languages_stand_before_the_source_and_after_the_start(nllb) -> None:
    plain = nllb.tokenizer.encode("the sea", add_special_tokens=False)
    german, french = code(nllb, "deu_Latn"), code(nllb, "fra_Latn")
    found = nllb.generate("the sea", source_language="deu_Latn", target_language="fra_Latn", max_tokens=6)
    assert found.token_ids == following(nllb, [german, *plain, 2], [2, french], 6)
    default = nllb.generate("the sea", target_language="fra_Latn", max_tokens=6)
    assert default.token_ids == following(nllb, [code(nllb, "eng_Latn"), *plain, 2], [2, french], 6)


def test_languages_stand_after_the_source_and_in_place_of_the_start(mbart) -> None:
    plain = mbart.tokenizer.encode("the sea", add_special_tokens=False)
    german, french = code(mbart, "de_DE"), code(mbart, "fr_XX")
    found = mbart.generate(["the sea", "kings"], source_language="de_DE", target_language="fr_XX", max_tokens=6)
    assert found[0].token_ids == following(mbart, [*plain, 2, german], [french], 6)


def test_marians_target_language_stands_before_the_source(tmp_path: Path) -> None:
    source = Path(shutil.copytree(cases.FOLDER / "m2m100-fairseq", tmp_path / "model"))
    for name in ("source.spm", "target.spm", "vocab.json", "tokenizer_config.json"):
        shutil.copy(cases.FOLDER / "translation" / "marian" / name, source / name)
    with edgeformer.load(convert(source, tmp_path / "model.gguf", type="f32").path, threads=1) as model:
        ids = [code(model, ">>fra<<"), *model.tokenize("kings")]
        found = model.generate("kings", target_language="fra", max_tokens=5)
        assert found.token_ids == model.generate(ids, max_tokens=5).token_ids
        assert found.token_ids == model.generate(">>fra<< kings", max_tokens=5).token_ids
        with pytest.raises(InvalidOptionError, match="not told its sources' language"):
            model.generate("kings", source_language="fra")


@pytest.mark.parametrize(("prompt", "options", "message"), [
    ("the", {"target_language": "fr"}, "target_language: the model has no language 'fr' among its 3"),
    ("the", {"source_language": "x", "target_language": "fra_Latn"}, "source_language"),
    ([5, 6], {"source_language": "deu_Latn"}, "token ids are used as they are"),
    (["the", "sea"], {"target_prefix": ["a"]}, "1 prefixes for 2 prompts"),
    ("the", {"coverage_penalty": 0.2}, "coverage_penalty needs num_beams > 1"),
    ("the", {"early_stopping": False}, "early_stopping needs num_beams > 1"),
    ("the", {"early_stopping": "now", "num_beams": 2}, "True, False or 'never'"),
    ("the", {"logprobs": 3, "num_beams": 2}, "logprobs=3 cannot be combined with beams"),
    ("the", {"attention": 1}, "attention: True or False"),
])  # fmt: skip
def test_what_is_wrong_is_named(nllb, prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        nllb.generate(prompt, max_tokens=3, **options)


@pytest.mark.parametrize("option", [{"target_prefix": "a"}, {"target_language": "fr"}, {"attention": True}])
def test_a_decoder_has_no_target(tmp_path: Path, option: dict[str, Any]) -> None:
    path = convert(cases.FOLDER / "gpt2-tied", tmp_path / "model.gguf", type="f32").path
    message = "only an encoder-decoder has sources and targets"
    with edgeformer.load(path, threads=1) as model, pytest.raises(InvalidOptionError, match=message):
        model.generate([3, 4], **option)


def test_a_model_without_languages_says_so(tmp_path: Path) -> None:
    path = convert(cases.FOLDER / "bart-learned", tmp_path / "model.gguf", type="f32").path
    message = "the model's file names no languages"
    with edgeformer.load(path, threads=1) as model, pytest.raises(InvalidOptionError, match=message):
        model.generate([3, 4], target_language="fra")


def test_targets_go_on_after_their_prefixes(nllb) -> None:
    prefixes = [[7, 9], [12]]
    found = nllb.generate([SOURCE, SOURCE[:2]], target_prefix=prefixes, max_tokens=5)
    pairs = zip([SOURCE, SOURCE[:2]], prefixes, strict=True)
    assert [result.token_ids for result in found] == [following(nllb, s, [2, *prefix], 5) for s, prefix in pairs]
    text = nllb.generate(SOURCE, target_prefix="the", max_tokens=5)
    ids = nllb.target_tokenizer.encode("the", add_special_tokens=False)
    assert text.token_ids == nllb.generate([SOURCE], target_prefix=ids, max_tokens=5)[0].token_ids


@pytest.mark.parametrize("beams", [1, 3])
def test_attention_says_where_each_token_came_from(nllb, beams: int) -> None:
    found = nllb.generate(SOURCE, num_beams=beams, max_tokens=6, attention=True, target_prefix=[7])
    weights = nllb.attention_weights(SOURCE, [2, 7, *found.token_ids])[-1]
    rows = weights.mean(0)[1 : 1 + len(found.token_ids)]
    np.testing.assert_array_equal(np.array(found.attention, np.float32), rows)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
    assert found.alignments == list(enumerate(rows.argmax(1).tolist()))
    for beam in found.hypotheses or ():
        assert len(beam.attention) == len(beam.token_ids)
    assert json.dumps(found.to_dict())
    assert nllb.generate(SOURCE, max_tokens=2).attention is None


def test_coverage_ranks_what_looked_at_all_of_the_source(nllb) -> None:
    plain = nllb.generate(SOURCE, num_beams=4, max_tokens=6)
    covered = nllb.generate(SOURCE, num_beams=4, max_tokens=6, coverage_penalty=3.0)
    wanted = {}
    for beam in plain.hypotheses:
        rows = nllb.attention_weights(SOURCE, [2, *beam.token_ids])[-1].mean(0).astype(np.float64)
        length = len(beam.token_ids) + (beam.finish_reason == "stop")
        lost = 3.0 * np.log(np.minimum(rows[:length].sum(0), 1)).sum()
        wanted[tuple(beam.token_ids)] = beam.score + lost
    scores = {tuple(beam.token_ids): beam.score for beam in covered.hypotheses}
    assert scores == pytest.approx(wanted)
    assert [*scores] == sorted(scores, key=scores.__getitem__, reverse=True)


def test_hypotheses_have_the_log_probabilities_of_their_tokens(nllb) -> None:
    found = nllb.generate(SOURCE, num_beams=3, max_tokens=6, logprobs=True)
    for beam in found.hypotheses:
        logits = nllb.logits(SOURCE, [2, *beam.token_ids]).astype(np.float64)
        every = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        wanted = [every[place, token] for place, token in enumerate(beam.token_ids)]
        assert [entry.logprob for entry in beam.logprobs] == pytest.approx(wanted, abs=1e-5)
    assert found.logprobs == found.hypotheses[0].logprobs
    assert found.logprobs[0].token == nllb.tokenizer.token(found.token_ids[0])


@pytest.mark.parametrize(
    ("generation", "length"), [({"max_length": 6}, 5), ({"max_new_tokens": 3, "max_length": 9}, 3)]
)
def test_a_text_is_as_long_as_its_author_says(tmp_path: Path, generation: dict[str, int], length: int) -> None:
    path = converted(tmp_path, "NllbTokenizer", ["a_X", "eng_Latn"], suppress_tokens=[2], **generation)
    with edgeformer.load(path, threads=1) as model:
        result = model.generate(SOURCE)
        assert (len(result.token_ids), result.finish_reason) == (length, "length")
        assert len(model.generate(SOURCE, max_tokens=8).token_ids) == 8
