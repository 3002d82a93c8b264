"""Decoders with routed experts: what of their configurations runs, and in which forms their checkpoints come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.engine.session import Session
from edgeformer.errors import ConversionError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import golden, write_folder
from support.small_models import MODELS


@pytest.mark.parametrize(("name", "change", "message"), [
    ("qwen3moe-tied", {"num_local_experts": None}, "num_experts is missing"),
    ("qwen3moe-tied", {"num_experts": 5}, "num_local_experts = 4: is another name of num_experts = 5"),
    ("qwen3moe-tied", {"num_experts_per_tok": 5}, "num_experts_per_tok = 5: is more than the 4 experts"),
    ("qwen3moe-tied", {"moe_intermediate_size": 16}, r"gate_proj\.weight.*asks for \(16, 32\)"),
    ("qwen3moe-tied", {"decoder_sparse_step": 3}, "no layer has experts"),
    ("qwen3moe-tied", {"mlp_only_layers": [0, 1]}, "no layer has experts"),
    ("qwen3moe-tied", {"mlp_only_layers": [1]}, r"layers\.1\.mlp\.gate_proj\.weight"),
    ("qwen3moe-tied", {"use_sliding_window": True}, "use_sliding_window"),
    ("qwen3moe-tied", {"num_hidden_layers": 2**31 - 1}, r"model\.layers\.2\."),
    ("qwen3moe-tied", {"routed_scaling_factor": 2.5}, "routed_scaling_factor = 2.5 is not known"),
    ("qwen2moe-shared", {"shared_expert_intermediate_size": 64}, r"shared_expert\.gate_proj.*asks for \(64, 32\)"),
    ("qwen2moe-shared", {"hidden_act": "gelu"}, "hidden_act"),
    ("qwen2moe-shared", {"qkv_bias": False}, r"q_proj\.bias"),
    ("gpt-oss-mxfp4", {"swiglu_limit": 5.0}, "swiglu_limit = 5.0"),
    ("gpt-oss-mxfp4", {"swiglu_alpha": 1.0}, "swiglu_alpha = 1.0"),
    ("gpt-oss-mxfp4", {"rope_parameters": None}, "rope_parameters is missing"),
    ("gpt-oss-mxfp4", {"experts_per_token": 2}, "is another name of num_experts_per_tok = 3"),
    ("gpt-oss-mxfp4", {"layer_types": ["full_attention"]}, "for each of the 2 layers"),
    ("gpt-oss-mxfp4", {"sliding_window": 0}, "sliding_window = 0"),
    ("gpt-oss-mxfp4", {"quantization_config": {"quant_method": "fp8"}}, "quant_method = 'fp8'"),
    ("gpt-oss-mxfp4", {"intermediate_size": 64}, r"asks for uint8 of \(4, 128, 2, 16\)"),
    ("gpt-oss-mxfp4", {"intermediate_size": 48}, r"is uint8 .*asks for uint8 of \(4, 96, 2, 16\)"),
    ("gpt-oss-mxfp4", {"num_hidden_layers": 2**31 - 1}, r"model\.layers\.2\."),
    ("gpt-oss-floats", {"tie_word_embeddings": True}, "tie_word_embeddings"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


@pytest.mark.parametrize("name", ["qwen3moe-dense-layer", "qwen2moe-shared"])
def test_experts_stacked_in_the_checkpoint_give_the_same_file(tmp_path: Path, name: str) -> None:
    config, tensors = golden(name)
    stacked = {key: array for key, array in tensors.items() if ".experts." not in key}
    for layer in range(config["num_hidden_layers"]):
        mixture = f"model.layers.{layer}.mlp.experts"
        if f"{mixture}.0.up_proj.weight" in tensors:
            experts = [
                {part: tensors[f"{mixture}.{i}.{part}_proj.weight"] for part in ("gate", "up", "down")}
                for i in range(4)
            ]
            stacked[f"{mixture}.gate_up_proj"] = np.stack([np.vstack([e["gate"], e["up"]]) for e in experts])
            stacked[f"{mixture}.down_proj"] = np.stack([expert["down"] for expert in experts])
    files = [convert(write_folder(tmp_path / side / "tiny", config, some), tmp_path / f"{side}.gguf", type="f32").path
             for side, some in (("apart", tensors), ("stacked", stacked))]  # fmt: skip
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()


def experts_of(path: Path) -> tuple[set[str], dict[str, np.ndarray]]:
    """Types of the experts of a file, and their numbers."""
    with GGUFFile(path) as file:
        names = [name for name in file.tensors if name.endswith("exps.weight")]
        return {file.tensors[name].type_name for name in names}, {name: file.dequantize(name) for name in names}


def test_experts_in_mxfp4_stay_what_they_are(tmp_path: Path) -> None:
    """But where floats are asked for, and those are the same numbers, or where another type is named for them."""
    files: dict[str, tuple[set[str], dict[str, np.ndarray]]] = {}
    for type_name in ("f32", "f16", "q8_0", "q4_k_m", "mxfp4"):
        report = convert(cases.FOLDER / "gpt-oss-mxfp4", tmp_path / f"{type_name}.gguf", type=type_name)
        files[type_name] = experts_of(Path(report.path))
        kept = [tensor for tensor in report.tensors if tensor.name.endswith("exps.weight")]
        assert all(tensor.error == 0 for tensor in kept)
        assert all(("loses twice" in tensor.reason) == (type_name in ("q8_0", "q4_k_m")) for tensor in kept)
    assert [files[name][0] for name in files] == [{"f32"}, {"f16"}, {"mxfp4"}, {"mxfp4"}, {"mxfp4"}]
    for _, numbers in files.values():
        assert all(np.array_equal(numbers[name], wanted) for name, wanted in files["f32"][1].items())
    overrides = {"*ffn_up_exps.weight": "q4_0"}
    other = convert(cases.FOLDER / "gpt-oss-mxfp4", tmp_path / "o.gguf", type="q8_0", overrides=overrides)
    assert experts_of(Path(other.path))[0] == {"mxfp4", "q4_0"}


@pytest.mark.parametrize("name", ["gpt-oss-mxfp4", "qwen2moe-shared", "bitnet-packed"])
def test_a_model_without_a_head_makes_vectors(tmp_path: Path, name: str) -> None:
    """As sentence-transformers has it: the last row, of length 1."""
    config, tensors = golden(name)
    bare = {key.removeprefix("model."): array for key, array in tensors.items() if key != "lm_head.weight"}
    kind = {"gpt_oss": "GptOssModel", "qwen2_moe": "Qwen2MoeModel", "bitnet": "BitNetModel"}[config["model_type"]]
    folder = write_folder(tmp_path / "tiny", {**config, "architectures": [kind]}, bare)
    (folder / "1_Pooling").mkdir()
    kinds = (("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    ids = cases.expected(name)["ids"].tolist()
    path = convert(folder, tmp_path / "vectors.gguf", type="f32").path
    with edgeformer.load(path, kv_type="f32", threads=1) as model:
        vectors = model.encode([ids, ids[:5]])
        assert "generate" not in model.verbs
    last = cases.expected(name)["hidden"][-1]
    assert np.allclose(vectors[0], last / np.linalg.norm(last), atol=1e-5)
    assert np.isclose(np.linalg.norm(vectors[1]), 1)


def test_a_file_whose_experts_are_tensors_of_their_own_is_refused(tmp_path: Path) -> None:
    model = MODELS["qwen3moe"]()
    name = "blk.0.ffn_gate_exps.weight"
    shape = model.shapes[name][1:]
    path = model.with_shape(name, None).with_shape("blk.0.ffn_gate.0.weight", shape).write(tmp_path / "early.gguf")
    with pytest.raises(UnsupportedModelError, match=r"the experts of blk\.0 are tensors of their own"):
        Session.open(path)
