"""How good a model is on labelled data: `evaluate`."""

from __future__ import annotations

from .run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
