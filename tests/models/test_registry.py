"""Every row of the registry is tried: it has golden numbers, and small models that lie."""

from __future__ import annotations

from edgeformer.models.registry import ARCHITECTURES
from golden import cases
from support.small_models import MODELS

ROWS = {row.name for row in ARCHITECTURES}


def test_every_architecture_has_a_golden_checkpoint() -> None:
    """With types of each sort: floats, blocks of eight bits, blocks of four."""
    assert set(cases.architectures()) == ROWS
    for name in cases.architectures().values():
        assert {"f32", "q8_0", "q4_0"} <= set(cases.CASES[name]["types"]), name


def test_every_architecture_has_a_small_model_that_other_tests_make_lie() -> None:
    assert set(MODELS) == ROWS
    assert all(make().architecture == architecture for architecture, make in MODELS.items())


def test_every_golden_folder_says_what_made_it() -> None:
    made = [case["made"] for case in cases.CASES.values()]
    assert all({"seed", "torch", "transformers", "numpy", "machine"} == set(entry) for entry in made)
    folders = {path.parent.name for path in cases.FOLDER.glob("*/expected.npz")}
    assert folders == set(cases.ALL)
