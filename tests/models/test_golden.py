"""Converted models give the numbers that torch and transformers gave for the checkpoints in golden/."""

from __future__ import annotations

import edgeformer
import numpy as np
import pytest
from edgeformer.errors import InvalidInputError
from edgeformer.tools.reference import ReferenceModel
from golden import cases
from golden.cases import DECODERS, ENCODER_DECODERS, ENCODERS, FEATURES, HEADS, TOLERANCE, relative_error


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    """Path of a golden checkpoint converted to F32."""
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize(("name", "kv_type"), cases.with_caches(DECODERS))
def test_decoder_gives_torchs_logits(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected(name)
    with edgeformer.load(golden_gguf(name), kv_type=kv_type, threads=2) as model:
        logits = model.logits(numbers["ids"].tolist())
        assert relative_error(logits, numbers["logits"]) < TOLERANCE[kv_type]
        assert (logits.argmax(1) == numbers["logits"].argmax(1)).all()
        long = model.logits(numbers["long_ids"].tolist())[-1]
        assert relative_error(long, numbers["long_last_logits"]) < TOLERANCE[kv_type]
        hidden = model.hidden_states(numbers["ids"].tolist())
        assert relative_error(hidden, numbers["hidden"]) < TOLERANCE[kv_type]


@pytest.mark.parametrize(("name", "kv_type"), cases.with_caches(DECODERS))
def test_decoder_takes_torchs_greedy_path(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected(name)
    with edgeformer.load(golden_gguf(name), kv_type=kv_type, threads=2) as model:
        result = model.generate(numbers["ids"].tolist(), temperature=0.0, max_tokens=len(numbers["greedy_ids"]))
    cases.assert_greedy_path(result.token_ids, result.finish_reason, numbers["greedy_ids"])


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_gives_torchs_hidden_states_of_ragged_sentences(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected(name)
    sentences = cases.split(numbers["ids"], numbers["lengths"])
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        rows = model.session.hidden(sentences)
        alone = np.concatenate([model.hidden_states(sentence) for sentence in sentences])
    assert np.array_equal(rows, alone)
    kept = len(numbers["hidden"])
    assert relative_error(rows[:kept], numbers["hidden"]) < TOLERANCE["f32"]
    assert relative_error(rows[-len(numbers["long_hidden"]) :], numbers["long_hidden"]) < TOLERANCE["f32"]


@pytest.mark.parametrize("name", [name for name in ENCODERS if "typed_hidden" in cases.expected(name)])
def test_encoder_honours_token_types(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected(name)
    sentences = cases.split(numbers["ids"], numbers["lengths"])
    types = cases.split(numbers["token_types"], numbers["lengths"])
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        rows = model.session.hidden(sentences, token_types=types)
    wanted = numbers["typed_hidden"]
    assert relative_error(rows[: len(wanted)], wanted) < TOLERANCE["f32"]


@pytest.mark.parametrize("name", [name for name in ENCODERS if "attentions" in cases.expected(name)])
def test_encoder_shows_torchs_attention(name: str, golden_gguf: cases.GoldenPath) -> None:
    """Where the scores are more than products of queries and keys."""
    numbers = cases.expected(name)
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        weights = model.attention_weights(cases.split(numbers["ids"], numbers["lengths"])[0])
    assert np.allclose(np.stack(weights), numbers["attentions"], atol=1e-5)


def test_sentence_transformers_folder_gives_unit_means(golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected("bert-gelu-mean")
    sentences = cases.split(numbers["ids"], numbers["lengths"])
    unit = numbers["mean"] / np.linalg.norm(numbers["mean"], axis=1, keepdims=True)
    with edgeformer.load(golden_gguf("bert-gelu-mean"), threads=2) as model:
        assert relative_error(model.session.hidden(sentences, pooled=True), unit) < TOLERANCE["f32"]
        plain = model.session.hidden(sentences, pooled=True, normalize=False)
    assert relative_error(plain, numbers["mean"]) < TOLERANCE["f32"]


@pytest.mark.parametrize("name", [name for name in ENCODERS if "sentence" in cases.expected(name)])
def test_linear_layers_of_sentence_transformers_follow_the_pooling(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected(name)
    sentences = cases.split(numbers["ids"], numbers["lengths"])
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        vectors = model.encode(sentences)
        plain = model.encode(sentences, normalize_embeddings=False)
    assert relative_error(vectors, numbers["sentence"]) < TOLERANCE["f32"]
    assert np.allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), vectors, atol=1e-6)
    assert not np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-2)


@pytest.mark.parametrize(("name", "kv_type"), cases.with_caches(ENCODER_DECODERS))
def test_encoder_decoder_gives_torchs_logits(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    wanted = cases.expected(name)["logits"]
    sources, targets = cases.sources_and_targets(name)
    with edgeformer.load(golden_gguf(name), kv_type=kv_type, threads=2) as model:
        sequences = model.session.encode_source(sources)
        together = model.session.forward(list(zip(sequences, targets, strict=True)), outputs="all")
        alone = np.concatenate([model.logits(s, t) for s, t in zip(sources, targets, strict=True)])
    assert relative_error(together, wanted) < TOLERANCE[kv_type]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(("name", "kv_type"), cases.with_caches(ENCODER_DECODERS))
def test_encoder_decoder_takes_torchs_greedy_path(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    wanted = cases.expected(name)["greedy_ids"]
    sources, _ = cases.sources_and_targets(name)
    with edgeformer.load(golden_gguf(name), kv_type=kv_type, threads=2) as model:
        results = model.generate(sources, temperature=0.0, max_tokens=wanted.shape[1])
    for result, path in zip(results, wanted, strict=True):
        cases.assert_greedy_path(result.token_ids, result.finish_reason, path)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoder_shows_its_encoders_states(name: str, golden_gguf: cases.GoldenPath) -> None:
    sources, _ = cases.sources_and_targets(name)
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        states = [model.hidden_states(source) for source in sources]
        together = model.session.hidden(sources)
    wanted = np.concatenate([ReferenceModel(golden_gguf(name)).hidden(source) for source in sources])
    assert relative_error(together, wanted) < TOLERANCE["f32"]
    assert np.array_equal(together, np.concatenate(states))


@pytest.mark.parametrize("name", FEATURES)
def test_images_and_sounds_give_torchs_numbers(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers, samples = cases.expected(name), cases.samples(name)
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        for output in {"hidden", "classes"} & set(numbers):
            together = model.session.features(samples, output=output)
            alone = [model.session.features([sample], output=output)[0] for sample in samples]
            assert relative_error(np.concatenate(together), numbers[output]) < TOLERANCE["f32"]
            assert np.array_equal(np.concatenate(together), np.concatenate(alone))


@pytest.mark.parametrize("name", FEATURES)
def test_samples_of_any_length_share_a_run(name: str, golden_gguf: cases.GoldenPath) -> None:
    samples = [sample[:count] for sample, count in zip(cases.samples(name), (2, 5), strict=True)]
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        together = model.session.features([*samples, *cases.samples(name)])
        alone = [model.session.features([sample])[0] for sample in samples]
    reference = ReferenceModel(golden_gguf(name))
    for sample, rows, single in zip(samples, together, alone, strict=False):
        assert np.array_equal(rows, single)
        assert relative_error(rows, reference.features(sample)["hidden"]) < TOLERANCE["f32"]


@pytest.mark.parametrize(("name", "kv_type"), cases.with_caches(HEADS))
def test_heads_give_torchs_numbers_of_ragged_sequences(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    numbers, output = cases.expected(name), cases.CASES[name]["output"]
    sequences = cases.split(numbers["ids"], numbers["lengths"])
    with edgeformer.load(golden_gguf(name), kv_type=kv_type, threads=2) as model:
        together = model.session.outputs(output, sequences)
        assert cases.head_error(output, np.concatenate(together), numbers[output]) < TOLERANCE[kv_type]
        for rows, sequence in zip(together, sequences, strict=True):
            assert np.array_equal(rows, model.session.outputs(output, [sequence])[0])
        if "typed" in numbers:
            types = cases.split(numbers["token_types"], numbers["lengths"])
            typed = model.session.outputs(output, sequences, token_types=types)
            assert cases.head_error(output, np.concatenate(typed), numbers["typed"]) < TOLERANCE[kv_type]


@pytest.mark.parametrize("name", cases.TRANSFORMERS_CLASSES)
def test_classes_of_token_ids_have_transformers_scores(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers, config = cases.expected(name), cases.CASES[name]["config"]
    sequences = cases.split(numbers["ids"], numbers["lengths"])
    logits = numbers["classes"].astype(np.float64)
    wanted = {
        "multi_label_classification": 1 / (1 + np.exp(-logits)),
        "regression": logits,
        None: np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
    }[config.get("problem_type")]
    with edgeformer.load(golden_gguf(name), kv_type="f32", threads=2) as model:
        results = model.classify(sequences)
        assert model.labels == tuple(config["id2label"].values())
        for result, scores in zip(results, wanted, strict=True):
            by_label = {scored.label: scored.score for scored in result.labels}
            assert [by_label[label] for label in model.labels] == pytest.approx(scores.tolist(), abs=1e-5)


def test_words_of_many_runs_are_those_of_one(golden_gguf: cases.GoldenPath, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = cases.expected("bert-words")
    sequences = cases.split(numbers["ids"], numbers["lengths"])
    with edgeformer.load(golden_gguf("bert-words"), threads=2) as model:
        whole = model.session.outputs("words", sequences)
        monkeypatch.setattr("edgeformer.engine.runner.MAX_OUTPUT_BYTES", 4 * 70 * 18)
        for one, other in zip(model.session.outputs("words", sequences), whole, strict=True):
            assert np.array_equal(one, other)


def test_words_of_some_rows_are_those_of_all(golden_gguf: cases.GoldenPath) -> None:
    numbers = cases.expected("bert-words")
    sequences = cases.split(numbers["ids"], numbers["lengths"])
    rows = [[0, 3], [16], [], [1, 2, 39]]
    with edgeformer.load(golden_gguf("bert-words"), threads=2) as model:
        whole = model.session.outputs("words", sequences)
        some = model.session.outputs("words", sequences, rows=rows)
        for wrong in ([[0], [0], [0]], [[0], [0], [1], [0]], [[0, 0], [0], [0], [0]], [[-1], [0], [0], [0]]):
            with pytest.raises(InvalidInputError, match="rows: "):
                model.session.outputs("words", sequences, rows=wrong)
    for all_rows, asked, got in zip(whole, rows, some, strict=True):
        assert np.array_equal(got, all_rows[asked])


@pytest.mark.parametrize("name", cases.ALL)
def test_reference_interpreter_gives_torchs_numbers(name: str, golden_gguf: cases.GoldenPath) -> None:
    numbers, reference = cases.expected(name), ReferenceModel(golden_gguf(name))
    if name in DECODERS:
        assert relative_error(reference.logits(numbers["ids"].tolist()), numbers["logits"]) < TOLERANCE["f32"]
        assert relative_error(reference.hidden(numbers["ids"].tolist()), numbers["hidden"]) < TOLERANCE["f32"]
    elif name in ENCODERS:
        sentences = cases.split(numbers["ids"], numbers["lengths"])
        short = np.concatenate([reference.hidden(sentence) for sentence in sentences[:3]])
        assert relative_error(short, numbers["hidden"]) < TOLERANCE["f32"]
    elif name in HEADS:
        output, sequences = cases.CASES[name]["output"], cases.split(numbers["ids"], numbers["lengths"])
        last = -1 if output == "classes" else None  # of a decoder, which gives them for every row
        rows = np.concatenate([reference.output(output, sequence)[last:] for sequence in sequences])
        assert cases.head_error(output, rows, numbers[output]) < TOLERANCE["f32"]
    elif name in FEATURES:
        hidden = [reference.features(sample)["hidden"] for sample in cases.samples(name)]
        assert relative_error(np.concatenate(hidden), numbers["hidden"]) < TOLERANCE["f32"]
    else:
        sources, targets = cases.sources_and_targets(name)
        logits = [reference.logits_pair(s, t) for s, t in zip(sources, targets, strict=True)]
        assert relative_error(np.concatenate(logits), numbers["logits"]) < TOLERANCE["f32"]
