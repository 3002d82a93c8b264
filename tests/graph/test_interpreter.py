"""The interpreter's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer.graph.interpreter import ACTIVATIONS


@pytest.mark.parametrize(("name", "low", "high"), [("silu", 0, 1000), ("quick_gelu", 0, 1000), ("sigmoid", 0, 1)])
def test_activations_far_from_nought_do_not_overflow(name: str, low: float, high: float) -> None:
    found = ACTIVATIONS[name](np.array([-1000.0, 0.0, 1000.0], np.float32))
    np.testing.assert_array_equal(found, np.array([low, 0.5 if name == "sigmoid" else 0, high], np.float32))
