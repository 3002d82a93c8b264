"""Beam search of encoder-decoders against transformers' own: texts and scores of the n best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from golden import cases

EXPECTED: list[dict[str, Any]] = json.loads((cases.FOLDER / "beams.json").read_text())
NAMES = sorted({entry["model"] for entry in EXPECTED})


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    return cases.converter(tmp_path_factory.mktemp("beams"))


def sources_of(name: str) -> list[list[int]]:
    return cases.sources_and_targets(name)[0][:3]


@pytest.mark.parametrize("name", NAMES)
def test_the_n_best_are_transformers(name: str, golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(name), kv_type="f32", threads=2) as model:
        for entry in EXPECTED:
            options = {k: v for k, v in entry["options"].items() if not k.startswith("forced_")}
            if entry["model"] != name or len(options) < len(entry["options"]):
                continue
            results = model.generate(sources_of(name), **options)
            for result, wanted in zip(results, entry["hypotheses"], strict=True):
                assert [beam.token_ids for beam in result.hypotheses] == [ids for ids, _ in wanted], options
                scores = [score for _, score in wanted]
                np.testing.assert_allclose([beam.score for beam in result.hypotheses], scores, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["forced_bos_token_id", "forced_eos_token_id"])
def test_tokens_that_a_file_forces(name: str, key: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for path in (cases.FOLDER / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (entry,) = [entry for entry in EXPECTED if entry["model"] == name and key in entry["options"]]
    options = dict(entry["options"])
    generation = {"eos_token_id": 2, key: options.pop(key)}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    path = convert(folder, tmp_path / "model.gguf", type="f32").path
    with edgeformer.load(path, kv_type="f32", threads=2) as model:
        if key == "forced_bos_token_id":  # which transformers counts among the new tokens
            options["max_new_tokens"] -= 1
        results = model.generate(sources_of(name), **options)
        greedy = model.generate(sources_of(name), max_tokens=3)
    skipped = 1 if key == "forced_bos_token_id" else 0
    for result, wanted in zip(results, entry["hypotheses"], strict=True):
        assert [beam.token_ids for beam in result.hypotheses] == [ids[skipped:] for ids, _ in wanted]
        scores = [score for _, score in wanted]
        np.testing.assert_allclose([beam.score for beam in result.hypotheses], scores, atol=1e-4)
    if key == "forced_eos_token_id":
        assert all(len(result.token_ids) == 2 for result in greedy if result.finish_reason == "length")
        assert all(len(result.token_ids) <= 2 for result in greedy)
