"""Checkpoints of training scripts: nanoGPT's, llama2.c's in all its forms, and stacks of torch's layers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.converters.vocabularies.sentencepiece_model import read_sentencepiece_model
from edgeformer.errors import CheckpointFormatError, ConversionError, EdgeformerError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from golden.cases import FOLDER
from support.file_makers import put, safetensors_of

LLAMA = FOLDER / "llama2c-grouped"
SIZES = {
    "dim": 24,
    "hidden_dim": 36,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": 53,
    "max_seq_len": 160,
}
NORMS = ("attention_norm", "ffn_norm")
MATRICES = (*(f"attention.w{letter}" for letter in "qkvo"), *(f"feed_forward.w{number}" for number in "123"))


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(folder) as checkpoint:
        return {name.removesuffix(".weight"): checkpoint.read(name) for name in checkpoint.names()}


def of_layers(weights: dict[str, np.ndarray], *kinds: str) -> list[np.ndarray]:
    layers = len([name for name in weights if name.endswith("ffn_norm")])
    return [weights[f"layers.{layer}.{kind}"] for kind in kinds for layer in range(layers)]


def binary(
    version: int,
    weights: dict[str, np.ndarray],
    own_output: bool = False,
    group: int = 12,
    known: dict[str, int] = SIZES,
) -> bytes:
    """What llama2.c's export.py writes."""
    sizes = list(known.values())
    angles = np.full((2, known["max_seq_len"], known["dim"] // known["n_heads"] // 2), 9.0, np.float32)
    ends = [weights["output"] + 1] if own_output else []
    if version == 0:
        sizes[5] *= -1 if own_output else 1
        parts = [weights["tok_embeddings"], *of_layers(weights, "attention_norm", *MATRICES[:4], "ffn_norm")]
        parts += [*of_layers(weights, *MATRICES[4:]), weights["norm"], angles, *ends]
        return struct.pack("<7i", *sizes) + b"".join(part.astype("<f4").tobytes() for part in parts)
    start = struct.pack("<Ii7iB", 0x616B3432, version, *sizes, not own_output)
    start += struct.pack("<i", group) if version == 2 else b""
    plain = [*of_layers(weights, *NORMS), weights["norm"]]
    matrices = [weights["tok_embeddings"], *of_layers(weights, *MATRICES), *ends]
    if version == 1:
        plain, matrices = plain + matrices, []
    data = b"".join(part.astype("<f4").tobytes() for part in plain)
    for matrix in matrices:
        groups = matrix.reshape(-1, group)
        scales = (np.abs(groups).max(1) / 127).astype(np.float32)
        data += np.rint(groups / scales[:, None]).astype(np.int8).tobytes() + scales.astype("<f4").tobytes()
    return start.ljust(256, b"\0") + data


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    with GGUFFile(path) as file:
        return {name: file.dequantize(name) for name in file.tensors}


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("own_output", [False, True])
def test_binary_files_hold_what_the_state_dict_holds(version: int, own_output: bool, tmp_path: Path) -> None:
    put(tmp_path / "stories.bin", binary(version, weights_of(LLAMA), own_output))
    convert(LLAMA, tmp_path / "a.gguf", type="f32")
    convert(tmp_path / "stories.bin", tmp_path / "b.gguf", type="f32")
    wanted, found = tensors_of(tmp_path / "a.gguf"), tensors_of(tmp_path / "b.gguf")
    if own_output:
        assert np.array_equal(found.pop("output.weight"), wanted["token_embd.weight"] + 1)
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    with edgeformer.load(tmp_path / "a.gguf") as a, edgeformer.load(tmp_path / "b.gguf") as b:
        assert own_output or np.array_equal(a.logits([5, 6, 7]), b.logits([5, 6, 7]))


def test_binary_files_of_eight_bits_are_groups_times_scales(tmp_path: Path) -> None:
    put(tmp_path / "stories.bin", binary(2, weights_of(LLAMA)))
    convert(tmp_path, tmp_path / "out.gguf", type="f32")
    found = tensors_of(tmp_path / "out.gguf")
    convert(LLAMA, tmp_path / "wanted.gguf", type="f32")
    for name, wanted in tensors_of(tmp_path / "wanted.gguf").items():
        steps = np.abs(wanted.reshape(-1, 12)).max(1, keepdims=True) / 127
        bound = 0 if "norm" in name else 0.501 * steps
        assert (np.abs(found[name] - wanted).reshape(-1, 12) <= bound).all(), name


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_binary_file_of_another_length_is_refused(version: int, change: int, tmp_path: Path) -> None:
    data = binary(version, weights_of(LLAMA))
    put(tmp_path / "stories.bin", data[:change] if change < 0 else data + b"\0")
    with pytest.raises(CheckpointFormatError, match="bytes" if version else "first bytes"):
        open_checkpoint(tmp_path / "stories.bin")


@pytest.mark.parametrize(
    ("at", "value", "error", "what"),
    [
        (4, 3, UnsupportedModelError, "version 3"),
        (8, 0, CheckpointFormatError, "dim is 0"),
        (8, -24, CheckpointFormatError, "dim is -24"),
        (16, 2**31 - 1, CheckpointFormatError, "n_layers"),
        (20, 5, CheckpointFormatError, "do not share"),
        (28, 2**24, CheckpointFormatError, "vocab_size"),
        (37, 0, CheckpointFormatError, "groups of 0"),
        (37, 7, CheckpointFormatError, "groups of 7"),
    ],
)
def test_a_header_that_lies_is_named(at: int, value: int, error: type[Exception], what: str, tmp_path: Path) -> None:
    data = bytearray(binary(2, weights_of(LLAMA)))
    data[at : at + 4] = struct.pack("<i", value)
    put(tmp_path / "stories.bin", bytes(data))
    with pytest.raises(error, match=what):
        open_checkpoint(tmp_path / "stories.bin")


def test_a_width_that_begins_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    """A dim of 128 is the byte 0x80."""
    sizes = {
        "dim": 128,
        "hidden_dim": 4,
        "n_layers": 1,
        "n_heads": 4,
        "n_kv_heads": 4,
        "vocab_size": 3,
        "max_seq_len": 2,
    }
    floats = 3 * 128 + 2 * 128 + 4 * 128 * 128 + 3 * 4 * 128 + 128 + 2 * 2 * 16
    put(tmp_path / "model.bin", struct.pack("<7i", *sizes.values()) + bytes(4 * floats))
    with open_checkpoint(tmp_path / "model.bin") as checkpoint:
        assert checkpoint.config == {"model_type": "llama2.c", **sizes}


def test_the_width_of_the_feed_forward_follows_from_the_multiple(tmp_path: Path) -> None:
    """llama2.c's rule: two thirds of four times the width, up to a multiple: 64 of 24 columns and multiples of 32."""
    config = json.loads((LLAMA / "config.json").read_text())
    del config["hidden_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"multiple_of": 32}))
    (tmp_path / "ckpt.pt").write_bytes((LLAMA / "ckpt.pt").read_bytes())
    with pytest.raises(ConversionError, match=r"\(36, 24\).*\(64, 24\)"):
        convert(tmp_path, tmp_path / "out.gguf")


PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *" abt", " t", " to", "to", "o"]


def tokenizer_binary(pieces: list[str], scores: Sequence[float] = ()) -> bytes:
    """What llama2.c's tokenizer.py writes; without scores the later one of two pieces is joined first."""
    spelled = [piece.encode() for piece in pieces]
    scored = zip(spelled, scores or range(len(pieces)), strict=True)
    entries = [struct.pack("<fi", score, len(raw)) + raw for raw, score in scored]
    return struct.pack("<i", max(map(len, spelled))) + b"".join(entries)


def test_the_vocabulary_of_llama2c_is_read(tmp_path: Path) -> None:
    """Beside weights that have the same end of their name."""
    rng = np.random.default_rng(0)
    weights = weights_of(LLAMA) | {"tok_embeddings": rng.normal(0, 1, (len(PIECES), 24)).astype(np.float32)}
    data = binary(1, weights)
    put(tmp_path / "stories.bin", data[:28] + struct.pack("<i", len(PIECES)) + data[32:])
    put(tmp_path / "tokenizer.bin", tokenizer_binary(PIECES))
    convert(tmp_path, tmp_path / "out.gguf", type="f32")
    with edgeformer.load(tmp_path / "out.gguf") as model:
        ids = model.tokenize("to a\n\u00e9")
        assert [model.tokenizer.token(token) for token in ids] == [
            *("<s>", "\u2581to", "\u2581", "a", "<0x0A>", "<0xC3>", "<0xA9>")
        ]
        assert model.tokenizer.decode(ids) == "to a\n\u00e9"
        assert model.tokenizer.end_token_ids == {2}


def test_a_trained_model_writes_the_same_story(test_models: Path, tmp_path: Path) -> None:
    """The same weights and pieces in llama2.c's own files."""
    folder = test_models / "stories260k-llama"
    config = json.loads((folder / "config.json").read_text())
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    sizes = [config[name] for name in (*names, "vocab_size", "max_position_embeddings")]
    hf = weights_of(folder)

    def pairs_beside_each_other(array: np.ndarray, heads: int) -> np.ndarray:
        return array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)

    weights = {"tok_embeddings": hf["model.embed_tokens"], "norm": hf["model.norm"]}
    renamed = {f"attention.w{letter}": f"self_attn.{letter}_proj" for letter in "qkvo"}
    renamed |= {f"feed_forward.w{i}": f"mlp.{name}_proj" for i, name in zip("123", ("gate", "down", "up"), strict=True)}
    renamed |= {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    for layer in range(sizes[2]):
        own = {ours: hf[f"model.layers.{layer}.{theirs}"] for ours, theirs in renamed.items()}
        for letter, heads in (("q", sizes[3]), ("k", sizes[4])):
            own[f"attention.w{letter}"] = pairs_beside_each_other(own[f"attention.w{letter}"], heads)
        weights |= {f"layers.{layer}.{name}": array for name, array in own.items()}
    put(tmp_path / "stories260K.bin", binary(0, weights, known=dict(zip(SIZES, sizes, strict=True))))
    pieces = read_sentencepiece_model(folder / "tokenizer.model")
    spelled = [piece.replace("\u2581", " ") for piece in pieces.pieces]
    put(tmp_path / "tokenizer.bin", tokenizer_binary(spelled, pieces.scores))
    convert(folder, tmp_path / "wanted.gguf", type="f32")
    convert(tmp_path, tmp_path / "out.gguf", type="f32")
    with edgeformer.load(tmp_path / "wanted.gguf") as wanted, edgeformer.load(tmp_path / "out.gguf") as found:
        ids = wanted.tokenize("Once upon a time, there was a caf\u00e9.")
        assert found.tokenize("Once upon a time, there was a caf\u00e9.") == ids
        assert np.array_equal(found.logits(ids), wanted.logits(ids))
        story = found.generate("Once upon a time", max_tokens=40, temperature=0)
        assert story.token_ids == wanted.generate("Once upon a time", max_tokens=40, temperature=0).token_ids


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "longest piece"),
        (tokenizer_binary(PIECES)[:-1], "length of piece 266"),
        (tokenizer_binary(PIECES) + b"\0", "piece 267.*the file is cut short"),
        (struct.pack("<ifi", 5, 0.0, -1), "length of piece 0"),
        (struct.pack("<ifi", 5, 0.0, 6) + b"abcdef", "length of piece 0"),
        (struct.pack("<ifi", 5, 0.0, 1) + b"\xff", "piece 0.*not UTF-8"),
        (tokenizer_binary(["a", "b"]), "three have a meaning"),
    ],
)
def test_a_damaged_vocabulary_of_llama2c_is_named(data: bytes, what: str, tmp_path: Path) -> None:
    put(tmp_path / "stories.bin", binary(0, weights_of(LLAMA)))
    put(tmp_path / "tokenizer.bin", data)
    with pytest.raises(CheckpointFormatError, match=what):
        convert(tmp_path, tmp_path / "out.gguf")


