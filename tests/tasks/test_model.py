"""`load` and the model's handle: lifetime, pickling, verbs by family, embedding, translation, the package itself."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.model import FINGERPRINT_BYTES, file_fingerprint
from golden import cases
from support.bigram import FakeSession, byte_metadata, model_of, says
from support.random_llama import VOCABULARY, write_random_llama

PROMPT = [5, 17, 60, 2, 33]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_llama(tmp_path_factory.mktemp("llama") / "random.gguf", context=256)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    return cases.converter(tmp_path_factory.mktemp("golden"))


def test_importing_costs_next_to_nothing():
    code = (
        "import sys, edgeformer; "
        "print([name for name in ('numpy', 'numba', 'torch', 'tokenizers', 'typer') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_every_public_name_is_there():
    assert dir(edgeformer) == sorted(edgeformer.__all__)
    for name in edgeformer.__all__:
        assert getattr(edgeformer, name) is not None
    with pytest.raises(AttributeError, match="lod"):
        _ = edgeformer.lod


def test_a_decoder(llama):
    with edgeformer.load(llama, threads=2) as model:
        assert (model.family, model.architecture, model.n_ctx) == ("decoder", "llama", 256)
        assert (model.vocab_size, model.threads, model.path) == (VOCABULARY, 2, str(llama))
        assert model.metadata["llama.block_count"] == 2
        assert repr(model).startswith(f"<edgeformer.Model '{llama}': llama decoder, n_ctx=256")
        logits = model.logits(PROMPT)
        assert (logits.shape, logits.dtype) == ((len(PROMPT), VOCABULARY), np.float32)
        assert model.hidden_states(PROMPT).shape == (len(PROMPT), 64)
        result = model.generate(PROMPT, max_tokens=5)
        assert result.token_ids[0] == int(logits[-1].argmax())
        assert result.text == ""
        for verb in (model.encode, model.translate):
            with pytest.raises(edgeformer.UnsupportedModelError, match="generate, agenerate, logits"):
                verb("a")


def test_greedy_is_the_best_of_the_logits_step_by_step(llama):
    with edgeformer.load(llama, threads=2) as model:
        result = model.generate(PROMPT, max_tokens=40)
        logits = model.logits([*PROMPT, *result.token_ids])
    assert result.token_ids == logits[len(PROMPT) - 1 : -1].argmax(1).tolist()


def test_batches_streams_and_beams_give_the_bits_of_single_runs(llama):
    prompts = [[1], [4, 5, 6], list(range(40))]
    with edgeformer.load(llama, threads=2) as model:
        for options in ({"temperature": 1.0, "seed": 3, "logprobs": 0}, {"num_beams": 3}):
            together = model.generate(prompts, max_tokens=20, **options)
            for prompt, result in zip(prompts, together, strict=True):
                alone = model.generate(prompt, max_tokens=20, **options)
                assert (alone.token_ids, alone.log_prob) == (result.token_ids, result.log_prob)
                assert alone.hypotheses == result.hypotheses
        stream = model.generate([4, 5, 6], stream=True, max_tokens=9)
        streamed = [token for chunk in stream for token in chunk.token_ids]
        assert streamed == model.generate([4, 5, 6], max_tokens=9).token_ids


def test_a_seed_gives_the_same_tokens_on_every_instruction_set(llama):
    printed = set()
    for isa in core.isa_names():
        for threads in (1, 2):
            with edgeformer.load(llama, threads=threads, isa=isa) as model:
                options = {"temperature": 0.9, "top_p": 0.95, "seed": 11, "logprobs": 3}
                result = model.generate([4, 5], max_tokens=40, **options)
                assert model.isa == isa
                printed.add((*result.token_ids, result.log_prob))
    assert len(printed) == 1


def test_a_beam_search_sums_the_log_probabilities_of_the_logits(llama):
    with edgeformer.load(llama, threads=2, kv_type="f32") as model:
        for beam in model.generate(PROMPT, max_tokens=6, num_beams=4).hypotheses:
            rows = model.logits([*PROMPT, *beam.token_ids])[len(PROMPT) - 1 : -1].astype(np.float64)
            log_probs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
            total = log_probs[np.arange(6), beam.token_ids].sum()
            assert beam.log_prob == pytest.approx(total, abs=1e-4)
            assert beam.score == pytest.approx(total / 6, abs=1e-4)


def test_an_encoder_decoder(golden):
    name = "transformer-prenorm-relu"
    sources, targets = cases.sources_and_targets(name)
    with edgeformer.load(golden(name), threads=2) as model:
        assert model.family == "encoder-decoder"
        assert model.logits(sources[0], targets[0]).shape[0] == len(targets[0])
        for prompt, target in ((sources[0], None), ([], targets[0])):
            with pytest.raises(edgeformer.InvalidInputError):
                model.logits(prompt, target)
        with pytest.raises(edgeformer.InvalidInputError, match="tokenizer"):
            model.translate(sources[0])
        assert model.generate(sources[0], max_tokens=4).usage.prompt_tokens == len(sources[0])
        with pytest.raises(edgeformer.ContextOverflowError):
            model.generate([5] * (model.n_ctx + 1))


def test_a_decoder_takes_no_target(llama):
    with edgeformer.load(llama) as model, pytest.raises(edgeformer.InvalidInputError, match="target"):
        model.logits(PROMPT, [1])


def test_an_encoder(golden):
    numbers = cases.expected("bert-gelu-mean")
    sentences = cases.split(numbers["ids"], numbers["lengths"])
    with edgeformer.load(golden("bert-gelu-mean"), threads=2) as model:
        vectors = model.encode(sentences)
        assert vectors.dtype == np.float32
        assert np.array_equal(vectors, model.encode(sentences, batch_size=2))
        assert np.array_equal(vectors[1], model.encode(sentences[1]))
        assert model.encode([]).shape == (0, vectors.shape[1])
        plain = model.encode(sentences, normalize_embeddings=False)
        np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), vectors, atol=1e-6)
        long = [3] * (model.n_ctx + 5)
        with pytest.raises(edgeformer.ContextOverflowError) as caught:
            model.encode([sentences[0], long])
        assert (caught.value.needed, caught.value.available) == (len(long), model.n_ctx)
        assert (caught.value.truncate, caught.value.largest) == ("right", None)
        assert np.array_equal(model.encode(long, truncate="right"), model.encode(long[: model.n_ctx]))


def encoder(**more: object) -> FakeSession:
    return FakeSession(says("ab"), family="encoder", n_ctx=6, metadata=byte_metadata(**more))


def test_encode_puts_prompts_in_front():
    model = model_of(encoder(**{"general.prompts.json": '{"prompts": {"query": "q: "}}'}))
    assert model.encode("ab", prompt="xyz").tolist() == [6, 256, ord("b"), 1]
    assert model.encode("ab", prompt_name="query")[0] == 6
    with pytest.raises(edgeformer.InvalidOptionError, match="it has: query"):
        model.encode("ab", prompt_name="passage")
    with pytest.raises(edgeformer.InvalidOptionError, match="contradict"):
        model.encode("ab", prompt="x", prompt_name="query")
    with pytest.raises(edgeformer.InvalidOptionError, match="token ids"):
        model.encode([1, 2], prompt="x")


def test_encode_uses_the_default_prompt_unless_told():
    carried = '{"prompts": {"query": "q: ", "none": ""}, "default_prompt_name": "query"}'
    model = model_of(encoder(**{"general.prompts.json": carried}))
    assert model.encode("ab").tolist() == model.encode("ab", prompt_name="query").tolist()
    assert model.encode("ab", prompt="")[0] == model.encode("ab", prompt_name="none")[0] == 3


def test_encode_truncates_between_the_special_tokens():
    model = model_of(encoder(**{"tokenizer.ggml.add_eos_token": True}))
    assert model.tokenize("ab") == [256, 97, 98, 257]
    assert model.encode("abcdefgh", truncate="right").tolist() == [6, 256, 257, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"truncate": "left"}, "truncate"),
        ({"batch_size": True}, "batch_size"),
        ({"normalise_embeddings": True}, r"encode\(\) has no option .*'normalize_embeddings'"),
    ],
)
def test_encode_refuses_wrong_options(options, message):
    with pytest.raises(edgeformer.InvalidOptionError, match=message):
        model_of(encoder()).encode("a", **options)


def test_hidden_states_and_empty_sentences():
    model = model_of(encoder())
    assert model.hidden_states([1, 2]).tolist() == [[1] * 4, [2] * 4]
    with pytest.raises(edgeformer.InvalidInputError, match=r"sentences\[1\]"):
        model.encode([[1], []])


def translator() -> FakeSession:
    table = says("abcdef")
    table[0] = table[256]  # the decoder's start token leads to the text
    return FakeSession(table, family="encoder-decoder")


def test_translate_gives_str_for_str_and_list_for_list():
    model = model_of(translator())
    assert model.translate("anything") == "abcdef"
    assert model.translate(["anything", "else"]) == ["abcdef", "abcdef"]
    assert model.translate([]) == []
    assert model.translate("anything", num_beams=2, max_tokens=3) == "abc"
    assert model.generate("anything").usage.prompt_tokens == len("anything") + 1
    with pytest.raises(edgeformer.InvalidOptionError, match="stream"):
        model.translate("anything", stream=True)
    with pytest.raises(edgeformer.InvalidInputError, match="empty"):
        model.generate([[]])


def test_a_forced_first_token_is_given_to_the_decoder():
    session = translator()
    session.metadata = byte_metadata(**{"general.generation.json": '{"forced_bos_token_id": 99}'})
    assert model_of(session).translate("anything") == "def"  # 99 is "c"


def test_a_cancelled_translation_raises():
    flag = edgeformer.CancelFlag()
    flag.set()
    with pytest.raises(edgeformer.GenerationCancelled):
        model_of(translator()).translate("anything", cancel=flag)


def test_a_model_pickles_as_its_file(llama):
    with edgeformer.load(llama, threads=1, n_ctx=64, kv_type="f32") as model:
        wanted = model.logits(PROMPT)
        copy = pickle.loads(pickle.dumps(model))
    with copy:
        assert (copy.n_ctx, copy.threads) == (64, 1)
        assert np.array_equal(copy.logits(PROMPT), wanted)


def test_a_pickle_of_another_file_is_refused(tmp_path):
    path = write_random_llama(tmp_path / "model.gguf", context=64)
    with edgeformer.load(path) as model:
        data = pickle.dumps(model)
    write_random_llama(path, context=64, seed=1)
    with pytest.raises(edgeformer.ModelFileChangedError, match="pickled"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(edgeformer.ModelNotFoundError):
        pickle.loads(data)


@pytest.mark.parametrize("size", [0, 1, 1000, FINGERPRINT_BYTES, FINGERPRINT_BYTES + 1, 2 * FINGERPRINT_BYTES])
def test_a_fingerprint_sees_every_byte_of_small_files_and_both_ends_of_large_ones(tmp_path, size):
    path = tmp_path / "file"
    data = bytearray(os.urandom(1000) * (size // 1000 + 1))[:size]
    path.write_bytes(data)
    before = file_fingerprint(str(path))
    assert before == file_fingerprint(str(path))
    for position in {0, size // 2, size - 1} if size else ():
        changed = data.copy()
        changed[position] ^= 1
        path.write_bytes(changed)
        assert file_fingerprint(str(path)) != before
    path.write_bytes(data + b"\0")
    assert file_fingerprint(str(path)) != before


def test_a_fingerprint_is_the_same_for_every_python(tmp_path):
    """BLAKE2b-128 of the size in eight bytes and of "edgeformer", as `b2sum -l 128` prints it."""
    (tmp_path / "file").write_bytes(b"edgeformer")
    assert file_fingerprint(str(tmp_path / "file")) == "55d3f184143a858304b1282ab0deac3b"


def test_load_refuses_what_it_does_not_know(llama):
    with pytest.raises(edgeformer.InvalidOptionError, match="did you mean 'threads'"):
        edgeformer.load(llama, thread=2)
    with pytest.raises(edgeformer.InvalidOptionError):
        edgeformer.load(llama, n_ctx=100_000)
    with pytest.raises(edgeformer.ModelNotFoundError):
        edgeformer.load(llama.parent / "nothing.gguf")
    with pytest.raises(edgeformer.NotEnoughMemoryError):
        edgeformer.load(llama, max_memory=1000)
    with pytest.raises(edgeformer.InvalidOptionError, match="progress"):
        edgeformer.load(llama, progress=3)
    with pytest.raises(edgeformer.ModelNotFoundError, match="is not a path"):
        edgeformer.load("a\0b")


def test_loading_and_running_are_light(llama):
    """Neither compilers nor what only conversion and coroutines need."""
    heavy = ("numba", "llvmlite", "asyncio", "edgeformer.quants.encode.searches", "typer", "torch")
    code = f"""
