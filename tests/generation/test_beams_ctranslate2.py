"""Beam search of encoder-decoders against CTranslate2's: n-grams, least lengths and coverage, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from golden import cases

EXPECTED: list[dict[str, Any]] = json.loads((cases.FOLDER / "beams_ctranslate2.json").read_text())


@pytest.mark.parametrize("name", sorted({entry["model"] for entry in EXPECTED}))
def test_the_n_best_are_ctranslate2s(name: str, tmp_path: Path) -> None:
    path = convert(cases.FOLDER / name, tmp_path / "model.gguf", type="f32").path
    sources = cases.sources_and_targets(name)[0][:3]
    with edgeformer.load(path, kv_type="f32", threads=2) as model:
        for entry in EXPECTED:
            if entry["model"] != name:
                continue
            options = dict(entry["options"])
            options["min_tokens"] = options.pop("min_decoding_length", 1)
            results = model.generate(sources, num_beams=4, max_tokens=12, **options)
            for result, wanted in zip(results, entry["hypotheses"], strict=True):
                assert [beam.token_ids for beam in result.hypotheses] == [ids for ids, _ in wanted], options
                scores = [score for _, score in wanted]
                np.testing.assert_allclose([beam.score for beam in result.hypotheses], scores, atol=2e-5)
