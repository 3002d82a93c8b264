"""What `convert` writes, `load` loads; and what the source says of generating is followed."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from support.checkpoints import LLAMA, TRANSFORMER, llama_tensors, transformer_tensors, write_folder


def llama_folder(path: Path, **changes: Any) -> Path:
    return write_folder(path / "tiny", {**LLAMA, **changes}, llama_tensors(LLAMA))


def linear(factor: float) -> dict[str, Any]:
    return {"rope_scaling": {"type": "linear", "factor": factor}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rms_norm_eps": -1.0}, "layer_norm_rms_epsilon"),
        ({"rms_norm_eps": 1.5}, "layer_norm_rms_epsilon"),
        ({"rope_theta": 0.5}, "freq_base"),
        (linear(0.0), "scaling.factor"),
        (linear(-2.0), "scaling.factor"),
        ({"max_position_embeddings": (1 << 22) + 1}, "context_length"),
        ({"eos_token_id": 40}, "eos_token_id"),
        ({"num_beams": 0}, "num_beams"),
    ],
)
def test_what_load_would_refuse_is_not_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(llama_folder(tmp_path, **changes), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    "settings", [{"eos_token_id": 40}, {"suppress_tokens": [41]}, {"temperature": -1}, {"top_p": "x"}, []]
)
def test_settings_of_generation_that_load_would_refuse(tmp_path: Path, settings: Any) -> None:
    folder = llama_folder(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConversionError, match=r"general\.generation\.json"):
        convert(folder, tmp_path / "out.gguf")


def test_a_huge_table_is_refused_before_it_is_made(tmp_path: Path) -> None:
    config = {**TRANSFORMER, "max_length": 1 << 24}
    folder = write_folder(tmp_path / "t", config, transformer_tensors(TRANSFORMER))
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match="context_length"):
            convert(folder, tmp_path / "out.gguf")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_large_table_takes_its_own_memory_and_little_more(tmp_path: Path) -> None:
    config = {**TRANSFORMER, "max_length": 1 << 17}
    folder = write_folder(tmp_path / "t", config, transformer_tensors(TRANSFORMER))
    tracemalloc.start()
    try:
        convert(folder, tmp_path / "out.gguf", type="f32")
        assert tracemalloc.get_traced_memory()[1] < 1.5 * (32 * 4 << 17) + (32 << 20)
    finally:
        tracemalloc.stop()


def generated(folder: Path, prompt: list[int]) -> tuple[list[int], str]:
    out = folder.with_suffix(".gguf")
    convert(folder, out, type="f32")
    with edgeformer.load(out, threads=1) as model:
        [result] = model.generate([prompt], max_tokens=6)
    return result.token_ids, str(result.finish_reason)


def test_end_tokens_of_config_json_end_a_text(tmp_path: Path) -> None:
    """Without a vocabulary, and without generation_config.json: whatever comes third is made an end token."""
    tokens, reason = generated(llama_folder(tmp_path, eos_token_id=None), [3])
    assert (len(tokens), reason) == (6, "length")
    before = tokens[: tokens.index(tokens[2])]
    for end in (tokens[2], [39 if tokens[2] != 39 else 38, tokens[2]]):
        assert generated(llama_folder(tmp_path, eos_token_id=end), [3]) == (before, "stop")


def test_an_empty_prompt_begins_with_the_start_token_of_config_json(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path, bos_token_id=7, eos_token_id=None)
    assert generated(folder, []) == generated(folder, [7])


def test_settings_of_generation_in_config_json_hold_where_there_is_no_other_file(tmp_path: Path) -> None:
    tokens, _ = generated(llama_folder(tmp_path, eos_token_id=None), [3])
    folder = llama_folder(tmp_path, eos_token_id=None, suppress_tokens=[tokens[0]], encoder_no_repeat_ngram_size=2)
    assert tokens[0] not in generated(folder, [3])[0]
    report = convert(folder, tmp_path / "out.gguf")
    assert any("encoder_no_repeat_ngram_size" in note for note in report.notes)
    (folder / "generation_config.json").write_text("{}")
    assert generated(folder, [3])[0] == tokens
    assert not any("encoder_no_repeat" in note for note in convert(folder, tmp_path / "out.gguf").notes)


def test_the_start_token_of_generation_config_json_goes_before_that_of_config_json(tmp_path: Path) -> None:
    tensors = transformer_tensors(TRANSFORMER)
    logits = []
    for start, other in ((5, None), (1, 5), (1, None)):
        folder = write_folder(tmp_path / "t", {**TRANSFORMER, "decoder_start_token_id": start}, tensors)
        if other is not None:
            (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": other}))
        else:
            (folder / "generation_config.json").unlink(missing_ok=True)
        convert(folder, tmp_path / "t.gguf", type="f32")
        with edgeformer.load(tmp_path / "t.gguf", threads=1) as model:
            logits.append(model.generate([3, 4], max_tokens=1, logprobs=1).log_prob)
    assert logits[0] == logits[1] != logits[2]
    assert np.isfinite(logits).all()


LIMITED = """
import resource, sys
import edgeformer, numpy
from edgeformer.converters import convert
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), -1))
try:
    convert(sys.argv[1], sys.argv[2])
except edgeformer.NotEnoughMemoryError as error:
    print(error)
"""


def test_a_table_that_memory_has_no_room_for_is_named(tmp_path: Path) -> None:
    config = {**TRANSFORMER, "max_length": 1 << 22}  # half a gigabyte, as long as a context may be
    folder = write_folder(tmp_path / "t", config, transformer_tensors(TRANSFORMER))
    command = [sys.executable, "-c", LIMITED, str(folder), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stderr, "position_embd.weight" in done.stdout, str(32 << 24) in done.stdout) == ("", True, True)
    assert not (tmp_path / "out.gguf").exists()


LIES = (None, 0, -1, 2, 0.5, 1e30, 1e300, 2**24, 2**31, 2**63, True, "", "x", [], [1], [[1]], {}, {"type": "linear"})
SETTINGS = (
    *("bos_token_id", "eos_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p", "num_beams"),
    *("repetition_penalty", "length_penalty", "forced_bos_token_id", "suppress_tokens", "bad_words_ids"),
)
ROTARY = ("rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "head_dim", "partial_rotary_factor")


def converts_and_loads_or_neither(folder: Path) -> None:
    out = folder.with_suffix(".gguf")
    try:
        convert(folder, out)
    except edgeformer.EdgeformerError:
        return
    edgeformer.load(out, threads=1).close()


@pytest.mark.parametrize("key", [*LLAMA, *ROTARY, *SETTINGS])
def test_any_value_of_a_llamas_configuration_is_refused_or_loads(tmp_path: Path, key: str) -> None:
    for lie in LIES:
        converts_and_loads_or_neither(llama_folder(tmp_path, **{key: lie}))


@pytest.mark.parametrize("key", TRANSFORMER)
def test_any_value_of_a_transformers_configuration_is_refused_or_loads(tmp_path: Path, key: str) -> None:
    tensors = transformer_tensors(TRANSFORMER)
    for lie in LIES:
        converts_and_loads_or_neither(write_folder(tmp_path / "t", {**TRANSFORMER, key: lie}, tensors))


@pytest.mark.parametrize("key", SETTINGS)
def test_any_setting_of_generation_is_refused_or_loads(tmp_path: Path, key: str) -> None:
    folder = llama_folder(tmp_path)
    for lie in LIES:
        (folder / "generation_config.json").write_text(json.dumps({key: lie}))
        converts_and_loads_or_neither(folder)
