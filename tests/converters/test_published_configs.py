"""Configurations as the models' publishers wrote them, keys and spelling, with the sizes of the golden checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from golden import cases
from support.checkpoints import write_folder

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "tie_word_embeddings", "use_qkv_bias", "attention_bias", "mlp_bias"),
)
COMMON = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
    "max_position_embeddings": 256,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.0",
    "use_cache": True,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
PHI3 = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "_name_or_path": "Phi-3.5-mini-instruct",
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_window_layers": 21,
    "sliding_window": 131072,
    "use_sliding_window": False,
}

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 3.2": (
        "llama-rope3-head-dim",
        {
            **LLAMA,
            "attention_bias": False,
            "mlp_bias": False,
            "pretraining_tp": 1,
            "rope_theta": 500000.0,
            "eos_token_id": [3, 4, 5],
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 64,
                "rope_type": "llama3",
            },
        },
    ),
    "TinyLlama": ("llama-gqa-tied", {**LLAMA, "pretraining_tp": 1, "rope_scaling": None, "rope_theta": 10000.0}),
    "SmolLM2": (
        "llama-gqa-tied",
        {
            **LLAMA,
            "is_llama_config": True,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 130000,
            "pretraining_tp": 1,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
        },
    ),
    "Mistral Nemo": (
        "mistral-window-yarn",
        {
            **LLAMA,
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "rope_theta": 1000000.0,
            "sliding_window": None,
        },
    ),
    "Qwen2.5": ("qwen2-tied", QWEN2),
    "Qwen2.5 distilled": ("qwen2-tied", {**QWEN2, "use_mrope": False, "sliding_window": 4096}),
    "Qwen2.5, stretched": (
        "qwen2-tied",
        {**QWEN2, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32, "type": "yarn"}},
    ),
    "Qwen3": (
        "qwen3-tied",
        {
            **QWEN2,
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "rope_scaling": None,
            "sliding_window": None,
        },
    ),
    "SmolLM3": (
        "smollm3-tied",
        {
            **LLAMA,
            "architectures": ["SmolLM3ForCausalLM"],
            "model_type": "smollm3",
            "layer_types": ["full_attention"] * 4,
            "max_window_layers": 28,
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "pad_token_id": 4,
            "pretraining_tp": 2,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "use_sliding_window": False,
        },
    ),
    "Phi-2": (
        "phi2-untied",
        {
            "_name_or_path": "microsoft/phi-2",
            "architectures": ["PhiForCausalLM"],
            "model_type": "phi",
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.1,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": False,
            "rope_scaling": None,
            "rope_theta": 10000.0,
        },
    ),
    "Phi-3 mini 4k": (
        "phi3-untied",
        {**PHI3, "original_max_position_embeddings": 256, "rope_scaling": None, "sliding_window": 129},
    ),
    "Phi-3.5 mini": (
        "phi3-untied",
        {
            **PHI3,
            "original_max_position_embeddings": 64,
            "sliding_window": 262144,
            "rope_scaling": {"long_factor": [1.08, 1.1, 1.13, 1.28], "short_factor": [1.0] * 4, "type": "longrope"},
        },
    ),
    "Phi-4 mini": (
        "phi3-longrope",
        {
            **PHI3,
            "full_attn_mod": 1,
            "interpolate_factor": 1,
            "lm_head_bias": False,
            "mlp_bias": False,
            "original_max_position_embeddings": 64,
            "pad_token_id": 2,
            "partial_rotary_factor": 0.75,
            "sliding_window": 262144,
            "rope_scaling": {"long_factor": [1, 1.1, 1.2, 1.3, 1.4, 30], "short_factor": [1.0] * 6, "type": "longrope"},
        },
    ),
    "Phi-4": ("phi3-untied", {**PHI3, "rope_scaling": None, "rope_theta": 250000, "sliding_window": None,
                              "original_max_position_embeddings": 256}),
    "StableLM 2": (
        "stablelm-serial",
        {
            "architectures": ["StableLmForCausalLM"],
            "model_type": "stablelm",
            "hidden_act": "silu",
            "hidden_dropout": 0.0,
            "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.25,
            "qk_layernorm": False,
            "rope_scaling": None,
            "rope_theta": 10000,
            "use_parallel_residual": False,
        },
    ),
    "Granite 3.3": (
        "granite-tied",
        {
            **LLAMA,
            "architectures": ["GraniteForCausalLM"],
            "model_type": "granite",
            "attention_multiplier": 0.015625,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
            "rope_scaling": None,
            "rope_theta": 10000000.0,
        },
    ),
    "Qwen 1.5 MoE": (
        "qwen2moe-shared",
        {
            "architectures": ["Qwen2MoeForCausalLM"],
            "model_type": "qwen2_moe",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "max_window_layers": 21,
            "sliding_window": 32768,
            "use_sliding_window": False,
            "decoder_sparse_step": 1,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
            "num_experts_per_tok": 2,
            "num_experts": 4,
            "norm_topk_prob": False,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        },
    ),
    "Qwen3 30B-A3B": (
        "qwen3moe-tied",
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "max_window_layers": 48,
            "sliding_window": None,
            "use_sliding_window": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "moe_intermediate_size": 32,
            "num_experts_per_tok": 2,
            "num_experts": 4,
            "norm_topk_prob": True,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        },
    ),
    "Mixtral 8x7B": (
        "llama-experts",
        {
            **LLAMA,
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            "num_experts_per_tok": 2,
            "num_local_experts": 4,
            "output_router_logits": False,
            "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.02,
            "sliding_window": None,
        },
    ),
    "gpt-oss 20B": (
        "gpt-oss-mxfp4",
        {
            "architectures": ["GptOssForCausalLM"],
            "model_type": "gpt_oss",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "experts_per_token": 3,
            "num_experts_per_tok": 3,
            "num_local_experts": 4,
            "initial_context_length": 64,
            "layer_types": ["sliding_attention", "full_attention"],
            "output_router_logits": False,
            "pad_token_id": 4,
            "quantization_config": {
                "modules_to_not_convert": [
                    "model.layers.*.self_attn",
                    "model.layers.*.mlp.router",
                    "model.embed_tokens",
                    "lm_head",
                ],
                "quant_method": "mxfp4",
            },
            "rope_scaling": {
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 32.0,
                "original_max_position_embeddings": 64,
                "rope_type": "yarn",
                "truncate": False,
            },
            "rope_theta": 150000,
            "router_aux_loss_coef": 0.9,
            "sliding_window": 128,
            "swiglu_limit": 7.0,
        },
    ),
    "BitNet b1.58 2B": (
        "bitnet-offline",
        {
            "architectures": ["BitNetForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_bitnet.BitNetConfig",
                "AutoModelForCausalLM": "modeling_bitnet.BitNetForCausalLM",
            },
            "model_type": "bitnet",
            "hidden_act": "relu2",
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline",
            },
        },
    ),
    "OLMo 2": (
        "olmo2-untied",
        {
            **LLAMA,
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            "pad_token_id": 4,
            "rope_scaling": None,
            "rope_theta": 500000,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_known_and_the_file_loads(name: str, tmp_path: Path) -> None:
    folder, published = PUBLISHED[name]
    golden = json.loads((cases.FOLDER / folder / "config.json").read_text())
    with open_checkpoint(cases.FOLDER / folder) as checkpoint:
        tensors = {tensor: checkpoint.read(tensor) for tensor in checkpoint.names()}
    config = {key: golden[key] for key in SIZES if key in golden} | COMMON | published
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf")
    with edgeformer.load(report.path, threads=1, n_ctx=64) as model:
        assert len(model.generate([3, 5, 7], max_tokens=4, temperature=0.0).token_ids) <= 4
