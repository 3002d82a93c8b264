"""State dicts of torch.nn.Transformer: names, the split projections, tables of positions, vocabularies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.text.tokenizer import Tokenizer
from support.checkpoints import TRANSFORMER, transformer_tensors, write_folder


def converted(tmp_path: Path, tensors: dict[str, np.ndarray] | None = None, **changes: Any) -> GGUFFile:
    config = {**TRANSFORMER, **changes}
    folder = write_folder(tmp_path / "tiny", config, transformer_tensors(config) if tensors is None else tensors)
    convert(folder, tmp_path / "out.gguf", type="f32")
    return GGUFFile(tmp_path / "out.gguf")


def positions(**encoding: Any) -> dict[str, Any]:
    return {"positional_encoding": {**TRANSFORMER["positional_encoding"], **encoding}}


def test_metadata(tmp_path: Path) -> None:
    with converted(tmp_path, scale_embedding=True) as file:
        keys = {key[12:]: value for key, value in file.metadata.items() if key.startswith("transformer.")}
    assert keys.pop("attention.layer_norm_epsilon") == pytest.approx(1e-5)
    assert keys.pop("embedding_scale") == pytest.approx(math.sqrt(32))
    assert keys == {
        "context_length": 16,
        "embedding_length": 32,
        "block_count": 1,
        "decoder_block_count": 2,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "norm_first": False,
        "activation": "gelu",
        "decoder_start_token_id": 1,
    }


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_every_tensor_comes_from_the_one_of_its_name(tmp_path: Path, prefix: str) -> None:
    source = transformer_tensors(TRANSFORMER)
    renamed = {name.replace("transformer.", prefix): array for name, array in source.items()}
    names = {
        "enc.token_embd.weight": "src_embed.weight",
        "dec.token_embd.weight": "tgt_embed.weight",
        "output.weight": "generator.weight",
        "output.bias": "generator.bias",
        "enc.output_norm.bias": "transformer.encoder.norm.bias",
        "enc.blk.0.attn_norm.weight": "transformer.encoder.layers.0.norm1.weight",
        "enc.blk.0.ffn_norm.weight": "transformer.encoder.layers.0.norm2.weight",
        "dec.blk.1.attn_norm.weight": "transformer.decoder.layers.1.norm1.weight",
        "dec.blk.1.cross_attn_norm.weight": "transformer.decoder.layers.1.norm2.weight",
        "dec.blk.1.ffn_norm.weight": "transformer.decoder.layers.1.norm3.weight",
        "dec.blk.1.attn_output.bias": "transformer.decoder.layers.1.self_attn.out_proj.bias",
        "dec.blk.1.cross_attn_output.weight": "transformer.decoder.layers.1.multihead_attn.out_proj.weight",
        "dec.blk.1.ffn_up.weight": "transformer.decoder.layers.1.linear1.weight",
        "dec.blk.1.ffn_down.bias": "transformer.decoder.layers.1.linear2.bias",
    }
    with converted(tmp_path, renamed) as file:
        for target, name in names.items():
            assert np.array_equal(file.dequantize(target), source[name])
        for part, rows in (("q", slice(0, 32)), ("k", slice(32, 64)), ("v", slice(64, 96))):
            stacked = source["transformer.decoder.layers.1.multihead_attn.in_proj_weight"]
            assert np.array_equal(file.dequantize(f"dec.blk.1.cross_attn_{part}.weight"), stacked[rows])
            stacked = source["transformer.encoder.layers.0.self_attn.in_proj_bias"]
            assert np.array_equal(file.dequantize(f"enc.blk.0.attn_{part}.bias"), stacked[rows])


@pytest.mark.parametrize("layout", ["interleaved", "concatenated"])
@pytest.mark.parametrize("spelling", ["log(10000)/(d_model/2)", "log(10000)/(d_model/2-1)"])
@pytest.mark.parametrize("first", [0, 1])
def test_sinusoidal_positions(tmp_path: Path, layout: str, spelling: str, first: int) -> None:
    with converted(tmp_path, **positions(layout=layout, log_timescale=spelling, first_position=first)) as file:
        table = file.dequantize("position_embd.weight")
        assert file.tensors["position_embd.weight"].type == 0
    steps = 32 / 2 - (1 if spelling.endswith("-1)") else 0)
    for row in (0, 5, 15):
        for pair in (0, 1, 7, 15):
            angle = (row + first) * 10000 ** (-pair / steps)
            sine, cosine = (2 * pair, 2 * pair + 1) if layout == "interleaved" else (pair, 16 + pair)
            assert table[row, sine] == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[row, cosine] == pytest.approx(math.cos(angle), abs=1e-7)


def test_learned_positions_and_none(tmp_path: Path) -> None:
    tables = {
        name: np.full((16, 32), i, np.float32)
        for i, name in enumerate(("src_pos_embed.weight", "tgt_pos_embed.weight"))
    }
    learned = {"positional_encoding": {"type": "learned"}}
    with converted(tmp_path, {**transformer_tensors(TRANSFORMER), **tables}, **learned) as file:
        assert file.dequantize("enc.position_embd.weight").max() == 0
        assert file.dequantize("dec.position_embd.weight").min() == 1
    with converted(tmp_path, **{"positional_encoding": {"type": "none"}}) as file:
        assert not file.dequantize("position_embd.weight").any()


def test_one_embedding_for_all(tmp_path: Path) -> None:
    source = transformer_tensors({**TRANSFORMER, "src_vocab_size": 13})
    shared = {name: array for name, array in source.items() if "embed" not in name and name != "generator.weight"}
    shared["embed.weight"] = source["tgt_embed.weight"]
    with converted(tmp_path, shared, src_vocab_size=13, tie_generator=True) as file:
        assert file.tensors["token_embd.weight"].shape == (13, 32)
        assert not {"enc.token_embd.weight", "dec.token_embd.weight", "output.weight"} & file.tensors.keys()


def test_without_biases(tmp_path: Path) -> None:
    with converted(tmp_path, transformer_tensors(TRANSFORMER, bias=False)) as file:
        assert not file.dequantize("enc.blk.0.attn_norm.bias").any()
        assert not {"output.bias", "enc.blk.0.attn_q.bias", "enc.blk.0.ffn_up.bias"} & file.tensors.keys()


def test_a_bias_that_is_missing_from_one_layer_is_named(tmp_path: Path) -> None:
    tensors = transformer_tensors(TRANSFORMER)
    del tensors["transformer.decoder.layers.1.linear1.bias"]
    with pytest.raises(ConversionError, match=r"dec\.blk\.1\.ffn_up\.bias"):
        converted(tmp_path, tensors)


def test_character_vocabularies(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "source.txt").write_text("<blank>\n<s>\n</s>\n" + "\n".join("abcdefgh"), encoding="utf-8")
    (folder / "target.txt").write_text("<blank>\n<s>\n</s>\n" + "\n".join("zyxwvutsrq"), encoding="utf-8")
    files = {"tokenizer": "characters", "source_vocabulary": "source.txt", "target_vocabulary": "target.txt"}
    with converted(tmp_path, **files) as file:
        source = Tokenizer.from_metadata(file.metadata)
        target = Tokenizer.from_metadata(file.metadata, "tokenizer.target.")
    assert source is not None and target is not None
    assert source.encode("abh") == [3, 4, 10]
    assert (target.decode([1, 3, 12, 2]), target.eos_token_id, target.vocab_size) == ("zq", 2, 13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "swish"}, "activation = 'swish'"),
        ({"nhead": 5}, "nhead = 5"),
        ({"positional_encoding": None}, "positional_encoding is missing"),
        (positions(type="rotary"), "type = 'rotary'"),
        (positions(log_timescale="log(9)"), r"log_timescale = 'log\(9\)'"),
        (positions(trick=1), "trick = 1"),
        ({"trick": 1}, "trick = 1"),
        ({"bos_token_id": 13}, "bos_token_id, which a target begins with"),
        ({"bos_token_id": None}, "bos_token_id, which a target begins with"),
        ({"tokenizer": "words"}, "tokenizer = 'words'"),
        ({"tokenizer": "characters"}, "source_vocabulary is missing"),
        ({"tokenizer": "characters", "source_vocabulary": "../x", "target_vocabulary": "y"}, "outside"),
        ({"bias": False}, "bias = False"),
        ({"bias": True}, None),
        ({"tie_generator": True}, None),
        ({"positional_encoding": {"type": "sinusoidal"}}, "layout is missing"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    if message is None:
        converted(tmp_path, **change).close()
        return
    with pytest.raises(ConversionError, match=message):
        converted(tmp_path, **change)
