"""What a generation runs: one run a step for all sequences, no padding, a source's keys and values made once."""

from __future__ import annotations

from dataclasses import dataclass

import edgeformer
import pytest
from edgeformer.engine.program import Program
from edgeformer.graph.domains import OUTPUTS, ROWS
from support.small_models import llama, transformer

SOURCES = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]


@dataclass(frozen=True)
class Run:
    """Rows that a run computed, rows of logits it gave, and the names of the weights it read."""

    rows: int
    outputs: int
    matrices: frozenset[str]


@pytest.fixture
def runs(monkeypatch):
    """Every run of a program from here on."""
    seen: list[Run] = []
    run = Program.run

    def recorded(self, pool, batch, *rest):
        names = frozenset(part.name for stack in self.recipe.matrices for part in stack)
        seen.append(Run(sum(batch.lengths[ROWS]), sum(batch.lengths[OUTPUTS]), names))
        return run(self, pool, batch, *rest)

    monkeypatch.setattr(Program, "run", recorded)
    return seen


@pytest.mark.parametrize("beams", [1, 3])
def test_a_source_is_encoded_once_and_without_padding(runs, tmp_path, beams):
    with edgeformer.load(transformer().write(tmp_path / "model.gguf"), threads=1) as model:
        results = model.generate(SOURCES, num_beams=beams, max_tokens=6)
    encoding, *steps = runs
    assert (encoding.rows, encoding.outputs) == (sum(map(len, SOURCES)), 0)
    assert len(steps) == max(result.usage.completion_tokens for result in results)
    assert all(run.rows == run.outputs <= beams * len(SOURCES) for run in steps)
    assert any(run.rows == beams * len(SOURCES) for run in steps)
    makes_keys = {name for name in encoding.matrices if "cross_attn_k" in name or "cross_attn_v" in name}
    assert makes_keys
    assert not any(makes_keys & run.matrices for run in steps)


def test_prompts_run_together_and_give_one_row_of_logits_each(runs, tmp_path):
    with edgeformer.load(llama().write(tmp_path / "model.gguf"), threads=1) as model:
        together = model.generate(SOURCES, max_tokens=6)
        first, *steps = runs
        assert (first.rows, first.outputs) == (sum(map(len, SOURCES)), len(SOURCES))
        assert len(steps) == max(result.usage.completion_tokens for result in together) - 1
        assert all(run.rows == run.outputs <= len(SOURCES) for run in steps)
        alone = [model.generate(source, max_tokens=6) for source in SOURCES]
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]
