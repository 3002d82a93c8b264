"""Conversions of real checkpoints, and what llama.cpp makes of the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import edgeformer
import gguf
import numpy as np
import pytest
from edgeformer.converters import ConversionReport, convert
from edgeformer.converters.types.mixes import MIXES
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.text.tokenizer import Tokenizer
from support.probes import llama_cpp

NAMES = ("stories260k-llama", "shakespeare-llama-5m")


def types(report: ConversionReport) -> dict[str, set[str]]:
    """The types of matrices and of vectors."""
    found: dict[str, set[str]] = {"matrix": set(), "vector": set()}
    for tensor in report.tensors:
        found["vector" if len(tensor.shape) == 1 else "matrix"].add(tensor.type)
    return found


def test_both_forms_of_a_checkpoint_give_the_same_file(test_models: Path, tmp_path: Path) -> None:
    files = []
    for weights in ("model.safetensors", "pytorch_model.bin"):
        folder = tmp_path / weights / "stories"
        shutil.copytree(test_models / "stories260k-llama", folder)
        for name in ("model.safetensors", "pytorch_model.bin"):
            if name != weights:
                (folder / name).chmod(0o644)
                folder.chmod(0o755)
                (folder / name).unlink()
        convert(folder, tmp_path / f"{weights}.gguf", type="q8_0")
        files.append((tmp_path / f"{weights}.gguf").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", NAMES)
def test_llama_names_are_those_that_gguf_knows(test_models: Path, tmp_path: Path, name: str) -> None:
    report = convert(test_models / name, tmp_path / "out.gguf", type="q8_0")
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 8)
    reader = gguf.GGUFReader(report.path)
    source = {"stories260k-llama": 5, "shakespeare-llama-5m": 6}[name]
    assert reader.fields["llama.block_count"].contents() == source
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        assert known.get_name(stem) == stem
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    config = json.loads((test_models / name / "config.json").read_text())
    assert len(tokens) == len(kinds) == config["vocab_size"]


def test_minilm(minilm_folder: Path, test_models: Path, tmp_path: Path) -> None:
    report = convert(minilm_folder, tmp_path / "out.gguf", type="q8_0")
    assert types(report) == {"matrix": {"q8_0", "f32"}, "vector": {"f32"}}
    assert max(tensor.error for tensor in report.tensors) < 0.01
    with GGUFFile(report.path) as file:
        metadata = dict(file.metadata)
        assert file.tensors["token_embd.weight"].shape == (30522, 384)
    assert (metadata["bert.pooling_type"], metadata["bert.normalize_embeddings"]) == (1, True)
    assert (metadata["bert.context_length"], metadata["bert.activation"]) == (256, "gelu")
    arrays = {key: value for key, value in metadata.items() if key != "tokenizer.huggingface.json"}
    whole, alone = Tokenizer.from_metadata(metadata), Tokenizer.from_metadata(arrays)
    assert whole is not None and alone is not None
    with np.load(test_models / "minilm-expected" / "expected.npz") as expected:
        for sentence in map(str, expected["sentences"]):
            ids = whole.encode(sentence)
            assert ids == alone.encode(sentence)
            assert (ids[0], ids[-1]) == (101, 102)


def test_transliteration(test_models: Path, tmp_path: Path) -> None:
    folder = test_models / "transliterate-ar-en"
    report = convert(folder, tmp_path / "out.gguf", type="f32")
    with GGUFFile(report.path) as file:
        source = Tokenizer.from_metadata(file.metadata)
        target = Tokenizer.from_metadata(file.metadata, "tokenizer.target.")
        table = file.dequantize("position_embd.weight")
        start = file.metadata["transformer.decoder_start_token_id"]
    assert source is not None and target is not None
    assert (start, target.eos_token_id, target.vocab_size, source.vocab_size) == (1, 2, 43, 51)
    for case in json.loads((folder / "expected.json").read_text()):
        assert source.encode(case["source"]) == case["source_ids"]
        assert target.decode(case["greedy_ids"]) == case["greedy"]
    assert table.shape == (64, 32)
    assert table[0, 0] == pytest.approx(np.sin(1.0))  # position 1 comes first, all sines before all cosines
    assert table[0, 16] == pytest.approx(np.cos(1.0))


# llama.cpp rounds activations in other blocks than we do; choices may differ where logits are nearly equal.
NEARLY_BEST = 0.15


def expected_greedy(folder: Path) -> tuple[list[int], list[int]]:
    """The prompt, and the prompt with torch's greedy continuation."""
    expected = json.loads((folder / "expected.json").read_text())
    if "greedy_from_bos" in expected:
        return expected["greedy_from_bos"][:1], expected["greedy_from_bos"]
    prompt, greedy = expected["prompt_ids"], expected["greedy"]
    return prompt, greedy if greedy[: len(prompt)] == prompt else prompt + greedy


def largest_gap(path: str, start: list[int], ids: list[int]) -> float:
    """How far the logit of any token that was chosen after `start` lies below the best."""
    with edgeformer.load(path, threads=1) as model:
        rows = model.logits(ids)[len(start) - 1 : -1]
    chosen = np.array(ids[len(start) :])
    return float((rows.max(axis=1) - rows[np.arange(len(chosen)), chosen]).max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("type", ["f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "iq4_xs"])
def test_llama_cpp_runs_the_file(test_models: Path, tmp_path: Path, name: str, type: str) -> None:
    """Unquantized, torch's continuation to the last id; else what is best or nearly so here; the same ids of texts."""
    folder = test_models / name
    report = convert(folder, tmp_path / "out.gguf", type=type)
    prompt, greedy = expected_greedy(folder)
    story = (test_models / "text" / "tinystories_sample.txt").read_text()
    texts = ["", "x", "It's 12345  \u00e9t\u00e9\n\n\u65e5\u672c \U0001f389 </s> <|endoftext|>", *story.split("\n")]
    answer = llama_cpp("tokens", {"path": report.path, "texts": texts, "start": prompt, "length": len(greedy)})
    if type in ("f32", "f16"):
        assert answer["ids"] == greedy
    assert largest_gap(report.path, prompt, answer["ids"]) < NEARLY_BEST
    with GGUFFile(report.path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    assert tokenizer is not None
    assert answer["texts"] == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "type",
    ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k", "iq4_xs", "iq4_nl", "q4_1", "q5_0", "q5_1"],
)
def test_files_of_llama_cpp_run_here(test_models: Path, tmp_path: Path, name: str, type: str) -> None:
    """Written by its quantizer: what llama.cpp chooses is best or nearly so here."""
    source, path = str(tmp_path / "f32.gguf"), str(tmp_path / "theirs.gguf")
    convert(test_models / name, source, type="f32")
    prompt, greedy = expected_greedy(test_models / name)
    job = {"path": path, "source": source, "file_type": MIXES[type].file_type, "texts": []}
    ids = llama_cpp("tokens", {**job, "start": prompt, "length": len(greedy)})["ids"]
    assert largest_gap(path, prompt, ids) < NEARLY_BEST
