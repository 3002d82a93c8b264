"""BERT's relatives: what their configurations and names mean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import write_folder


def folder_like(name: str, folder: Path, renamed: tuple[tuple[str, str], ...] = (), **changes: Any) -> Path:
    """A golden checkpoint with other keys in its configuration, and other names of its tensors by patterns."""
    config = json.loads((cases.FOLDER / name / "config.json").read_text()) | changes
    tensors = stored(name)
    for old, new in renamed:
        tensors = {re.sub(old, new, key): tensor for key, tensor in tensors.items()}
    return write_folder(folder, {key: value for key, value in config.items() if value != "left out"}, tensors)


def stored(name: str) -> dict[str, np.ndarray]:
    """The tensors of a golden checkpoint."""
    with open_checkpoint(cases.FOLDER / name) as checkpoint:
        return {key: checkpoint.read(key) for key in checkpoint.names()}


def contents(path: Path) -> dict[str, np.ndarray]:
    with GGUFFile(path) as file:
        return {name: file.dequantize(name) for name in file.tensors}


def assert_same_model(folder: Path, name: str) -> None:
    first = contents(convert(folder, folder / "out.gguf", type="f32").path)
    second = contents(convert(cases.FOLDER / name, folder / "other.gguf", type="f32").path)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]},
        {"model_type": "camembert", "architectures": ["CamembertModel"]},
        {"model_type": "left out"},
        {"architectures": "left out"},
    ],
)
def test_robertas_are_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_same_model(folder_like("roberta-relu", tmp_path / "model", **changes), "roberta-relu")


def test_a_base_model_inside_a_larger_one_is_found(tmp_path: Path) -> None:
    inside = (("^", "roberta."),)
    assert_same_model(folder_like("roberta-relu", tmp_path / "model", inside), "roberta-relu")


def test_norms_by_tensorflows_names(tmp_path: Path) -> None:
    old = ((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))
    assert_same_model(folder_like("bert-gelu-mean", tmp_path / "model", old), "bert-gelu-mean")


def test_positions_begin_behind_the_padding_token(tmp_path: Path) -> None:
    folder = folder_like("roberta-relu", tmp_path / "model", pad_token_id=4)
    tables = contents(convert(folder, tmp_path / "out.gguf", type="f32").path)
    assert np.array_equal(
        tables["position_embd.weight"], stored("roberta-relu")["embeddings.position_embeddings.weight"][5:]
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("roberta-relu", {"pad_token_id": 149}, "pad_token_id = 149"),
        ("roberta-relu", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("roberta-relu", {"is_decoder": True}, "is_decoder"),
        ("distilbert-narrow", {"activation": "silu"}, "activation = 'silu'"),
        ("distilbert-narrow", {"n_heads": 3}, "n_heads = 3"),
        ("distilbert-narrow", {"trick": 1}, "trick = 1"),
        ("albert-two-groups", {"num_hidden_groups": 3}, "num_hidden_groups = 3"),
        ("albert-two-groups", {"inner_group_num": 2}, "inner_group_num = 2"),
        ("modern-bert-windows", {"layer_types": ["sliding_attention"] * 4}, "layer_types"),
        ("modern-bert-windows", {"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        ("modern-bert-windows", {"rope_scaling": {"type": "linear"}}, "rope_scaling"),
        ("nomic-bert", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("gte-gelu", {"position_embedding_type": "absolute"}, "position_embedding_type = 'absolute'"),
        ("gte-gelu", {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.5}}, "mixed_b = 0.5"),
        ("gte-gelu", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ("deberta-v3", {"relative_attention": False}, "relative_attention = False"),
        ("deberta-v3", {"pos_att_type": "c2p"}, "pos_att_type = 'c2p'"),
        ("deberta-v3", {"pos_att_type": [1, 2]}, "pos_att_type"),
        ("deberta-v3", {"conv_kernel_size": 3}, "conv_kernel_size = 3"),
        ("deberta-v3", {"position_buckets": 300}, "position_buckets = 300"),
        ("deberta-v3", {"max_relative_positions": 5}, "position_buckets = 8"),
        ("deberta-v3", {"attention_head_size": 8}, "attention_head_size = 8"),
        ("deberta-first", {"talking_head": True}, "talking_head = True"),
        ("mpnet-biased", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets = 16"),
        ("mpnet-biased", {"max_position_embeddings": 2}, "max_position_embeddings = 2"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(folder_like(name, tmp_path / "model", **changes), tmp_path / "out.gguf")


def test_shared_layers_are_held_once(tmp_path: Path) -> None:
    held = []
    for layers in (2, 4, 8):
        folder = folder_like("albert-two-groups", tmp_path / str(layers), num_hidden_layers=layers)
        report = convert(folder, tmp_path / f"{layers}.gguf", type="f32")
        with edgeformer.load(report.path) as model:
            held.append((len(report.tensors), model.session.memory["weights"]))
    assert len(set(held)) == 1


def test_an_electra_as_wide_as_its_embeddings_projects_nothing(tmp_path: Path) -> None:
    changes = {"model_type": "electra", "architectures": ["ElectraModel"], "embedding_size": 32}
    folder = folder_like("bert-gelu-mean", tmp_path / "model", **changes)
    convert(folder, tmp_path / "electra.gguf", type="f32")
    convert(cases.FOLDER / "bert-gelu-mean", tmp_path / "bert.gguf", type="f32")
    with edgeformer.load(tmp_path / "electra.gguf") as one, edgeformer.load(tmp_path / "bert.gguf") as other:
        assert np.array_equal(one.hidden_states([5, 6, 7]), other.hidden_states([5, 6, 7]))


NOMIC = {  # as nomic-embed-text-v1.5 has it, but for the sizes
    **{"activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0, "causal": False},
    **{"dense_seq_output": True, "embd_pdrop": 0.0, "fused_bias_fc": True, "fused_dropout_add_ln": True},
    **{"layer_norm_epsilon": 1e-12, "max_trained_positions": 150, "mlp_fc1_bias": False, "mlp_fc2_bias": False},
    **{"model_type": "nomic_bert", "n_embd": 32, "n_head": 8, "n_inner": 64, "n_layer": 2, "n_positions": 600},
    **{"pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False, "prenorm": False},
    **{"qkv_proj_bias": False, "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000},
    **{"rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None},
    **{"rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True},
    **{"summary_type": "cls_index", "type_vocab_size": 2, "use_cache": True, "use_flash_attn": True},
    **{"use_rms_norm": False, "use_xentropy": True, "vocab_size": 83},
}


def test_a_published_nomic_configuration_means_the_same(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", NOMIC, stored("nomic-bert"))
    report = convert(folder, tmp_path / "out.gguf", type="f32")
    convert(cases.FOLDER / "nomic-bert", tmp_path / "other.gguf", type="f32")
    with GGUFFile(report.path) as file, GGUFFile(tmp_path / "other.gguf") as other:
        keys = [key for key in file.metadata if key.startswith("nomic-bert.")]
        assert [file.metadata[key] for key in keys] == [other.metadata[key] for key in keys]
        assert all(np.array_equal(file.dequantize(name), other.dequantize(name)) for name in other.tensors)
    assert any("150 positions" in note for note in report.notes)


@pytest.mark.parametrize(
    "change", [{"causal": True}, {"prenorm": True}, {"rotary_emb_fraction": 0.5}, {"qkv_proj_bias": True}]
)
def test_other_models_of_nomics_code_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match=next(iter(change))):
        convert(write_folder(tmp_path / "model", NOMIC | change, stored("nomic-bert")), tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        (
            "nomic-bert",
            (("encoder.layers", "layers"), ("emb_ln", "embeddings.LayerNorm"), ("attn.out_proj", "self_attn.o_proj"),
             ("fc11", "up_proj"), ("fc12", "gate_proj"), ("fc2", "down_proj"),
             ("norm1", "post_attention_layernorm"), ("norm2", "post_mlp_layernorm")),
        ),
        (
            "gte-gelu",
            (("encoder.layer", "layers"), ("attention.o_proj", "self_attn.o_proj"),
             ("attn_ln", "post_attention_layernorm"), ("mlp_ln", "post_mlp_layernorm")),
        ),
    ],
)  # fmt: skip
def test_names_of_transformers_5_mean_the_same(tmp_path: Path, name: str, names: tuple[tuple[str, str], ...]) -> None:
    tensors: dict[str, np.ndarray] = {}
    for key, tensor in stored(name).items():
        for old, new in names:
            key = key.replace(old, new)
        parts = {"attn.Wqkv": "qkv", "attention.qkv_proj": "qkv", "mlp.up_gate_proj": ("up", "gate")}
        fused = next((old for old in parts if old in key), None)
        place = "mlp" if fused == "mlp.up_gate_proj" else "self_attn"
        split = np.split(tensor, len(parts[fused])) if fused else []
        for part, rows in zip(parts.get(fused, ()), split, strict=True):
            tensors[key.replace(fused or "", f"{place}.{part}_proj")] = rows
        if fused is None:
            tensors[key] = tensor
    config = json.loads((cases.FOLDER / name / "config.json").read_text())
    convert(write_folder(tmp_path / "model", config, tensors), tmp_path / "out.gguf", type="f32")
    convert(cases.FOLDER / name, tmp_path / "other.gguf", type="f32")
    with edgeformer.load(tmp_path / "out.gguf") as one, edgeformer.load(tmp_path / "other.gguf") as other:
        assert np.array_equal(one.hidden_states([5, 6, 7]), other.hidden_states([5, 6, 7]))


def test_the_published_ntk_scaling_of_gte(tmp_path: Path) -> None:
    """Its own code: a base times the factor, and frequencies divided by factor^(2 / columns)."""
    changes = {"model_type": "new", "architectures": ["NewModel"], "position_embedding_type": "rope", "pack_qkv": True}
    changes |= {"rope_parameters": "left out", "rope_theta": 20000, "rope_scaling": {"type": "ntk", "factor": 8.0}}
    folder = folder_like("gte-gelu", tmp_path / "model", (("^", "new."),), **changes)
    with GGUFFile(convert(folder, tmp_path / "out.gguf", type="f32").path) as file:
        base, factor = file.metadata["gte.rope.freq_base"], file.metadata["gte.rope.scaling.factor"]
    exponents = np.arange(0, 20, 2) / 20
    assert np.allclose(base**-exponents / factor, (20000.0 * 8) ** -exponents / 8 ** (2 / 20), rtol=1e-6)


def test_every_third_layer_is_a_pattern_in_either_spelling(tmp_path: Path) -> None:
    old = {"layer_types": "left out", "rope_parameters": "left out", "global_attn_every_n_layers": 3}
    old |= {"global_rope_theta": 500.0, "local_rope_theta": 50.0}
    folder = folder_like("modern-bert-windows", tmp_path / "model", **old)
    convert(folder, tmp_path / "out.gguf", type="f32")
    convert(cases.FOLDER / "modern-bert-windows", tmp_path / "other.gguf", type="f32")
    with GGUFFile(tmp_path / "out.gguf") as one, GGUFFile(tmp_path / "other.gguf") as other:
        assert {k: v for k, v in one.metadata.items() if "name" not in k} == {
            k: v for k, v in other.metadata.items() if "name" not in k
        }


def test_the_kinds_of_debertas_attention_are_a_list_or_a_text(tmp_path: Path) -> None:
    assert_same_model(folder_like("deberta-v3", tmp_path / "model", pos_att_type=["c2p", "p2c"]), "deberta-v3")
