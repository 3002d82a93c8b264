"""The commands that work on model files, run in this process."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.cli import main
from edgeformer.errors import ModelNotFoundError
from edgeformer.tools.demo import CHECKPOINT
from golden import cases
from support.checkpoints import LLAMA, llama_tensors, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def dates(folder: Path) -> str:
    """The demo's encoder-decoder."""
    path = str(folder / "dates.gguf")
    assert main(["convert", str(CHECKPOINT), path, "--type", "f32"]) == 0
    return path


@pytest.fixture(scope="module")
def llama(folder: Path, test_models: Path) -> str:
    path = str(folder / "llama.gguf")
    assert main(["convert", str(test_models / "stories260k-llama"), path]) == 0
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path, minilm_folder: Path) -> str:
    path = str(folder / "minilm.gguf")
    assert main(["convert", str(minilm_folder), path]) == 0
    return path


def type_on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """stdout of a command that succeeds and writes nothing on stderr."""
    capsys.readouterr()
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(run(capsys, *arguments, "--json"))


def test_convert_reports_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.gguf"
    report = run_json(capsys, "convert", str(CHECKPOINT), str(path), "--type", "q4_0")
    names = {tensor["name"] for tensor in report["tensors"]}
    assert {"enc.blk.0.attn_q.weight", "dec.blk.0.cross_attn_k.weight", "output.weight"} <= names
    inspected = run_json(capsys, "inspect", str(path))
    assert names == {tensor["name"] for tensor in inspected["tensors"]}


def test_convert_ends_with_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "small.gguf")
    out = run(capsys, "convert", str(CHECKPOINT), path)
    tensors = run_json(capsys, "convert", str(CHECKPOINT), path)["tensors"]
    blocks = [tensor for tensor in tensors if tensor["type"] == "q8_0"]
    worst = max(blocks, key=lambda tensor: tensor["error"])
    [row] = [line for line in out.splitlines() if " q8_0 " in line]
    for part in (len(blocks), "8.50", f"{100 * worst['error']:.2f} %", worst["name"]):
        assert f" {part} " in row
    bits = 8 * sum(t["nbytes"] for t in tensors) / sum(math.prod(t["shape"]) for t in tensors)
    size = f"{sum(t['nbytes'] for t in tensors) / 1024:.1f} KiB"
    assert out.splitlines()[-1].endswith(f"{len(tensors)} tensors, {size}, {bits:.2f} bits a weight")
    rows = [name for name in (tensor["name"] for tensor in tensors) if name in out]
    assert len(rows) <= 2  # the worst of each type
    out = run(capsys, "convert", str(CHECKPOINT), path, "--verbose")
    assert all(tensor["name"] in out for tensor in tensors)


def test_convert_says_why_a_type_is_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {**LLAMA, "intermediate_size": 90}
    folder = write_folder(tmp_path / "odd", config, llama_tensors(config))
    out = run(capsys, "convert", str(folder), str(tmp_path / "odd.gguf"), "--type", "q4_0")
    assert "note: 2 tensors: " in out and "rows of 90" in out


@pytest.mark.parametrize(
    ("name", "near"), [("q4", "q4_0"), ("int8", "q8_0 or i8_row"), ("q5_k_l", "q5_k"), ("fp16", "f16")]
)
def test_a_type_that_is_not_known_suggests_one(
    name: str, near: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(CHECKPOINT), str(tmp_path / "small.gguf"), "--type", name]) == 1
    assert f"did you mean {near}" in capsys.readouterr().err


def test_a_folder_and_a_name_of_a_hub_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(CHECKPOINT), "-p", "a"]) == 1
    assert "edgeformer convert" in capsys.readouterr().err
    for command in (["generate", "org/name-1.5", "-p", "a"], ["convert", "org/name-1.5", "out.gguf"]):
        assert main(command) == 1
        assert "download its folder" in capsys.readouterr().err
    with pytest.raises(ModelNotFoundError, match="download its folder"):
        edgeformer.load("org/name-1.5")
    with pytest.raises(ModelNotFoundError, match=r"there is no such file$"):
        edgeformer.load("folder/model.gguf")


def test_convert_refuses_an_unknown_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.gguf"
    assert main(["convert", str(CHECKPOINT), str(path), "--type", "q9_k"]) == 1
    assert "q9_k" in capsys.readouterr().err
    assert not path.exists()


def test_inspect_shows_metadata_and_tensors(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "inspect", dates)
    assert found["architecture"] == "transformer" and found["metadata"]["transformer.embedding_length"] == 64
    assert found["parameters"] == sum(int(np.prod(tensor["shape"])) for tensor in found["tensors"])
    assert found["tensor_bytes"] == sum(tensor["bytes"] for tensor in found["tensors"])
    out = run(capsys, "inspect", dates)
    assert "transformer.embedding_length" in out and "output.weight" in out


