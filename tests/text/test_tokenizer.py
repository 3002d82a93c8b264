"""Tokenizers of real checkpoints: the ids and texts that Hugging Face's give, streams, and what a user may spell."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import tokenizers
from edgeformer.errors import InvalidInputError, UnsupportedModelError
from edgeformer.text.tokenizer import PieceDecoder, Tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXTS = (
    "Once upon a time, there was a little girl",
    "Hello   world!\n\n  x = 12345 'tis I'll \u00e9\u00e0\u00fc \u65e5\u672c\u8a9e \U0001f389 <unused>",
    " lead",
    "",
    "don't stop. now , ok ?",
    "na\u00efve \u2581 <0x41> a\u0301",
    "   ",
)


@pytest.fixture(scope="module", params=["stories260k-llama", "shakespeare-llama-5m", "gpt2", "minilm"])
def source(request: pytest.FixtureRequest, test_models: Path) -> str:
    """The text of each real tokenizer.json."""
    if request.param == "gpt2":
        path = test_models / "tokenizers" / "gpt2-tokenizer.json"
    elif request.param == "minilm":
        path = request.getfixturevalue("minilm_folder") / "tokenizer.json"
    else:
        path = test_models / request.param / "tokenizer.json"
    return path.read_text()


@pytest.fixture(scope="module")
def tokenizer(source: str) -> Tokenizer:
    return made(source)


@pytest.fixture(scope="module")
def original(source: str) -> tokenizers.Tokenizer:
    """The library's own tokenizer, without the truncation and padding that some files ask for."""
    library = tokenizers.Tokenizer.from_str(source)
    library.no_truncation()
    library.no_padding()
    return library


def made(source: str) -> Tokenizer:
    tokenizer = Tokenizer.from_metadata({"tokenizer.huggingface.json": source})
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_same_ids_and_text_as_the_library(tokenizer: Tokenizer, original: tokenizers.Tokenizer, text: str) -> None:
    for special in (True, False):
        ids = tokenizer.encode(text, add_special_tokens=special)
        assert ids == original.encode(text, add_special_tokens=special).ids
        assert tokenizer.decode(ids) == original.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_pairs_are_put_together_as_the_library_does(
    tokenizer: Tokenizer, original: tokenizers.Tokenizer, text: str
) -> None:
    for one, other in ((text, "the second, longer text"), ("first", text)):
        wanted = original.encode(one, other)
        assert tokenizer.encode_pair(one, other) == (wanted.ids, wanted.type_ids)


def test_pairs_of_arrays_are_those_of_bert_of_roberta_and_of_modern_bert() -> None:
    pieces = ["<s>", "</s>", "a", "b"]
    arrays = {"model": "gpt2", "pre": "roberta-bpe", "tokens": pieces, "merges": [], "token_type": [3, 3, 1, 1]}
    arrays |= {"bos_token_id": 0, "eos_token_id": 1, "seperator_token_id": 1, "add_bos_token": True}
    roberta = tokenizers.Tokenizer(tokenizers.models.BPE({p: i for i, p in enumerate(pieces)}, []))
    roberta.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    wordpiece = {"model": "bert", "tokens": ["[UNK]", "[CLS]", "[SEP]", "\u2581a", "\u2581b"], "unknown_token_id": 0}
    wordpiece |= {"cls_token_id": 1, "seperator_token_id": 2, "token_type": [3, 3, 3, 1, 1]}
    bert = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "a": 3, "b": 4}, unk_token="[UNK]"))
    bert.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    modern = tokenizers.Tokenizer(tokenizers.models.BPE({p: i for i, p in enumerate(pieces)}, []))
    modern.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    plain = arrays | {"pre": "gpt-2", "add_eos_token": True}
    for metadata, library in ((arrays, roberta), (wordpiece, bert), (plain, modern)):
        made_of_arrays = Tokenizer.from_metadata({f"tokenizer.ggml.{key}": value for key, value in metadata.items()})
        assert made_of_arrays is not None
        wanted = library.encode("a", "b")
        assert made_of_arrays.encode_pair("a", "b") == (wanted.ids, wanted.type_ids)
        assert made_of_arrays.encode("a") == library.encode("a").ids