import sys, edgeformer
edgeformer.load({str(llama)!r}, n_ctx=64).generate([5, 17], max_tokens=2)
print([name for name in {heavy} if name in sys.modules])
"""
    environment = {**os.environ, "EDGEFORMER_NUMBA": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_paths_may_be_bytes(llama):
    packed = edgeformer.pack(os.fsencode(llama), os.fsencode(llama.parent / "packed.gguf"))
    with edgeformer.load(os.fsencode(packed.path)) as model:
        assert model.path == str(llama.parent / "packed.gguf")
        assert model.logits(PROMPT).shape[0] == len(PROMPT)


def test_a_collected_model_is_closed(llama):
    model = edgeformer.load(llama)
    session = weakref.ref(model.session)
    del model
    gc.collect()
    assert session() is None


def test_a_stream_keeps_its_model(llama):
    stream = edgeformer.load(llama).generate(PROMPT, max_tokens=4, stream=True)
    gc.collect()
    assert len([token for chunk in stream for token in chunk.token_ids]) == 4


def test_closing_twice_and_using_afterwards(llama):
    model = edgeformer.load(llama)
    stream = model.generate(PROMPT, stream=True)
    next(stream)
    model.close()
    model.close()
    with pytest.raises(edgeformer.InvalidInputError, match="closed"):
        next(stream)
    for attribute in ("family", "n_ctx", "session"):
        with pytest.raises(edgeformer.InvalidInputError, match="closed"):
            getattr(model, attribute)


def test_loading_tells_the_logger_and_nobody_else(llama, caplog, capfd):
    with caplog.at_level(logging.INFO, logger="edgeformer"), edgeformer.load(llama):
        pass
    assert any("256 positions" in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_defaults_that_are_not_honoured_are_told(caplog):
    metadata = byte_metadata(**{"general.generation.json": '{"encoder_no_repeat_ngram_size": 3}'})
    model_of(FakeSession(says("ab"), metadata=metadata))
    assert "encoder_no_repeat_ngram_size" in caplog.text


def test_loading_reports_its_progress(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    path = write_random_llama(tmp_path / "random.gguf")
    with edgeformer.load(path, progress=lambda done, total: calls.append((done, total))):
        pass
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert 0 < calls[-1][0] <= calls[-1][1] == {total for _, total in calls}.pop()
