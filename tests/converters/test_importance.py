"""Importance weights: measured on text, kept in llama.cpp's file, used by a conversion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import edgeformer
import gguf
import numpy as np
import pytest
from edgeformer.cli import main
from edgeformer.converters import convert
from edgeformer.converters.types.importance import Activations, read_importance, write_importance
from edgeformer.errors import (
    ConversionError,
    InvalidInputError,
    ModelFormatError,
    ModelNotFoundError,
    OutputError,
    UnsupportedModelError,
)
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.tools.calibration import measure_activations
from support.checkpoints import LLAMA, llama_tensors, write_folder

WIDE = {**LLAMA, "hidden_size": 256, "intermediate_size": 512}
TEXT = "Once upon a time, there was a little girl.\n\nShe had a red ball and a big dog.\n"


@pytest.fixture(scope="module")
def stories(test_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("importance") / "stories.gguf"
    convert(test_models / "stories260k-llama", path, type="f32")
    return path


def write_like_llama_cpp(path: Path, sums: dict[str, np.ndarray], counts: dict[str, np.ndarray]) -> None:
    """As llama-imatrix does it: no architecture, two tensors for each matrix, a column for every expert."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("imatrix")
    for name, array in sums.items():
        writer.add_tensor(f"{name}.in_sum2", array.astype(np.float32))
        writer.add_tensor(f"{name}.counts", counts[name].astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_means_are_read_from_llama_cpps_file(tmp_path: Path) -> None:
    sums = {"a.weight": np.array([[2.0, 4.0, 0.0]]), "b.weight": np.array([[1.0]]), "unused.weight": np.zeros((1, 2))}
    counts = {"a.weight": np.array([[4.0]]), "b.weight": np.array([[1.0]]), "unused.weight": np.array([[0.0]])}
    write_like_llama_cpp(tmp_path / "i.gguf", sums, counts)
    means = read_importance(tmp_path / "i.gguf")
    assert {name: mean.tolist() for name, mean in means.items()} == {"a.weight": [0.5, 1.0, 0.0], "b.weight": [1.0]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_importance(tmp_path / "i.gguf", "llama", {"a.weight": Activations(np.array([3.0, 6.0]), 3)})
    assert read_importance(tmp_path / "i.gguf")["a.weight"].tolist() == [1.0, 2.0]
    reader = gguf.GGUFReader(tmp_path / "i.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert [tensor.name for tensor in reader.tensors] == ["a.weight.in_sum2", "a.weight.counts"]


@pytest.mark.parametrize(("sums", "counts"), [
    ([[1.0, np.nan]], [[1.0]]), ([[1.0, -1.0]], [[1.0]]), ([[1.0, 1.0]], [[np.inf]]), ([[1.0], [1.0]], [[1.0], [1.0]]),
    ([[1.0, 1.0]], [[-1.0]]), ([[1e30, 1.0]], [[1e-30]]),
    ([[np.inf, 1.0]], [[np.inf]]),
])  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, sums: list[list[float]], counts: list[list[float]]) -> None:
    write_like_llama_cpp(tmp_path / "i.gguf", {"a": np.array(sums)}, {"a": np.array(counts)})
    with pytest.raises(ModelFormatError, match="tensor 'a'"):
        read_importance(tmp_path / "i.gguf")


def test_other_files_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))
    convert(folder, tmp_path / "model.gguf")
    with pytest.raises(ModelFormatError, match="no importance file"):
        convert(folder, tmp_path / "out.gguf", importance=tmp_path / "model.gguf")
    with pytest.raises(ModelNotFoundError):
        convert(folder, tmp_path / "out.gguf", importance=tmp_path / "missing.gguf")


def test_sums_are_those_of_the_activations(stories: Path) -> None:
    seen = measure_activations(stories, TEXT, max_tokens=40)
    with edgeformer.load(stories) as model, GGUFFile(stories) as file:
        assert model.tokenizer is not None
        ids = model.tokenizer.encode(TEXT)[:40]
        hidden = model.hidden_states(ids).astype(np.float64)
        embedded = file.dequantize("token_embd.weight")[ids].astype(np.float64)
        norm = file.dequantize("blk.0.attn_norm.weight")
        epsilon = file.metadata["llama.attention.layer_norm_rms_epsilon"]
    normed = embedded / np.sqrt((embedded**2).mean(axis=1, keepdims=True) + epsilon) * norm
    for name in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(seen[f"blk.0.{name}.weight"].sums, (normed**2).sum(axis=0), rtol=1e-4)
    output = seen["output.weight" if "output.weight" in seen else "token_embd.weight"]
    np.testing.assert_allclose(output.sums, (hidden**2).sum(axis=0), rtol=1e-2)
    assert {activations.count for activations in seen.values()} == {len(ids)}


