"""The decoders that came after GPT-2: what of their configurations runs, and how their older folders are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from support.checkpoints import golden, write_folder


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
    old |= {"apply_residual_connection_post_layernorm": False}
    assert same_file(tmp_path, (config, tensors), (old, tensors))


def same_file(folder: Path, *sides: tuple[dict[str, Any], dict[str, np.ndarray]]) -> bool:
    """Whether all these checkpoints become the same bytes."""
    files = [
        convert(write_folder(folder / str(i) / "tiny", *side), folder / f"{i}.gguf", type="f32").path
        for i, side in enumerate(sides)
    ]
    return len({Path(file).read_bytes() for file in files}) == 1
