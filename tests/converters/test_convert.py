"""The flow of a conversion: what is written, what is said about it, what is refused, how much memory it takes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.types.mixes import MIXES
from edgeformer.converters.types.policy import Policy
from edgeformer.errors import ConversionError, InvalidOptionError, ModelNotFoundError, OutputError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import LLAMA, llama_tensors, write_folder, write_safetensors

# Largest error of a matrix of normally distributed weights, relative to the weights (root mean squares).
ERRORS = {
    "f32": 0.0, "f16": 3e-4, "bf16": 3e-3, "q8_0": 0.01, "i8_row": 0.01, "q6_k": 0.02, "q5_k": 0.05, "q5_1": 0.05,
    "q5_0": 0.06, "q4_k": 0.09, "q4_1": 0.1, "q4_0": 0.12, "iq4_nl": 0.09, "iq4_xs": 0.09, "mxfp4": 0.15, "q3_k": 0.2,
    "q2_k": 0.35, "tq1_0": 0.7, "tq2_0": 0.7,
}  # fmt: skip
WIDE = {**LLAMA, "hidden_size": 256, "intermediate_size": 512}  # rows of whole blocks of any type


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))


@pytest.mark.parametrize("name", MIXES)
def test_every_type(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "wide", WIDE, llama_tensors(WIDE))
    report = convert(folder, tmp_path / "out.gguf", type=name)
    mix = MIXES[name]
    assert (report.architecture, report.type) == ("llama", mix.name)
    types = {tensor.name: tensor.type for tensor in report.tensors}
    assert types["blk.0.attn_norm.weight"] == "f32"
    assert types["blk.0.attn_q.weight"] == mix.type
    assert types["output.weight"] == (mix.output or mix.type)
    for tensor in report.tensors:
        assert tensor.error <= ERRORS[tensor.type]
    assert report.nbytes == sum(tensor.nbytes for tensor in report.tensors)
    original = llama_tensors(WIDE)["lm_head.weight"]
    with GGUFFile(report.path) as file:
        assert file.metadata["general.file_type"] == mix.file_type
        written = file.dequantize("output.weight")
    error = np.sqrt(np.mean((written - original) ** 2) / np.mean(original**2))
    reported = next(tensor for tensor in report.tensors if tensor.name == "output.weight")
    assert error == pytest.approx(reported.error, rel=1e-3, abs=1e-7)


def test_another_reader_sees_the_same(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    report = convert(folder, tmp_path / "out.gguf")
    reader = gguf.GGUFReader(report.path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert (fields["general.name"], fields["general.file_type"]) == ("tiny", 7)
    assert json.loads(fields["general.generation.json"]) == {"temperature": 0.5}
    assert fields["tokenizer.ggml.model"] == "no_vocab"
    assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in report.tensors]
    assert [tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors] == [t.shape for t in report.tensors]
    weights = gguf.quants.dequantize(reader.tensors[-1].data, reader.tensors[-1].tensor_type)
    with GGUFFile(report.path) as file:
        assert np.array_equal(weights, file.dequantize(reader.tensors[-1].name))


def test_rows_that_are_no_whole_blocks_become_f16_with_the_reason(tmp_path: Path) -> None:
    config = {**LLAMA, "intermediate_size": 90}
    folder = write_folder(tmp_path / "odd", config, llama_tensors(config))
    report = convert(folder, tmp_path / "out.gguf", type="q4_0")
    tensors = {tensor.name: tensor for tensor in report.tensors}
    assert tensors["blk.0.ffn_down.weight"].type == "f16"
    assert "rows of 90" in tensors["blk.0.ffn_down.weight"].reason
    assert tensors["blk.0.ffn_up.weight"].type == "q4_0"


def test_overrides(folder: Path, tmp_path: Path) -> None:
    overrides = {"token_embd.*": "f16", "blk.*.ffn_*.weight": "q8_0"}
    report = convert(folder, tmp_path / "out.gguf", type="q4_0", overrides=overrides)
    types = {tensor.name: tensor.type for tensor in report.tensors}
    assert types["token_embd.weight"] == "f16"
    assert types["blk.1.ffn_gate.weight"] == types["blk.0.ffn_norm.weight"] == "q8_0"
    assert types["blk.0.attn_q.weight"] == "q4_0"
    with pytest.raises(InvalidOptionError, match="'blok"):
        convert(folder, tmp_path / "no.gguf", overrides={"blok.*": "f16"})
    with pytest.raises(ConversionError, match="ffn_down"):
        config = {**LLAMA, "intermediate_size": 90}
        odd = write_folder(tmp_path / "odd", config, llama_tensors(config))
        convert(odd, tmp_path / "no.gguf", type="f16", overrides={"*ffn_down*": "q8_0"})
    with pytest.raises(InvalidOptionError, match="'q9_9'"):
        convert(folder, tmp_path / "no.gguf", type="q9_9")
    assert not (tmp_path / "no.gguf").exists()


def test_small_tables_stay_exact() -> None:
    shapes = {"position_embd.weight": (64, 64), "token_types.weight": (2, 64), "blk.0.attn_q.bias": (64,)}
    assert {choice.type.name for choice in Policy("q4_0").choose(shapes).values()} == {"f32"}


def test_progress_names_every_tensor(folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = convert(folder, tmp_path / "out.gguf", progress=lambda *call: calls.append(call))
    count = len(report.tensors)
    assert calls == [(tensor.name, index, count) for index, tensor in enumerate(report.tensors)]


def test_from_gguf_to_gguf(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text('{"top_k": 3}')
    convert(folder, tmp_path / "f32.gguf", type="f32")
    convert(folder, tmp_path / "direct.gguf", type="q8_0")
    report = convert(tmp_path / "f32.gguf", tmp_path / "again.gguf", type="q8_0")
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()
    assert report.architecture == "llama"
    convert(tmp_path / "direct.gguf", tmp_path / "same.gguf", type="q8_0")
    assert (tmp_path / "same.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()
    with pytest.raises(ConversionError, match=r"token_embd.*q8_0.*unquantized"):
        convert(tmp_path / "direct.gguf", tmp_path / "no.gguf", type="q4_0")
    with pytest.raises(OutputError):
        convert(tmp_path / "f32.gguf", tmp_path / "f32.gguf")


def test_a_single_file_with_its_configuration_beside_it(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "a.gguf")
    convert(folder / "model.safetensors", tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        convert(tmp_path / "missing", tmp_path / "out.gguf")
    with pytest.raises(ModelNotFoundError):
        convert(tmp_path, tmp_path / "out.gguf")
    write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(3, np.float32)})
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        convert(tmp_path, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type = 'mamba'"),
        ({"model_type": None}, None),
        ({"architectures": ["LlamaForSpeech"]}, "LlamaForSpeech"),
        ({"new_trick": 0.5}, "new_trick = 0.5"),
        ({"new_trick": False}, "new_trick = False"),
        ({"new_trick": None}, None),
        ({"rotary_dropout": 0.1, "mlp_pdrop": 0.1, "head_dropout_prob": 0.1, "summary_type": "mean"}, None),
        ({"dropout_of": "rows"}, "dropout_of = 'rows'"),
        ({"hidden_size": "64"}, "hidden_size = '64'"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"vocab_size": 2**31}, "vocab_size"),
    ],
)
def test_keys_are_read_or_harmless_or_refused(tmp_path: Path, change: dict[str, object], message: str | None) -> None:
    folder = write_folder(tmp_path / "tiny", {**LLAMA, **change}, llama_tensors(LLAMA))
    if message is None:
        assert convert(folder, tmp_path / "out.gguf").architecture == "llama"
        return
    with pytest.raises(ConversionError, match=message):
        convert(folder, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_missing_and_left_over_tensors_and_wrong_shapes_are_named(tmp_path: Path) -> None:
    tensors = llama_tensors(LLAMA)
    missing = {name: array for name, array in tensors.items() if name != "model.layers.1.mlp.up_proj.weight"}
    with pytest.raises(ConversionError, match=r"no tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        convert(write_folder(tmp_path / "a", LLAMA, missing), tmp_path / "out.gguf")
    extra = {**tensors, "model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}
    with pytest.raises(ConversionError, match=r"1 tensors .* 'model\.layers\.0\.self_attn\.q_norm\.weight'"):
        convert(write_folder(tmp_path / "b", LLAMA, extra), tmp_path / "out.gguf")
    wrong = {**tensors, "model.norm.weight": np.ones(63, np.float32)}
    with pytest.raises(ConversionError, match=r"'model\.norm\.weight' has shape \(63,\).*\(64,\)"):
        convert(write_folder(tmp_path / "c", LLAMA, wrong), tmp_path / "out.gguf")


def test_weights_that_are_not_finite_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    tensors = llama_tensors(LLAMA)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.inf
    with pytest.raises(ConversionError, match=r"blk\.1\.ffn_up\.weight"):
        convert(write_folder(tmp_path / "tiny", LLAMA, tensors), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_one_tensor_in_memory_at_a_time(tmp_path: Path) -> None:
    """Three shards of eight equal layers: the peak is that of a tensor or two, not of the model."""
    config = {**LLAMA, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8, "num_key_value_heads": 4}
    tensors = llama_tensors(config)
    folder = write_folder(tmp_path / "big", config, {})
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    weight_map = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for shard in set(weight_map.values()):
        write_safetensors(folder / shard, {name: tensors[name] for name in names if weight_map[name] == shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    total, largest = sum(a.nbytes for a in tensors.values()), max(a.nbytes for a in tensors.values())
    del tensors
    tracemalloc.start()
    try:
        report = convert(folder, tmp_path / "out.gguf", type="q8_0")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.nbytes > total / 5
    assert peak < 8 * largest < total / 3
