"""The roofline's numbers, and which rows a command means."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("bench.roofline", reason="the benches are not beside the tests")

from bench import footprint, kernel_efficiency, pictures, ranking
from bench.model_files import SHAPES
from bench.report import Check, Figure, Report, ReportError, Result
from bench.roofline import Point, limits, points
from bench.rows import Settings, chosen, contests


def measured(bandwidth: float, peak: float) -> dict[str, object]:
    return {"read_bandwidth": {"1": bandwidth / 2, "2": bandwidth}, "peaks": {"avx2": {"int8": {"1": 1.0, "2": peak}}}}


def example() -> Report:
    ours, theirs = Figure("edgeformer", "", [30.0]), Figure("llama.cpp", "", [90.0])
    decode = {"weight_bytes": 100, "operations": 400, "tokens": 1}
    results = [
        Result("decode", "decode-1b", "m", "tok/s", {"edgeformer": ours, "llama.cpp": theirs}, [], {}, decode),
        Result("prefill", "prefill-1b", "m", "tok/s", {"edgeformer": ours}, [], {}, decode | {"tokens": 512}),
        Result("encode", "minilm", "m", "ms", {"edgeformer": ours}, []),
        Result("failed", "decode-1b", "m", "tok/s", {"llama.cpp": theirs}, [], {}, decode),
    ]
    machine = {"cpu": "a CPU", "measured": [measured(1000.0, 50000.0), measured(1200.0, 40000.0)]}
    return Report("2026-01-31", machine, {"threads": 2}, results)


def test_points_are_of_our_language_models() -> None:
    assert points(example()) == [
        Point("decode", "decode-1b", 4.0, 12000.0),
        Point("prefill", "prefill-1b", 2048.0, 12000.0),
    ]


def test_limits_are_the_best_that_was_measured() -> None:
    found = limits(example())
    assert (found.bandwidth, found.peaks) == (1200.0, {"avx2": 50000.0})
    assert found.roof(4.0, "avx2") == 4800.0
    assert found.roof(2048.0, "avx2") == 50000.0


def test_pictures_are_drawn_or_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ReportError, match=r"edgeformer\[bench\]"):
        pictures.draw_roofline(example(), tmp_path / "roofline.svg")
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    pictures.draw_roofline(example(), tmp_path / "roofline.svg")
    pictures.draw_ratios(example(), tmp_path / "none.svg")
    compared = example()
    compared.results[0].checks.append(Check("ratio", "llama.cpp", 1 / 3, [1 / 3], 1.05))
    pictures.draw_ratios(compared, tmp_path / "ratios.svg")
    assert b"<svg" in (tmp_path / "roofline.svg").read_bytes()
    assert len((tmp_path / "none.svg").read_bytes()) < len((tmp_path / "ratios.svg").read_bytes())


def test_rows_have_names_of_their_own() -> None:
    timed = [row for contest in contests(Settings(None)) for row in contest.rows]
    names = [row.name for row in (*timed, *ranking.ROWS, *footprint.ROWS, *kernel_efficiency.rows())]
    assert len(names) == len(set(names)) > 30


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["all"], True),
        (["decode-1b"], True),
        (["decode-1b-q4_0"], True),
        (["*-q4_0"], True),
        (["prefill*"], False),
        (["minilm", "decode*"], True),
        ([], False),
    ],
)
def test_rows_are_chosen_by_name_or_group(patterns: list[str], expected: bool) -> None:
    assert chosen("decode-1b-q4_0", "decode-1b", patterns) is expected


def test_shapes_are_those_of_the_models_they_are_named_after() -> None:
    assert SHAPES["llama-1b"].num_weights() / 1e9 == pytest.approx(1.236, abs=0.001)
    assert SHAPES["llama-135m"].num_weights() / 1e6 == pytest.approx(134.5, abs=0.1)
    assert SHAPES["llama-1b"].cache_bytes(1024) == 16 * 8 * 64 * 2 * 2 * 1024
