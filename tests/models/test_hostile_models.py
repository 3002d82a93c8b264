"""Files whose bytes are in order and whose values lie: each lie is named when the model is loaded, at once."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.errors import EdgeformerError, InvalidInputError, ModelFormatError, NumericError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.quants import by_name
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.small_models import CONTEXT, HEADS, MODELS, VOCABULARY, WIDTH, SmallModel, bert, llama, transformer

HEAD = WIDTH // HEADS
KEYS = [(name, key) for name, make in MODELS.items() for key in make().metadata]


def use(path: Path) -> None:
    """Load the model and run it."""
    with edgeformer.load(path, threads=1) as model:
        taken = model.session.features_taken
        if taken is not None:
            model.session.features([np.ones((2, taken.width), np.float32)])
        elif model.family == "encoder":
            model.encode("a b")
        elif model.family == "decoder":
            model.generate("a b", max_tokens=2)
            model.hidden_states([1, 2])
        else:
            model.translate("a b", max_tokens=2)


@pytest.mark.parametrize("name", MODELS)
def test_the_models_themselves_work(tmp_path: Path, name: str) -> None:
    use(MODELS[name]().write(tmp_path / "a.gguf"))


@pytest.mark.parametrize(("key", "value", "message"), [
    ("llama.attention.head_count", 0, "head_count"),
    ("llama.attention.head_count", 3, "attn_q"),
    ("llama.attention.head_count", 2**31, "head_count"),
    ("llama.attention.head_count_kv", 0, "head_count_kv"),
    ("llama.attention.head_count_kv", 4, "attn_k"),
    ("llama.attention.head_count_kv", [2, 2], "not of kind int"),
    ("llama.attention.head_count_kv", [0, 0], "not of kind int"),
    ("llama.attention.head_count_kv", True, "not of kind int"),
    ("llama.feed_forward_length", [64, 64], "not of kind int"),
    ("llama.feed_forward_length", 63, "ffn_gate"),
    ("llama.block_count", 0, "block_count"),
    ("llama.expert_count", 8, "expert_used_count"),
    ("llama.expert_count", 2**20, "expert_count"),
    ("llama.block_count", 3, r"blk\.2"),
    ("llama.block_count", 2**32 - 1, "block_count"),
    ("llama.block_count", None, "missing"),
    ("llama.block_count", "2", "not of kind int"),
    ("llama.embedding_length", 64, "token_embd"),
    ("llama.embedding_length", -32, "outside"),
    ("llama.context_length", 2**31, "context_length"),
    ("llama.context_length", 0, "context_length"),
    ("llama.attention.key_length", 8, "attn_q"),
    ("llama.attention.key_length", 512, "key_length"),
    ("llama.rope.dimension_count", 2 * HEAD, "more than a head"),
    ("llama.rope.dimension_count", 5, "in pairs"),
    ("llama.rope.dimension_count", 0, "dimension_count"),
    ("llama.rope.freq_base", float("nan"), "freq_base"),
    ("llama.rope.freq_base", float("inf"), "freq_base"),
    ("llama.rope.freq_base", 0.0, "freq_base"),
    ("llama.rope.freq_base", -10000.0, "freq_base"),
    ("llama.rope.scaling.factor", 0.0, "scaling.factor"),
    ("llama.attention.layer_norm_rms_epsilon", float("nan"), "epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", -1e-5, "epsilon"),
    ("llama.attention.layer_norm_rms_epsilon", float("inf"), "epsilon"),
    ("tokenizer.ggml.bos_token_id", VOCABULARY, "bos_token_id.* from 0 to 47"),
    ("tokenizer.ggml.eos_token_id", 2**32 - 1, "eos_token_id.* from 0 to 47"),
    ("tokenizer.ggml.unknown_token_id", -1, "outside the vocabulary"),
    ("tokenizer.ggml.padding_token_id", VOCABULARY, "outside the vocabulary"),
    ("tokenizer.ggml.scores", [0.0] * (VOCABULARY - 1), "47 entries for 48"),
    ("tokenizer.ggml.scores", [float("nan")] * VOCABULARY, "finite"),
    ("tokenizer.ggml.token_type", [1] * (VOCABULARY - 1), "47 entries for 48"),
    ("tokenizer.ggml.token_type", [7] * VOCABULARY, "is not a type"),
    ("tokenizer.ggml.token_type", [6] * VOCABULARY, "marked as a byte"),
    ("tokenizer.ggml.tokens", [f"t{i}" for i in range(VOCABULARY + 1)], "49 tokens, but the embeddings have 48"),
    ("tokenizer.ggml.tokens", ["a"] * VOCABULARY, "is token 0 and token 1"),
    ("tokenizer.ggml.tokens", ["a", "b", "c", "<0x-1>", *map(str, range(VOCABULARY - 4))], "'<0x-1>' is marked"),
    ("tokenizer.ggml.tokens", "abc", "tokens"),
    ("general.generation.json", "[", "generation"),
    ("general.generation.json", 5, "not a string"),
    ("general.generation.json", "[" * 100_000, "nested"),
    ("general.generation.json", '{"top_k": 1, "top_k": 2}', "twice"),
    ("general.generation.json", json.dumps({"bad_words_ids": [1]}), "bad_words_ids"),
    ("general.generation.json", json.dumps({"suppress_tokens": [-5]}), "suppress_tokens"),
    ("general.generation.json", json.dumps({"top_k": 2**70}), "top_k"),
    ("general.generation.json", json.dumps({"eos_token_id": [2, VOCABULARY]}), "outside the vocabulary 0..47"),
    ("general.generation.json", json.dumps({"bos_token_id": VOCABULARY}), "outside the vocabulary"),
    ("general.generation.json", json.dumps({"forced_bos_token_id": 2**31 - 1}), "outside the vocabulary"),
    ("general.generation.json", json.dumps({"suppress_tokens": [VOCABULARY]}), "outside the vocabulary"),
    ("general.generation.json", json.dumps({"bad_words_ids": [[VOCABULARY]]}), "outside the vocabulary"),
])  # fmt: skip
def test_lies_of_a_llama_are_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    refused(tmp_path, llama().with_metadata(**{key: value}), message)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("bert.attention.head_count", 0, "head_count"),
    ("bert.attention.head_count", 3, "do not divide"),
    ("bert.attention.head_count", [2], "not of kind int"),
    ("bert.attention.layer_norm_epsilon", float("nan"), "epsilon"),
    ("bert.block_count", 2**31, "block_count"),
    ("bert.context_length", 2 * CONTEXT, "position_embd"),
    ("bert.context_length", 2**31, "context_length"),
    ("tokenizer.ggml.cls_token_id", VOCABULARY, "outside the vocabulary"),
])  # fmt: skip
def test_lies_of_a_bert_are_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    refused(tmp_path, bert().with_metadata(**{key: value}), message)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("transformer.attention.head_count", 0, "head_count"),
    ("transformer.attention.head_count", 3, "do not divide"),
    ("transformer.decoder_block_count", 2, "dec.blk.1"),
    ("transformer.decoder_start_token_id", VOCABULARY, "decoder_start_token_id"),
    ("transformer.embedding_scale", float("inf"), "embedding_scale"),
    ("transformer.context_length", CONTEXT + 1, "position_embd"),
    ("tokenizer.target.tokens", [f"t{i}" for i in range(VOCABULARY + 1)], "the embeddings have 48"),
])  # fmt: skip
def test_lies_of_a_transformer_are_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    refused(tmp_path, transformer().with_metadata(**{key: value}), message)


def test_types_that_no_kernel_runs_are_named(tmp_path: Path) -> None:
    path = llama().write(tmp_path / "integers.gguf")
    content = path.read_bytes()
    begin = content.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight")  # then the rank, two extents, the type
    path.write_bytes(content[: begin + 20] + struct.pack("<I", 24) + content[begin + 24 :])
    with pytest.raises(UnsupportedModelError, match=r"blk\.0\.ffn_up\.weight has type i8, .*runs .*q8_0.*quantize"):
        edgeformer.load(path)


@pytest.mark.parametrize("key", ["general.generation.json", "tokenizer.ggml.tokens", "tokenizer.target.tokens"])
def test_faults_of_the_text_settings_show_before_weights_are_read(tmp_path: Path, key: str) -> None:
    path = transformer().with_metadata(**{key: "["}).write(tmp_path / "lie.gguf")
    with pytest.raises(ModelFormatError, match=key.split(".")[1]):
        edgeformer.load(path, progress=lambda *_: pytest.fail("weights were read"))


def refused(folder: Path, model: SmallModel, message: str) -> None:
    """The error is named, names the file, and cost no memory to speak of."""
    path = model.write(folder / "lie.gguf")
    tracemalloc.start()
    try:
        with pytest.raises((ModelFormatError, UnsupportedModelError), match=message) as caught:
            use(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("model", "message"), [
    (llama().with_metadata(llama__block_count=1), r"blk\.1\.\w+\.weight' is part of a layer"),
    (llama().with_shape("blk.0.attn_q_norm.weight", (HEAD,)), "attn_q_norm"),
    (llama().with_metadata(llama__rope__scaling__type="spiral"), "spiral"),
    (bert().with_metadata(bert__attention__causal=True), "bidirectional"),
    (bert().with_metadata(bert__pooling_type=50), "pooling_type"),
    (SmallModel("m" * 5000, {}, {"x": (1,)}), "not supported"),
])  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path: Path, model: SmallModel, message: str) -> None:
    refused(tmp_path, model, message)


@pytest.mark.parametrize(("model", "message"), [
    (llama().with_shape("token_embd.weight", (VOCABULARY - 1, WIDTH)), "48 tokens, but the embeddings have 47"),
    (llama().with_shape("token_embd.weight", (VOCABULARY,)), "token_embd"),
    (llama().with_shape("token_embd.weight", (VOCABULARY, WIDTH, 1)), "token_embd"),
    (llama().with_shape("token_embd.weight", None), "token_embd.* is missing"),
    (llama().with_shape("blk.1.attn_norm.weight", (1, WIDTH)), "attn_norm"),
    (llama().with_shape("blk.1.ffn_down.weight", (WIDTH, WIDTH)), "ffn_down"),
    (llama().with_shape("rope_freqs.weight", (HEAD,)), "rope_freqs"),
    (llama().with_shape("output.weight", (VOCABULARY + 1, WIDTH)), "output.weight"),
    (bert().with_shape("position_embd.weight", (CONTEXT - 1, WIDTH)), "position_embd"),
    (bert().with_shape("token_embd.weight", (VOCABULARY - 1, WIDTH)), "the embeddings have 47"),
    (bert().with_shape("token_embd_norm.bias", None), "token_embd_norm.bias: the tensor is missing"),
    (bert().with_shape("blk.0.attn_q.bias", (WIDTH + 1,)), "attn_q.bias"),
    (transformer().with_shape("position_embd.weight", (CONTEXT, WIDTH + 1)), "position_embd"),
])  # fmt: skip
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, model: SmallModel, message: str) -> None:
    refused(tmp_path, model, message)


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", MODELS)
def test_any_tensor_may_have_any_type_that_runs(tmp_path: Path, name: str, type: str) -> None:
    """Vectors, too; only rows that are no whole blocks stay what they are."""
    model = MODELS[name]()
    for tensor, shape in model.shapes.items():
        if shape[-1] % by_name(type).block_size == 0:
            model = model.with_type(tensor, type)
    use(model.write(tmp_path / "a.gguf"))


def test_weights_that_are_not_numbers_are_named(tmp_path: Path) -> None:
    path = llama().write(tmp_path / "a.gguf")
    raw = bytearray(path.read_bytes())
    raw[-4:] = np.float32("nan").tobytes()
    path.write_bytes(raw)
    with pytest.raises(NumericError):
        use(path)


@pytest.mark.parametrize("divisor", [0.0, float("nan"), 1e-45])
def test_divisors_of_the_rotation_that_divide_nothing_are_named(tmp_path: Path, divisor: float) -> None:
    path = llama().with_shape("rope_freqs.weight", (HEAD // 2,)).write(tmp_path / "a.gguf")
    with GGUFFile(path) as file:
        offset = file.tensors["rope_freqs.weight"].offset
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 4] = np.float32(divisor).tobytes()
    path.write_bytes(raw)
    with pytest.raises(NumericError, match="rope_freqs"):
        use(path)


LIES = (None, 0, -1, 2**31, 2**63, 1e30, float("nan"), float("inf"), True, "", "x" * 5000, [1, 2], [0.5] * 3)


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_each_lie_of_each_key_is_named_or_harmless(tmp_path: Path, name: str, key: str) -> None:
    model, path = MODELS[name](), tmp_path / "lie.gguf"
    for lie in LIES:
        model.with_metadata(**{key: lie}).write(path)
        tracemalloc.start()
        try:
            use(path)
        except EdgeformerError as error:
            assert len(str(error)) < 600
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 64 << 20


VALUES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, 1, 3, 2**31, 2**32, 1 << 20, 1 << 22]),
    st.floats(width=32),
    st.booleans(),
    st.text(max_size=8).filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)),
    st.lists(st.integers(-8, 2**40), max_size=VOCABULARY),
    st.lists(st.floats(width=32), min_size=VOCABULARY, max_size=VOCABULARY),
    st.lists(st.sampled_from(["<0x-1>", "<0x41>", "a", "\u2581", ""]), max_size=VOCABULARY),
    st.none(),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=2), VALUES)
@example(("llama", "llama.context_length"), [], 1 << 22)
def test_any_value_of_any_key_works_or_is_refused(
    tmp_path: Path, first: tuple[str, str], others: list[tuple[tuple[str, str], Any]], value: Any
) -> None:
    name, key = first
    changes = {key: value, **{other: change for (model, other), change in others if model == name}}
    path = tmp_path / "a.gguf"
    try:
        MODELS[name]().with_metadata(**changes).write(path)
    except InvalidInputError:
        return  # what no GGUF file can hold
    with contextlib.suppress(EdgeformerError):
        use(path)


SHAPES = st.lists(st.sampled_from([1, 2, 16, 31, 32, 33, 48, 64]), min_size=1, max_size=4).map(tuple)
TENSORS = [(name, tensor) for name, make in MODELS.items() for tensor in make().shapes]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TENSORS), st.one_of(SHAPES, st.none()))
def test_any_shape_of_any_tensor_works_or_is_refused(
    tmp_path: Path, which: tuple[str, str], shape: tuple[int, ...] | None
) -> None:
    name, tensor = which
    path = MODELS[name]().with_shape(tensor, shape).write(tmp_path / "a.gguf")
    with contextlib.suppress(ModelFormatError, UnsupportedModelError):
        use(path)
