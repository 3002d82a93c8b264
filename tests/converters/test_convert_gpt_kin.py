"""The decoders that came after GPT-2: what of their configurations runs, and how their older folders are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError, ModelFormatError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import golden, same_file, write_folder
from support.probes import llama_cpp
from support.small_models import MODELS


@pytest.mark.parametrize(("name", "change", "message"), [
    ("bloom-tied", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
    ("bloom-tied", {"n_head": 5}, "n_head = 5: does not divide hidden_size = 32"),
    ("bloom-tied", {"n_embed": 64}, "n_embed = 64: is another name of hidden_size = 32"),
    ("bloom-tied", {"n_inner": 64}, r"dense_h_to_4h\.weight.*asks for \(64, 32\)"),
    ("falcon-multi-query", {"alibi": True}, "alibi = True: not supported: .*rounded to bfloat16"),
    ("falcon-multi-query", {"parallel_attn": False}, "parallel_attn = False: not supported"),
    ("falcon-multi-query", {"activation": "relu"}, "activation = 'relu': not supported; known are 'gelu'"),
    ("falcon-multi-query", {"multi_query": False}, r"query_key_value\.weight.*asks for \(96, 32\)"),
    ("falcon-multi-query", {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn = 3: not supported"),
    ("falcon-two-norms", {"num_kv_heads": 4}, "num_kv_heads = 4: does not divide the 6 heads"),
    ("falcon-two-norms", {"num_ln_in_parallel_attn": 1}, "input_layernorm"),
    ("mpt-tied", {"norm_type": "rmsnorm"}, "norm_type = 'rmsnorm': not supported"),
    ("mpt-tied", {"logit_scale": "inv_sqrt_d_model"}, "logit_scale = 'inv_sqrt_d_model': not supported"),
    ("mpt-tied", {"expansion_ratio": 2}, r"up_proj\.weight.*asks for \(64, 32\)"),
    ("mpt-tied", {"attn_config": {"clip_qkv": -6.0}}, "attn_config: clip_qkv = -6.0: must be above 0"),
    ("mpt-tied", {"attn_config": {"alibi": False}}, "attn_config: alibi = False: not supported"),
    ("mpt-tied", {"attn_config": {"prefix_lm": True}}, "prefix_lm = True: not supported"),
    ("mpt-tied", {"attn_config": {"attn_type": "multiquery_attention"}}, "attn_type"),
    ("mpt-tied", {"attn_config": {"kv_n_heads": 2}}, "kv_n_heads = 2 is not known"),
    ("mpt-tied", {"attn_config": {"qk_ln": True}}, "qk_ln = True: not supported"),
    ("mpt-tied", {"no_bias": False}, r"norm_1\.bias"),
    ("gptneox-parallel", {"hidden_act": "silu"}, "hidden_act = 'silu': not supported"),
    ("gptneox-parallel", {"attention_bias": False}, r"tensors of the checkpoint .*query_key_value\.bias|dense\.bias"),
    ("gptneox-parallel", {"rope_parameters": {"partial_rotary_factor": 0.1}}, "cannot be rotated in pairs"),
    ("opt-prenorm", {"activation_function": "silu"}, "activation_function = 'silu': not supported"),
    ("opt-prenorm", {"do_layer_norm_before": False}, r"have no place .*decoder\.final_layer_norm"),
    ("opt-prenorm", {"word_embed_proj_dim": 16}, r"embed_tokens\.weight.*asks for \(90, 16\)"),
    ("opt-prenorm", {"max_position_embeddings": 258}, r"embed_positions\.weight.*asks for \(260, 32\)"),
    ("gptj-partly-rotated", {"rotary_dim": 18}, "rotary_dim = 18: not an even number of the 16 columns"),
    ("gptj-partly-rotated", {"rotary_dim": None}, "rotary_dim = None: not supported"),
    ("gptj-partly-rotated", {"activation_function": "silu"}, "activation_function = 'silu': not supported"),
    ("codegen-four-heads", {"n_head": 5}, "n_head = 5: CodeGen stores its heads in 4 parts"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


def test_bloom_as_first_published_has_no_prefix_and_older_keys(tmp_path: Path) -> None:
    config, tensors = golden("bloom-tied")
    old = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    keys = {"n_embed": 32, "num_attention_heads": 4, "architectures": ["BloomModel"], "n_inner": None}
    keys |= {"offset_alibi": 100, "masked_softmax_fusion": True, "attention_softmax_in_fp32": True}
    old_config = {key: value for key, value in config.items() if key not in ("hidden_size", "n_head")} | keys
    assert same_file(tmp_path, (config, tensors), (old_config, old))


def test_falcon_as_first_published_has_older_keys(tmp_path: Path) -> None:
    config, tensors = golden("falcon-two-norms")
    older = {"hidden_size": "n_embed", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
    older |= {"num_hidden_layers": "n_layer"}
    old = {older.get(key, key): value for key, value in config.items() if key != "new_decoder_architecture"}
    old |= {"model_type": "RefinedWeb", "architectures": ["RWForCausalLM"]}
    old |= {"apply_residual_connection_post_layernorm": False, "ff_factor": 4}
    assert same_file(tmp_path, (config, tensors), (old, tensors))


def test_gptneox_as_first_published_has_older_keys_and_its_masks(tmp_path: Path) -> None:
    config, tensors = golden("gptneox-sequential-one-head")
    old_config = {key: value for key, value in config.items() if key != "rope_parameters"}
    old_config |= {"rotary_pct": 0.4, "rotary_emb_base": 500, "rope_scaling": {"type": "linear", "factor": 2.0}}
    old = dict(tensors)
    old["gpt_neox.layers.0.attention.bias"] = np.tril(np.ones((1, 1, 256, 256), np.float32))
    old["gpt_neox.layers.0.attention.masked_bias"] = np.array(-1e9, np.float32)
    old["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    assert same_file(tmp_path, (config, tensors), ({**old_config, "hidden_act": "gelu_fast"}, old))


def test_gptj_as_first_published_has_its_masks(tmp_path: Path) -> None:
    config, tensors = golden("codegen-four-heads")
    old_config = {**config, "rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False}
    mask = np.tril(np.ones((1, 1, 256, 256), np.float32))
    old = {**tensors, "transformer.h.0.attn.causal_mask": mask, "transformer.h.0.attn.bias": mask}
    old["transformer.h.0.attn.masked_bias"] = np.array(-1e9, np.float32)
    assert same_file(tmp_path, (config, tensors), (old_config, old))


def test_opt_as_first_published_has_another_prefix_and_its_head_twice(tmp_path: Path) -> None:
    config, tensors = golden("opt-prenorm")
    old = {name.removeprefix("model."): array for name, array in tensors.items()}
    old["lm_head.weight"] = old["decoder.embed_tokens.weight"]
    assert same_file(tmp_path, (config, tensors), (config, old))


def test_opts_first_rows_of_positions_are_left_out(tmp_path: Path) -> None:
    _, tensors = golden("opt-prenorm")
    path = convert(cases.FOLDER / "opt-prenorm", tmp_path / "opt.gguf", type="f32").path
    with GGUFFile(path) as file:
        stored = file.dequantize("position_embd.weight")
    np.testing.assert_array_equal(stored, tensors["model.decoder.embed_positions.weight"][2:])


def test_mpts_rarer_forms_are_what_llama_cpp_computes(tmp_path: Path) -> None:
    """Biases and another ALiBi, of which transformers' class knows nothing."""
    config, tensors = golden("mpt-tied")
    rng = np.random.default_rng(0)
    for name, array in list(tensors.items()):
        if name != "transformer.wte.weight":
            tensors[name.replace(".weight", ".bias")] = rng.normal(0, 0.2, len(array)).astype(np.float32)
    config |= {"no_bias": False, "attn_config": {"alibi_bias_max": 5}}
    path = convert(write_folder(tmp_path / "mpt", config, tensors), tmp_path / "mpt.gguf", type="f32").path
    ids = cases.expected("mpt-tied")["ids"].tolist()
    wanted = np.array(llama_cpp("rows", {"path": path, "ids": ids}), np.float32)
    with edgeformer.load(path, kv_type="f32") as model:
        assert cases.relative_error(model.logits(ids), wanted) < 2e-3


@pytest.mark.parametrize(("key", "value"), [("clamp_kqv", -6.0), ("max_alibi_bias", 0.0), ("max_alibi_bias", None)])
def test_forms_of_an_mpt_file_that_are_not_run_are_refused(tmp_path: Path, key: str, value: float | None) -> None:
    path = MODELS["mpt"]().with_metadata(**{f"mpt.attention.{key}": value}).write(tmp_path / "mpt.gguf")
    with pytest.raises((ModelFormatError, UnsupportedModelError), match=rf"mpt\.attention\.{key}.*(outside|ALiBi)"):
        edgeformer.load(path)


def test_a_table_of_alibi_beyond_any_real_models_is_refused(tmp_path: Path) -> None:
    path = MODELS["bloom"]().with_metadata(bloom__context_length=1 << 22).write(tmp_path / "bloom.gguf")
    with pytest.raises(UnsupportedModelError, match=r"bloom\.context_length is 4194304; ALiBi of 4 heads runs over"):
        edgeformer.load(path)
