"""Real checkpoints give the texts, vectors and scores that torch, transformers and CTranslate2 gave."""

from __future__ import annotations

import json
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert


@pytest.fixture(scope="module")
def loaded(test_models: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function from the name of a checkpoint to the model at F32 and what it must give."""
    folder, models = tmp_path_factory.mktemp("checkpoints"), {}

    def load(name: str, **options: object) -> tuple[edgeformer.Model, object]:
        path = folder / f"{name}.gguf"
        if not path.exists():
            convert(test_models / name, path, type="f32")
        model = models.setdefault((name, *options.items()), edgeformer.load(path, threads=2, **options))
        return model, json.loads((test_models / name / "expected.json").read_text())

    yield load
    for model in models.values():
        model.close()


def test_stories_from_the_start_token(loaded):
    model, expected = loaded("stories260k-llama")
    new = len(expected["greedy_from_bos"]) - 1
    for prompt in ("", expected["greedy_from_bos"][:1]):
        result = model.generate(prompt, max_tokens=new)
        assert [*expected["greedy_from_bos"][:1], *result.token_ids] == expected["greedy_from_bos"]
        assert result.text == expected["greedy_text"]
        assert (result.finish_reason, result.usage.completion_tokens) == ("length", new)


def test_a_story_goes_on_where_its_prompt_ends(loaded):
    model, expected = loaded("stories260k-llama")
    assert model.tokenize(expected["prompt"]) == expected["prompt_ids"]
    result = model.generate(expected["prompt"], max_tokens=30)
    assert (expected["prompt"] + result.text).startswith("Once upon a time, there was a little girl named Lily.")
    pieces = [chunk.text for chunk in model.generate(expected["prompt"], max_tokens=30, stream=True)]
    assert "".join(pieces) == result.text


def test_a_story_stops_before_a_string_that_spans_tokens(loaded):
    model, expected = loaded("stories260k-llama")
    text = expected["greedy_text"]
    stop = text[50:63]
    result = model.generate("", stop=stop)
    assert (result.text, result.stop) == (text[: text.index(stop)], stop)


def test_story_logits_and_loss(loaded):
    model, expected = loaded("stories260k-llama", kv_type="f32")
    logits = model.logits(expected["loss_ids"])
    wanted = np.array(expected["last_logits"])
    assert np.abs(logits[-1] - wanted).max() < 1e-3 * np.ptp(wanted)
    rows = logits[:-1].astype(np.float64)
    log_probs = rows - rows.max(1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
    loss = -log_probs[np.arange(len(rows)), expected["loss_ids"][1:]].mean()
    assert loss == pytest.approx(expected["loss"], abs=1e-4)


def test_shakespeare(loaded):
    model, expected = loaded("shakespeare-llama-5m")
    prompt, greedy = expected["prompt_ids"], expected["greedy"]
    result = model.generate(prompt, max_tokens=len(greedy) - len(prompt))
    assert prompt + result.token_ids == greedy
    assert model.detokenize(prompt) + result.text == expected["greedy_text"]


@pytest.mark.parametrize("kv_type", ["f16", "f32"])
def test_transliteration(loaded, kv_type):
    model, expected = loaded("transliterate-ar-en", kv_type=kv_type)
    sources = [row["source"] for row in expected]
    tolerance = {"f16": 1e-3, "f32": 1e-4}[kv_type]
    assert model.translate(sources) == [row["greedy"] for row in expected]
    assert model.translate(sources[0]) == expected[0]["greedy"]
    for row, result in zip(expected, model.generate(sources, logprobs=0), strict=True):
        assert model.tokenize(row["source"]) == row["source_ids"]
        assert result.token_ids == row["greedy_ids"]
        assert result.log_prob == pytest.approx(row["greedy_log_prob"], abs=tolerance)


@pytest.mark.parametrize("kind", ["q8_0", "i8_row"])
def test_eight_bits_transliterate_as_well(test_models, tmp_path, kind):
    expected = json.loads((test_models / "transliterate-ar-en" / "expected.json").read_text())
    convert(test_models / "transliterate-ar-en", tmp_path / "model.gguf", type=kind)
    with edgeformer.load(tmp_path / "model.gguf") as model:
        sources = [row["source"] for row in expected]
        assert model.translate(sources) == [row["greedy"] for row in expected]
        assert model.translate(sources, num_beams=4) == [row["beam4"][0]["text"] for row in expected]
        scores = [result.log_prob for result in model.generate(sources, logprobs=0)]
    np.testing.assert_allclose(scores, [row["greedy_log_prob"] for row in expected], atol=0.1)


def test_a_long_list_is_translated_however_many_it_has(loaded):
    model, expected = loaded("transliterate-ar-en")
    sources = [row["source"] for row in expected] * 20
    assert model.translate(sources, num_beams=4) == [row["beam4"][0]["text"] for row in expected] * 20
    assert model.translate(sources) == [row["greedy"] for row in expected] * 20


@pytest.mark.parametrize("kv_type", ["f16", "f32"])
def test_transliteration_with_beams_equals_ctranslate2(loaded, kv_type):
    model, expected = loaded("transliterate-ar-en", kv_type=kv_type)
    tolerance = {"f16": 1e-3, "f32": 1e-4}[kv_type]
    sources = [row["source"] for row in expected]
    results = model.generate(sources, num_beams=4)
    for row, result in zip(expected, results, strict=True):
        assert [beam.text for beam in result.hypotheses] == [beam["text"] for beam in row["beam4"]]
        scores = [beam["mean_log_prob"] for beam in row["beam4"]]
        np.testing.assert_allclose([beam.score for beam in result.hypotheses], scores, atol=tolerance)
    assert model.translate(sources, num_beams=4) == [row["beam4"][0]["text"] for row in expected]
    assert model.generate(sources[2], num_beams=4).hypotheses == results[2].hypotheses


@pytest.mark.parametrize("kv_type", ["f16", "f32"])
def test_spelling_to_sounds(loaded, kv_type):
    model, expected = loaded("bart-g2p-us", kv_type=kv_type)
    words = [row["word"] for row in expected]
    assert [model.tokenize(word) for word in words] == [row["ids"] for row in expected]
    for kind, beams in (("greedy", 1), ("beam4", 4)):
        results = model.generate(words, num_beams=beams)
        assert [result.token_ids for result in results] == [row[kind][1:-1] for row in expected]
        assert [result.text for result in results] == [row[f"{kind}_text"] for row in expected]


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    convert(minilm_folder, path, type="f32")
    with edgeformer.load(path, threads=2) as model:
        yield model


def test_sentence_vectors_are_those_of_sentence_transformers(minilm, test_models):
    expected = np.load(test_models / "minilm-expected" / "expected.npz")
    sentences = [str(sentence) for sentence in expected["sentences"]]
    vectors = minilm.encode(sentences)
    assert vectors.dtype == np.float32
    assert (vectors * expected["embeddings"]).sum(1).min() >= 0.99999
    assert np.array_equal(vectors[:9], minilm.encode(sentences[:9], batch_size=4))
    assert np.array_equal(vectors[5], minilm.encode(sentences[5]))


def test_sentences_are_cut_only_when_asked(minilm):
    long = "word " * 1000
    with pytest.raises(edgeformer.ContextOverflowError):
        minilm.encode(long)
    ids = minilm.tokenize(long)
    kept = [*ids[: minilm.n_ctx - 1], ids[-1]]
    assert np.array_equal(minilm.encode(long, truncate="right"), minilm.encode(kept))
