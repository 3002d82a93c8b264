"""LoRA adapters of PEFT, merged while a checkpoint is converted: W + scale * B A, as PEFT's formula has it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError, InvalidOptionError, ModelNotFoundError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.adapters import LORA, factors, write_adapter
from support.checkpoints import golden, write_folder

NAME = "qwen3-untied-biases"
QUERY, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"


def files_of(tmp_path: Path, name: str, adapter: Path, merged: dict[str, np.ndarray], **more: Any) -> list[bytes]:
    """The file that the adapter gives, and the one that the merged tensors give."""
    config, tensors = golden(name)
    base = write_folder(tmp_path / "a" / "tiny", config, tensors)
    by_hand = write_folder(tmp_path / "b" / "tiny", config, {**tensors, **merged})
    first = convert(base, tmp_path / "a.gguf", type="f32", adapter=adapter, **more).path
    return [Path(first).read_bytes(), Path(convert(by_hand, tmp_path / "b.gguf", type="f32").path).read_bytes()]


def added(weights: np.ndarray, low_rank: tuple[np.ndarray, np.ndarray], scale: float) -> np.ndarray:
    down, up = (half.astype(np.float64) for half in low_rank)
    return (weights + scale * (up @ down)).astype(np.float32)


def close(one: bytes, other: bytes, tmp_path: Path) -> None:
    """The same files but for the last bit of some weights."""
    numbers = []
    for name, raw in (("one", one), ("other", other)):
        (tmp_path / name).write_bytes(raw)
        with GGUFFile(tmp_path / name) as file:
            numbers.append({tensor: file.dequantize(tensor) for tensor in file.tensors})
    assert numbers[0].keys() == numbers[1].keys()
    for tensor, wanted in numbers[1].items():
        np.testing.assert_allclose(numbers[0][tensor], wanted, rtol=1e-6, atol=1e-7, err_msg=tensor)


def test_ranks_and_scales_are_those_of_the_patterns(tmp_path: Path) -> None:
    _, tensors = golden(NAME)
    shapes = {module: tensors[f"{module}.weight"].shape for module in (QUERY, UP)}
    pairs = {QUERY: factors(shapes[QUERY], 3, seed=1), UP: factors(shapes[UP], 5, seed=2)}
    changes = {"r": 3, "lora_alpha": 12, "rank_pattern": {"up_proj": 5}, "alpha_pattern": {r"layers\.0\.mlp\..*": 7}}
    for rooted in (False, True):
        adapter = write_adapter(tmp_path / f"adapter{rooted}", pairs, {**changes, "use_rslora": rooted})
        scales = (12 / math.sqrt(3), 7 / math.sqrt(5)) if rooted else (4, 7 / 5)
        merged = {
            f"{module}.weight": added(tensors[f"{module}.weight"], pairs[module], scale)
            for module, scale in zip((QUERY, UP), scales, strict=True)
        }
        close(*files_of(tmp_path, NAME, adapter, merged), tmp_path)


def test_matrices_of_conv1d_and_embeddings_are_transposed(tmp_path: Path) -> None:
    _, tensors = golden("gpt2-tied")
    module, table = "transformer.h.0.attn.c_attn", "transformer.wte"
    inputs, outputs = tensors[f"{module}.weight"].shape
    low_rank = factors((outputs, inputs), 2, seed=3)
    rows, width = tensors[f"{table}.weight"].shape
    of_table = factors((width, rows), 2, seed=4)
    pairs = {module: low_rank, f"{table}:embedding": of_table}
    adapter = write_adapter(tmp_path / "adapter", pairs, {"r": 2, "lora_alpha": 6, "fan_in_fan_out": True})
    merged = {
        f"{name}.weight": added(tensors[f"{name}.weight"].T, pair, 3.0).T
        for name, pair in ((module, low_rank), (table, of_table))
    }
    merged["lm_head.weight"] = tensors[f"{table}.weight"]  # to which nothing is added, though it is tied
    close(*files_of(tmp_path, "gpt2-tied", adapter, merged), tmp_path)


def test_an_embedding_that_is_saved_whole_too_gets_what_is_added(tmp_path: Path) -> None:
    """As PEFT writes adapters of embeddings."""
    _, tensors = golden("gpt2-tied")
    table = "transformer.wte"
    whole = tensors[f"{table}.weight"]
    pair = factors(whole.shape[::-1], 8, seed=4)
    adapter = write_adapter(tmp_path / "adapter", {f"{table}:embedding": pair}, {},
                            saved={f"{table}.base_layer.weight": whole})  # fmt: skip
    merged = {f"{table}.weight": added(whole.T, pair, 1.0).T, "lm_head.weight": whole}
    close(*files_of(tmp_path, "gpt2-tied", adapter, merged), tmp_path)


def test_modules_to_save_take_the_place_of_the_bases(tmp_path: Path) -> None:
    _, tensors = golden(NAME)
    head = np.random.default_rng(5).normal(size=tensors["lm_head.weight"].shape).astype(np.float32)
    pair = factors(tensors[f"{QUERY}.weight"].shape, 8, seed=6)
    adapter = write_adapter(tmp_path / "adapter", {QUERY: pair}, {"modules_to_save": ["lm_head"]},
                            saved={"lm_head.weight": head})  # fmt: skip
    merged = {f"{QUERY}.weight": added(tensors[f"{QUERY}.weight"], pair, 1.0), "lm_head.weight": head}
    close(*files_of(tmp_path, NAME, adapter, merged), tmp_path)


@pytest.mark.parametrize(("task", "kind", "name"), [
    ("SEQ_CLS", "LlamaForSequenceClassification", "llama-gqa-tied"),
    ("TOKEN_CLS", "Qwen3ForTokenClassification", "qwen3-untied-biases"),
])  # fmt: skip
def test_an_adapter_with_a_head_makes_a_classifier_of_its_base(tmp_path: Path, task: str, kind: str, name: str) -> None:
    config, tensors = golden(name)
    module = "model.layers.0.self_attn.v_proj"
    pair = factors(tensors[f"{module}.weight"].shape, 8, seed=7)
    score = np.random.default_rng(8).normal(size=(3, config["hidden_size"])).astype(np.float32)
    adapter = write_adapter(tmp_path / "adapter", {module: pair}, {"task_type": task, "modules_to_save": ["score"]},
                            saved={"score.weight": score})  # fmt: skip
    base = write_folder(tmp_path / "a" / "tiny", config, tensors)
    merged = {**tensors, f"{module}.weight": added(tensors[f"{module}.weight"], pair, 1.0), "score.weight": score}
    merged.pop("lm_head.weight", None)
    by_hand = write_folder(tmp_path / "b" / "tiny", {**config, "architectures": [kind]}, merged)
    files = [
        convert(base, tmp_path / "a.gguf", type="f32", adapter=adapter).path,
        convert(by_hand, tmp_path / "b.gguf", type="f32").path,
    ]
    close(*(Path(path).read_bytes() for path in files), tmp_path)
    nameless = write_folder(
        tmp_path / "c", {key: value for key, value in config.items() if key != "architectures"}, tensors
    )
    with pytest.raises(ConversionError, match=r"head of its own, and the base's config\.json names no class"):
        convert(nameless, tmp_path / "c.gguf", adapter=adapter)


@pytest.mark.parametrize(("change", "message"), [
    ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
    ({"use_dora": True}, "use_dora = True"),
    ({"bias": "all"}, "bias = 'all'"),
    ({"lora_bias": True}, "lora_bias"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
    ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
    ({"r": 4}, "q_proj.*the rank is 4"),
    ({"rank_pattern": {"q_proj": 2}}, "the rank is 2"),
    ({"rank_pattern": {"q_proj": "2"}}, "rank_pattern .*'2' is not a number above 0"),
    ({"rank_pattern": {"q_(": 2}}, r"rank_pattern .*'q_\(' is no pattern"),
    ({"alpha_pattern": {"(a+)+b": 2}}, r"alpha_pattern .*may take long to match: name the modules"),
    ({"alpha_pattern": {".*.*.*.*b": 2}}, "alpha_pattern .*may take long to match"),
    ({"alpha_pattern": {"q_proj": -1}}, "not a number above 0"),
    ({"lora_alpha": 0}, "an adapter that adds nothing"),
    ({"trainable_token_indices": {"embed_tokens": [1]}}, "trainable_token_indices"),
])  # fmt: skip
def test_adapters_that_are_not_plain_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    adapter = write_adapter(tmp_path / "adapter", {QUERY: factors((40, 24), 8)}, change)
    with pytest.raises(ConversionError, match=message):
        convert(cases.FOLDER / NAME, tmp_path / "out.gguf", adapter=adapter)


def test_adapters_of_other_models_are_refused(tmp_path: Path) -> None:
    _, tensors = golden(NAME)
    shape = tensors[f"{QUERY}.weight"].shape
    other = {"model.layers.9.self_attn.q_proj": factors(shape, 8)}
    for pairs, message in (
        (other, "no matrix 'model.layers.9.self_attn.q_proj'"),
        ({QUERY: factors((shape[0] + 1, shape[1]), 8)}, "and the base's matrix is"),
        ({}, "has no tensors"),
    ):
        adapter = write_adapter(tmp_path / "adapter", pairs, {})
        with pytest.raises(ConversionError, match=message):
            convert(cases.FOLDER / NAME, tmp_path / "out.gguf", adapter=adapter)
    adapter = write_adapter(tmp_path / "adapter", {QUERY: factors(shape, 8)}, {},
                            saved={f"{QUERY}.lora_magnitude_vector": np.ones(shape[0], np.float32)})  # fmt: skip
    with pytest.raises(ConversionError, match=r"lora_magnitude_vector.*is no part of plain LoRA"):
        convert(cases.FOLDER / NAME, tmp_path / "out.gguf", adapter=adapter)


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no adapter_config\.json"):
        convert(cases.FOLDER / NAME, tmp_path / "out.gguf", adapter=tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(LORA))
    with pytest.raises(ModelNotFoundError, match=r"no adapter_model\.safetensors or adapter_model\.bin"):
        convert(cases.FOLDER / NAME, tmp_path / "out.gguf", adapter=tmp_path)
    plain = convert(cases.FOLDER / NAME, tmp_path / "plain.gguf").path
    with pytest.raises(InvalidOptionError, match="not into a GGUF file"):
        convert(plain, tmp_path / "out.gguf", adapter=tmp_path)