def test_tokens_know_where_they_come_from(tokenizer: Tokenizer, original: tokenizers.Tokenizer) -> None:
    for texts in (TEXTS[:1], TEXTS[:2], ("the second, longer text", "first")):
        wanted, found = original.encode(*texts), tokenizer.locate(*texts)
        assert (found.ids, found.types, found.spans) == (wanted.ids, wanted.type_ids, wanted.offsets)
        assert (found.texts, found.words) == (wanted.sequence_ids, wanted.word_ids)
        assert (found.count(0), len(found)) == (wanted.sequence_ids.count(0), len(wanted.ids))


@pytest.mark.parametrize("counts", [(3, 4), (9, 2), (2, 9), (7, 7), (0, 5), (8, 0)])
def test_texts_are_cut_as_the_library_cuts_the_longest_first(counts: tuple[int, int]) -> None:
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[C]": 0, "[S]": 1, "a": 2, "b": 3}, unk_token="a"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.post_processor = tokenizers.processors.BertProcessing(("[S]", 1), ("[C]", 0))
    tokenizer = Tokenizer.from_metadata({"tokenizer.huggingface.json": library.to_str()})
    assert tokenizer is not None
    texts = "a " * counts[0], "b " * counts[1]
    whole = tokenizer.locate(*texts)
    for room in range(3, 16):
        library.enable_truncation(room)
        assert whole.fitted(room).ids == library.encode(*texts).ids


def test_characters_know_where_they_come_from() -> None:
    keys = {"model": "characters", "tokens": ["<s>", "a", "b", "</s>"], "token_type": [3, 1, 1, 3], "bos_token_id": 0}
    keys |= {"eos_token_id": 3, "add_bos_token": True, "add_eos_token": True}
    tokenizer = Tokenizer.from_metadata({f"tokenizer.ggml.{key}": value for key, value in keys.items()})
    assert tokenizer is not None
    found = tokenizer.locate("ba")
    assert found.ids == tokenizer.encode("ba") == [0, 2, 1, 3]
    assert (found.spans, found.texts) == ([(0, 0), (0, 1), (1, 2), (0, 0)], [None, 0, 0, None])
    with pytest.raises(InvalidInputError, match="one text"):
        tokenizer.locate("a", "b")


def test_characters_make_no_pairs() -> None:
    tokenizer = Tokenizer.from_metadata({"tokenizer.ggml.model": "characters", "tokenizer.ggml.tokens": ["a", "b"]})
    assert tokenizer is not None
    with pytest.raises(InvalidInputError, match="no two texts"):
        tokenizer.encode_pair("a", "b")


def test_story_prompt_and_greedy_text(test_models: Path) -> None:
    folder = test_models / "stories260k-llama"
    expected = json.loads((folder / "expected.json").read_text())
    tokenizer = made((folder / "tokenizer.json").read_text())
    assert tokenizer.encode(expected["prompt"]) == expected["prompt_ids"]
    assert tokenizer.decode(expected["greedy_from_bos"]) == expected["greedy_text"]
    text = (test_models / "text" / "tinystories_sample.txt").read_text()
    assert tokenizer.encode(text)[: len(expected["loss_ids"])] == expected["loss_ids"]


def test_validation_text_of_shakespeare(test_models: Path) -> None:
    folder = test_models / "shakespeare-llama-5m"
    expected = json.loads((folder / "expected.json").read_text())
    text = (test_models / "text" / "shakespeare-valid.txt").read_text()
    tokenizer = made((folder / "tokenizer.json").read_text())
    assert tokenizer.encode(text) == expected["valid_ids"]
    assert tokenizer.decode(expected["valid_ids"]) == text


def test_user_text_makes_no_control_token(tokenizer: Tokenizer) -> None:
    unknown = {token for token in tokenizer.control_token_ids if tokenizer.token(token) in ("[UNK]", "<unk>")}
    for token in tokenizer.control_token_ids:
        text = f"x{tokenizer.token(token)} y"
        typed = set(tokenizer.encode(text, add_special_tokens=False))
        assert not typed & (tokenizer.control_token_ids - unknown)
        assert token in tokenizer.encode(text, add_special_tokens=False, parse_special=True)


def test_stream_equals_decode_for_any_ids(tokenizer: Tokenizer) -> None:
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40), st.booleans())
    def check(ids: list[int], skip: bool) -> None:
        stream = tokenizer.stream(skip_special_tokens=skip)
        parts = [stream.push(token) for token in ids]
        assert "".join([*parts, stream.finish()]) == tokenizer.decode(ids, skip_special_tokens=skip)

    check()