def test_plan_adds_up_and_grows(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = run_json(capsys, "plan", dates, "--context", "32")
    large = run_json(capsys, "plan", dates, "--context", "64", "--sequences", "4")
    assert small["total"] == small["weights"] + small["cache"] + small["scratch"]
    assert large["weights"] == small["weights"] and large["cache"] > small["cache"]
    assert f"{small['weights']:,}" in run(capsys, "plan", dates, "--context", "32")


def test_the_type_of_keys_and_values_is_taken(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [run_json(capsys, "plan", llama, "--kv-type", kind)["cache"] for kind in ("f32", "f16", "q8_0")]
    assert sizes[0] == 2 * sizes[1] and sizes[2] not in sizes[:2]
    assert run(capsys, "generate", llama, "--prompt", "Once upon", "--max-tokens", "4", "--kv-type", "q8_0")
    arguments = ("bench", "-m", llama, "-p", "16", "-n", "0", "-r", "1", "-o", "json", "-ctk", "q8_0")
    [row] = json.loads(run(capsys, *arguments, "-ctv", "q8_0"))
    assert row["type_k"] == row["type_v"] == "q8_0"
    assert main(list(arguments)) == 1
    assert "-ctv" in capsys.readouterr().err
    assert main([*arguments[:-1], "q9"]) == 1
    assert "'q9' is not known" in capsys.readouterr().err


def test_translate_takes_arguments(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "translate", dates, "4 March 1997", "1er mai 2020") == "1997-03-04\n2020-05-01\n"


def test_translate_takes_lines_and_keeps_empty_ones(
    dates: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_on_stdin(monkeypatch, "4 March 1997\n\n14 août 2003\n".encode())
    assert run(capsys, "translate", dates, "--num-beams", "2") == "1997-03-04\n\n2003-08-14\n"


def test_translate_json_pairs_sources_with_answers(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "translate", dates, "4.3.1997") == [{"source": "4.3.1997", "text": "1997-03-04"}]


@pytest.mark.parametrize(("data", "part"), [(b"", "no text"), (b"caf\xe9\n", "not UTF-8")])
def test_bad_stdin_is_an_error(
    dates: str, data: bytes, part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_on_stdin(monkeypatch, data)
    assert main(["translate", dates]) == 1
    assert part in capsys.readouterr().err


def test_generate_warns_of_control_tokens_unless_they_are_wanted(llama: str) -> None:
    command = [sys.executable, "-m", "edgeformer", "generate", llama, "--prompt", "<s>Once", "--max-tokens", "2"]
    warned, wanted = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True).stderr
        for more in ([], ["--special-tokens"])
    )
    assert warned.startswith("edgeformer: warning: prompt: <s> is a token") and warned.count("\n") == 1
    assert wanted == ""


def test_generate_bans_words_and_prints_the_prompt(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", llama, "--prompt", "Once upon a", "--max-tokens", "4"]
    plain = run(capsys, *arguments)
    first = plain.split()[0]
    assert first not in run(capsys, *arguments, "--bad-word", first)
    assert run(capsys, *arguments, "--echo") == "Once upon a" + plain


def test_generate_prints_the_new_text_alone(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    with edgeformer.load(llama) as model:
        expected = model.generate("Once upon a time", max_tokens=12).text
    out = run(capsys, "generate", llama, "--prompt", "Once upon a time", "--max-tokens", "12")
    assert out == expected + "\n"


def test_generate_reads_stdin_and_answers_in_json(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--max-tokens", "8", "--temperature", "0.9", "--top-k", "40", "--seed", "7")
    type_on_stdin(monkeypatch, b"Once upon a time")
    from_stdin = run_json(capsys, "generate", llama, "--prompt", "-", *arguments)
    as_argument = run_json(capsys, "generate", llama, "--prompt", "Once upon a time", *arguments)
    assert from_stdin["text"] == as_argument["text"] and from_stdin["seed"] == 7
    assert from_stdin["usage"]["completion_tokens"] == 8 and from_stdin["finish_reason"] == "length"


def test_generate_streams_at_a_terminal(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("generate", llama, "--prompt", "Once upon a time", "--max-tokens", "12")
    whole = run(capsys, *arguments)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(capsys, *arguments) == whole


def test_generate_refuses_a_wrong_option(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", llama, "--prompt", "a", "--top-p", "2"]) == 1
    assert "top_p" in capsys.readouterr().err


def test_a_verb_that_the_model_lacks_is_named(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", dates, "a text"]) == 1
    assert "encode" in capsys.readouterr().err


def test_encode_writes_numbers_json_or_an_array(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with edgeformer.load(encoder) as model:
        expected = model.encode(["a cat", "a dog"])
    lines = run(capsys, "encode", encoder, "a cat", "a dog").splitlines()
    np.testing.assert_allclose([[float(x) for x in line.split()] for line in lines], expected, atol=1e-6)
    rows = run_json(capsys, "encode", encoder, "a cat", "a dog")
    assert [row["text"] for row in rows] == ["a cat", "a dog"]
    np.testing.assert_array_equal(np.float32([row["vector"] for row in rows]), expected)
    path = tmp_path / "vectors.npy"
    assert run(capsys, "encode", encoder, "a cat", "a dog", "--output", str(path)) == ""
    np.testing.assert_array_equal(np.load(path), expected)


def test_encode_has_the_options_of_the_api(encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts, long = ["a cat", "a dog"], "word " * 400
    with edgeformer.load(encoder) as model:
        plain = model.encode(texts, normalize_embeddings=False, prompt="query: ")
        cut = model.encode([long], truncate="right")
    rows = run_json(capsys, "encode", encoder, *texts, "--no-normalize", "--prompt", "query: ", "--batch-size", "1")
    np.testing.assert_array_equal(np.float32([row["vector"] for row in rows]), plain)
    rows = run_json(capsys, "encode", encoder, long, "--truncate", "--normalize")
    np.testing.assert_array_equal(np.float32([row["vector"] for row in rows]), cut)
    assert main(["encode", encoder, long]) == 1
    assert "(--truncate)" in capsys.readouterr().err
    assert main(["encode", encoder, "a", "--prompt-name", "absent"]) == 1
    assert "'absent'" in capsys.readouterr().err


def test_the_name_of_the_output_says_what_encode_writes(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vectors.json"
    assert run(capsys, "encode", encoder, "a cat", "-o", str(path)) == ""
    assert json.loads(path.read_text("utf-8")) == run_json(capsys, "encode", encoder, "a cat")
    assert main(["encode", "absent.gguf", "a cat", "-o", str(tmp_path / "vectors.txt")]) == 1
    assert ".npy or .json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_encode_into_a_missing_folder_is_an_error(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", encoder, "a cat", "--output", str(tmp_path / "absent" / "x.npy")]) == 1
    assert "x.npy" in capsys.readouterr().err


def test_encode_on_a_full_disk_leaves_nothing(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main(["encode", encoder, "a cat", "--output", str(tmp_path / "x.npy")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_bench_of_an_encoder_is_its_prompt_test(encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = json.loads(run(capsys, "bench", "-m", encoder, "-p", "16", "-r", "1", "-o", "json"))
    assert row["test"] == "pp16" and row["type_k"] == "f32" and row["avg_ts"] > 0
    assert main(["bench", "-m", encoder, "-n", "8"]) == 1
    assert "n_gen" in capsys.readouterr().err


def test_hash_finds_the_same_bits_everywhere(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "hash", dates)
    assert found["equal"] and len(found["rows"]) >= 4
    assert len({row["sha256"] for row in found["rows"]}) == 1
    assert {row["threads"] for row in found["rows"]} == {1, 2}
    assert "all equal" in run(capsys, "hash", dates)


@pytest.mark.parametrize("name", ["llama-classes", "gptneox-token-classes", "bart-classes"])
def test_what_steps_and_gives_no_logits_is_hashed_and_measured(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(cases.converter(tmp_path)(name, cases.CASES[name]["types"][0]))
    assert run_json(capsys, "hash", path)["equal"]
    [row] = json.loads(run(capsys, "bench", "-m", path, "-p", "4", "-r", "1", "-o", "json"))
    assert row["test"] == "pp4" and row["avg_ts"] > 0
    assert main(["bench", "-m", path, "-n", "8"]) == 1
    assert "n_gen" in capsys.readouterr().err


@pytest.mark.parametrize("name", cases.FEATURES)
def test_models_of_images_and_sounds_are_hashed_and_measured(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(cases.converter(tmp_path)(name, "q8_0"))
    assert run_json(capsys, "hash", path)["equal"]
    [row] = json.loads(run(capsys, "bench", "-m", path, "-p", "4", "-r", "1", "-o", "json"))
    assert row["test"] == "pp4" and row["avg_ts"] > 0


def test_hash_says_when_bits_differ(
    dates: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeformer.cli import hashes

    outputs = iter(range(100))
    monkeypatch.setattr(hashes, "fixed_outputs", lambda session: np.float32([next(outputs)]))
    assert main(["hash", dates]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out