# Wrappers' prefixes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wrappers_put_before_every_name_is_taken_off(prefix: str, tmp_path: Path) -> None:
    names = ("embed.weight", "module.weight")
    put(tmp_path / "a.safetensors", safetensors_of({prefix + name: np.ones(2, np.float32) for name in names}))
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert sorted(checkpoint.names()) == sorted(names)
        assert checkpoint.read("embed.weight").tolist() == [1, 1]


def test_a_prefix_of_some_names_alone_is_part_of_them(tmp_path: Path) -> None:
    tensors = {"module.a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    put(tmp_path / "a.safetensors", safetensors_of(tensors))
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert sorted(checkpoint.names()) == ["b", "module.a"]


# Stacks

Change = Callable[[dict[str, np.ndarray], dict[str, Any]], None]


def changed(case: str, folder: Path, change: Change) -> Path:
    """A golden checkpoint with changed tensors and configuration."""
    with open_checkpoint(FOLDER / case) as checkpoint:
        tensors = {name: checkpoint.read(name) for name in checkpoint.names()}
    config = json.loads((FOLDER / case / "config.json").read_text())
    change(tensors, config)
    put(folder / "model.safetensors", safetensors_of(tensors))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(folder: Path, out: Path) -> np.ndarray:
    convert(folder, out, type="f32")
    with edgeformer.load(out) as model:
        return model.logits([3, 7, 11, 20])


def test_names_of_a_script_are_found_or_said(tmp_path: Path) -> None:
    wanted = logits(FOLDER / "stack-causal-postnorm", tmp_path / "wanted.gguf")

    def tutorial(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        """As PyTorch's tutorial of language models has them, with its buffer of positions."""
        tensors["decoder.weight"], tensors["decoder.bias"] = tensors.pop("head.weight"), tensors.pop("head.bias")
        layers = {name: tensors.pop(name) for name in list(tensors) if name.startswith("encoder.")}
        tensors |= {f"transformer_{name}": array for name, array in layers.items()}
        tensors["encoder.weight"] = tensors.pop("embedding.weight")
        tensors["pos_encoder.pe"] = np.zeros((200, 1, 32), np.float32)

    def own(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        tensors["words"] = tensors.pop("embedding.weight")
        renamed = {name: tensors.pop(name) for name in list(tensors) if name.startswith("encoder.layers.")}
        tensors |= {name.replace("encoder.layers", "blocks"): array for name, array in renamed.items()}
        tensors["words.weight"] = tensors.pop("words")
        config["names"] = {"embedding": "words", "layers": "blocks.{}"}

    for index, change in enumerate((tutorial, own)):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert np.array_equal(logits(changed("stack-causal-postnorm", folder, change), tmp_path / "out.gguf"), wanted)


def test_positions_may_be_a_buffer_longer_than_the_context(tmp_path: Path) -> None:
    wanted = logits(FOLDER / "stack-causal-tied", tmp_path / "wanted.gguf")

    def change(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        table = tensors.pop("pos_embedding")
        tensors["pos_encoder.pe"] = np.concatenate([table, table], axis=1).reshape(-1, 1, 32)

    assert np.array_equal(logits(changed("stack-causal-tied", tmp_path, change), tmp_path / "out.gguf"), wanted)


@pytest.mark.parametrize(
    ("case", "take", "give", "what"),
    [
        ("stack-decoder-prenorm", "memory", {}, "memory.*zeros.*torch.nn.Transformer"),
        ("stack-decoder-prenorm", "", {"memory": "ones"}, "memory = 'ones'"),
        ("stack-classes-mean", "pooling", {}, "pooling is missing: mean, first, last"),
        ("stack-classes-mean", "", {"pooling": "max"}, "pooling = 'max'"),
        ("stack-classes-mean", "num_classes", {}, "num_classes is missing"),
        ("stack-classes-last", "", {"num_classes": 4}, "num_classes = 4"),
        ("stack-classes-mean", "positional_encoding", {}, "positional_encoding is missing"),
        ("stack-classes-mean", "", {"bias": False}, "bias = False: the tensor encoder.layers.0.linear1.bias"),
        ("stack-classes-mean", "", {"names": {"tail": "x"}}, "tail"),
        ("stack-classes-mean", "", {"names": {"head": "x"}}, "no tensor 'x.weight'"),
        ("stack-classes-last", "", {"max_length": 500}, "max_length = 500"),
        ("stack-classes-mean", "", {"num_layers": 1}, "2 tensors|tensors of the checkpoint have no place"),
        ("stack-causal-tied", "", {"characters": "aa"}, "stands twice"),
        ("stack-causal-tied", "", {"characters": "".join(map(chr, range(100, 200)))}, "45 tokens"),
        ("stack-causal-tied", "", {"layer_norm": 1}, "layer_norm = 1 is not known"),
    ],
)
def test_what_does_not_fit_is_named(case: str, take: str, give: dict[str, Any], what: str, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        config.pop(take, None)
        config |= give

    with pytest.raises(EdgeformerError, match=what):
        convert(changed(case, tmp_path, change), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_stack_without_a_head_makes_vectors(tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        config["head"] = None
        del config["num_classes"], tensors["classifier.weight"], tensors["classifier.bias"]

    convert(changed("stack-classes-mean", tmp_path, change), tmp_path / "out.gguf", type="f32")
    with edgeformer.load(tmp_path / "out.gguf") as model:
        hidden = model.hidden_states([3, 7, 11])
        assert np.allclose(model.encode([[3, 7, 11]], normalize_embeddings=False)[0], hidden.mean(0), atol=1e-6)


def test_classes_have_the_labels_of_the_configuration(tmp_path: Path) -> None:
    convert(FOLDER / "stack-classes-last", tmp_path / "out.gguf", type="f32")
    with edgeformer.load(tmp_path / "out.gguf") as model:
        assert model.session.classifier.labels == ("a", "b", "c", "d", "e")
        assert model.session.classifier.scores == "sigmoid"


def test_characters_of_the_configuration_are_the_vocabulary(tmp_path: Path) -> None:
    """As nanoGPT's Shakespeare has it: a token a character, line ends among them."""
    letters = "\n " + "".join(map(chr, range(97, 145)))

    def change(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> None:
        config["characters"] = letters

    convert(changed("nanogpt-no-biases", tmp_path, change), tmp_path / "out.gguf", type="f32")
    with edgeformer.load(tmp_path / "out.gguf") as model:
        assert model.tokenize("ab\n z") == [2, 3, 0, 1, 27]
        result = model.generate("to be", max_tokens=5)
        assert result.token_ids == model.generate([21, 16, 1, 3, 6], max_tokens=5).token_ids
        assert result.text == "".join(letters[i] for i in result.token_ids)
