"""`edgeformer demo`, run once from end to end, and what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from edgeformer.cli.demo import _print
from edgeformer.tools.demo import CHECKPOINT, EXAMPLES, DemoReport, Latency, Translation, Variant, samples


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The demo's JSON document, with two dates of our own and a character that the model never saw."""
    own = ["the 4th of March, 1997", "31/12/2001", "4 März \N{SNOWMAN}1997"]
    command = [sys.executable, "-m", "edgeformer", "demo", "--json", *own]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return dict(json.loads(done.stdout))


def test_it_reads_held_out_dates(found: dict[str, Any]) -> None:
    accuracy = {variant["type"]: variant["accuracy"] for variant in found["variants"]}
    assert found["num_samples"] == len(samples()) == 1000
    assert accuracy["f32"] >= 0.99
    assert accuracy["q8_0"] >= 0.99
    assert accuracy["q4_0"] >= 0.97


def test_it_reads_its_examples_and_the_callers_dates(found: dict[str, Any]) -> None:
    answers = {row["source"]: row["answers"] for row in found["translations"]}
    expected = {
        "4 March 1997": "1997-03-04",
        "the 23rd of Febuary, 2024": "2024-02-23",
        "Mittwoch, 3. Oktober 1990": "1990-10-03",
        "14 juillet 1989": "1989-07-14",
        "5 de mayo de 1962": "1962-05-05",
        "11 listopada 1918": "1918-11-11",
        "3/25/84": "1984-03-25",
        "2031.7.9": "2031-07-09",
        "the 4th of March, 1997": "1997-03-04",
        "31/12/2001": "2001-12-31",
        "4 März \N{SNOWMAN}1997": "1997-03-04",
    }
    assert set(EXAMPLES) < expected.keys()
    assert answers == {source: dict.fromkeys(("f32", "q8_0", "q4_0"), date) for source, date in expected.items()}


def test_quantization_costs_what_it_should(found: dict[str, Any]) -> None:
    plain, eight, four = found["variants"]
    assert plain["weight_error"] == 0
    assert 0.001 < eight["weight_error"] < 0.02 < four["weight_error"] < 0.15
    assert four["tensor_bytes"] < eight["tensor_bytes"] < plain["tensor_bytes"] / 2
    assert all(variant["tensor_bytes"] < variant["file_bytes"] for variant in found["variants"])


def test_latencies_are_in_order(found: dict[str, Any]) -> None:
    latency = found["latency"]
    assert 0 < latency["p50_ms"] <= latency["p90_ms"] <= latency["p99_ms"]
    assert latency["batch_dates_per_second"] > 0 and latency["batch_size"] > 1


def test_it_prints_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    variant = Variant("q8_0", 2048, 1024, 0.0051, 0.996, 0.1, 0.2)
    latency = Latency("q8_0", 1.0, 2.0, 3.0, 50, 5000.0)
    translation = Translation("4 May 1998", {"q8_0": "1998-05-04"})
    report = DemoReport(str(CHECKPOINT), 400_000, 1000, "avx2", 2, [variant], [translation], latency, 12.5)
    _print(report)
    out = capsys.readouterr().out
    for part in ("99.6 %", "0.51 %", "4 May 1998", "1998-05-04", "p50 1.00 ms", "p99 3.00 ms", "5,000 dates", "Next:"):
        assert part in out