def test_stream_holds_back_a_character_until_it_is_whole(test_models: Path) -> None:
    tokenizer = made((test_models / "shakespeare-llama-5m" / "tokenizer.json").read_text())
    stream = tokenizer.stream()
    parts = [stream.push(token) for token in tokenizer.encode("\U0001f389!")]
    assert parts == ["", "", "", "\U0001f389", "!"]
    assert stream.finish() == ""


def test_a_cut_character_comes_out_as_a_replacement(test_models: Path) -> None:
    tokenizer = made((test_models / "shakespeare-llama-5m" / "tokenizer.json").read_text())
    stream = tokenizer.stream()
    assert [stream.push(token) for token in tokenizer.encode("\U0001f389")[:2]] == ["", ""]
    assert stream.finish() == "\ufffd"


def test_a_continuation_keeps_its_first_space(test_models: Path) -> None:
    tokenizer = made((test_models / "stories260k-llama" / "tokenizer.json").read_text())
    ids = tokenizer.encode("there was", add_special_tokens=False)
    stream = tokenizer.stream(continues=True)
    assert "".join(map(stream.push, ids)) + stream.finish() == " there was"
    assert tokenizer.decode(ids) == "there was"


def test_text_survives_a_round_trip(test_models: Path) -> None:
    tokenizer = made((test_models / "shakespeare-llama-5m" / "tokenizer.json").read_text())

    @given(st.text(max_size=60))
    def check(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    check()


@pytest.mark.parametrize("text", ["\ud800", "ab\udfffc"])
def test_lone_surrogates_are_refused_by_position(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"surrogate.*position {len(text) // 2}"):
        tokenizer.encode(text)


def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(InvalidInputError, match=str(token)):
            tokenizer.decode([token])


def test_a_text_must_be_a_string(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInputError, match="bytes"):
        tokenizer.encode(b"bytes")  # type: ignore[arg-type]


def test_no_vocabulary_is_no_tokenizer() -> None:
    assert Tokenizer.from_metadata({}) is None
    assert Tokenizer.from_metadata({"tokenizer.ggml.model": "no_vocab", "tokenizer.ggml.eos_token_id": 2}) is None


def test_roles_come_from_the_metadata(test_models: Path) -> None:
    source = (test_models / "stories260k-llama" / "tokenizer.json").read_text()
    keys = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0}
    tokenizer = Tokenizer.from_metadata({"tokenizer.huggingface.json": source, **keys})
    assert tokenizer is not None
    roles = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    assert roles == (1, 2, 0, None)
    assert tokenizer.end_token_ids == {2}


def test_an_unknown_decoder_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="CTC"):
        PieceDecoder.from_description({"type": "CTC"}, "model")


CHARACTERS = {
    "tokenizer.ggml.model": "characters",
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b", "\u00e9"],
    "tokenizer.ggml.token_type": [3, 3, 1, 1, 1],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
}


def test_characters() -> None:
    tokenizer = Tokenizer.from_metadata(CHARACTERS)
    assert tokenizer is not None
    assert tokenizer.encode("ab\u00e9") == [2, 3, 4]
    assert tokenizer.decode([0, 2, 3, 4, 1]) == "ab\u00e9"
    assert tokenizer.decode([0, 2], skip_special_tokens=False) == "<s>a"
    assert tokenizer.encode("a<s>b", parse_special=True) == [2, 0, 3]
    with pytest.raises(InvalidInputError, match="'<'"):
        tokenizer.encode("a<s>")


def test_characters_with_unknown_token_and_ends() -> None:
    keys = {
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    }
    tokenizer = Tokenizer.from_metadata({**CHARACTERS, **keys})
    assert tokenizer is not None
    assert tokenizer.encode("az") == [0, 2, 3, 1]
    assert tokenizer.encode("az", add_special_tokens=False) == [2, 3]


def test_another_prefix_holds_another_vocabulary() -> None:
    target = {key.replace("ggml", "target"): value for key, value in CHARACTERS.items()}
    assert Tokenizer.from_metadata(target) is None
    tokenizer = Tokenizer.from_metadata(target, prefix="tokenizer.target.")
    assert tokenizer is not None
    assert tokenizer.encode("ba") == [3, 2]


def test_equal_tokenizers_share_one_instance_of_the_library(source: str) -> None:
    bare = {**json.loads(source), "post_processor": None}
    first, second = made(json.dumps(bare)), made(json.dumps(bare, indent=1))
    assert first._encoder is second._encoder
    assert made(source)._encoder is not first._encoder
    kept = weakref.ref(first._encoder)
    del first, second
    assert kept() is None