def test_weighted_columns_get_fewer_errors(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "wide", WIDE, llama_tensors(WIDE))
    columns = np.where(np.arange(256) % 4 == 0, 100.0, 0.01).astype(np.float32)
    name = "blk.0.attn_v.weight"
    errors = {}
    for label, importance in (("without", None), ("with", {name: columns})):
        convert(folder, tmp_path / f"{label}.gguf", type="q4_k_m", importance=importance)
        with GGUFFile(tmp_path / f"{label}.gguf") as file:
            errors[label] = (file.dequantize(name) - llama_tensors(WIDE)["model.layers.0.self_attn.v_proj.weight"]) ** 2
    assert (errors["with"] * columns).sum() < 0.8 * (errors["without"] * columns).sum()


def test_importance_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))
    with pytest.raises(ConversionError, match="name no tensor"):
        convert(folder, tmp_path / "out.gguf", importance={"x": np.ones(64, np.float32)})
    with pytest.raises(ConversionError, match=r"attn_q.*rows of 64.*\(63,\)"):
        convert(folder, tmp_path / "out.gguf", importance={"blk.0.attn_q.weight": np.ones(63, np.float32)})
    assert not (tmp_path / "out.gguf").exists()


def test_calibrate_answers_in_json_and_keeps_to_its_threads(stories: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once upon a time there was a cat. " * 20)
    script = (
        "import os, sys\n"
        "from edgeformer.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    arguments = ["calibrate", str(stories), str(tmp_path / "text.txt"), str(tmp_path / "i.gguf"), "--json"]
    for threads in {1, min(2, len(os.sched_getaffinity(0)))}:
        command = [sys.executable, "-c", script, *arguments, "--threads", str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        assert int(done.stderr) == threads
        report = json.loads(done.stdout)
        with GGUFFile(tmp_path / "i.gguf") as file:
            assert {f"{name}.in_sum2" for name in report["matrices"]} < file.tensors.keys()
        assert report["tokens"] > 100 and report["output"] == str(tmp_path / "i.gguf")
    assert main([*arguments, "--threads", "2"]) == 1, "in this process NumPy has its threads already"


def test_calibrate_then_convert(stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    importance, out = str(tmp_path / "importance.gguf"), str(tmp_path / "out.gguf")
    assert main(["calibrate", str(stories), str(tmp_path / "text.txt"), importance]) == 0
    assert "tokens" in capsys.readouterr().out
    assert main(["convert", str(stories), out, "--type", "q4_0", "--importance", importance]) == 0
    with edgeformer.load(out) as model:
        assert model.generate("Once", max_tokens=4, seed=1).text


def test_texts_that_cannot_be_used_are_errors(stories: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no tokens"):
        measure_activations(stories, "")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    assert main(["calibrate", str(stories), str(tmp_path / "latin.txt"), str(tmp_path / "i.gguf")]) == 1
    assert main(["calibrate", str(stories), str(tmp_path / "none.txt"), str(tmp_path / "i.gguf")]) == 1
    folder = write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))
    convert(folder, tmp_path / "no-vocabulary.gguf")
    with pytest.raises(UnsupportedModelError, match="no tokenizer"):
        measure_activations(tmp_path / "no-vocabulary.gguf", TEXT)


@pytest.mark.parametrize("max_tokens", [1, 7, 30])
def test_no_more_tokens_are_taken_than_asked_for(stories: Path, max_tokens: int) -> None:
    seen = measure_activations(stories, TEXT, max_tokens=max_tokens)
    assert {activations.count for activations in seen.values()} == {max_tokens}
    with pytest.raises(InvalidInputError, match="at least one token"):
        measure_activations(stories, TEXT, max_tokens=0)


def test_what_is_read_is_not_written_over(stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, text, importance = tmp_path / "model.gguf", tmp_path / "text.txt", tmp_path / "i.gguf"
    model.write_bytes(stories.read_bytes())
    text.write_text(TEXT)
    write_importance(importance, "llama", {"blk.0.attn_q.weight": Activations(np.ones(64), 1)})
    before = {path: path.read_bytes() for path in (model, text, importance)}
    for out in (model, text):
        assert main(["calibrate", str(model), str(text), str(out)]) == 1
        assert "is being read from" in capsys.readouterr().err
    with pytest.raises(OutputError, match="is being read from"):
        convert(model, importance, type="q4_0", importance=importance)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(tmp_path.iterdir()) == sorted(before)


def test_an_importance_file_is_no_model(tmp_path: Path) -> None:
    write_importance(tmp_path / "i.gguf", "llama", {"a.weight": Activations(np.ones(64), 1)})
    with pytest.raises(ConversionError, match="'imatrix', not a model"):
        convert(tmp_path / "i.gguf", tmp_path / "out.gguf")


def test_a_missing_folder_shows_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing" / "i.gguf")
    assert main(["calibrate", str(tmp_path / "no-model.gguf"), str(tmp_path / "no-text.txt"), missing]) == 1
    assert capsys.readouterr().err.count("its folder is not there") == 1
