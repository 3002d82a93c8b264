"""The verbs of a model, one file for each family of verbs."""

from __future__ import annotations

from .encode import EmbeddingVerbs
from .generate import GenerationVerbs
from .inspection import InspectionVerbs
from .translate import TranslationVerbs

__all__ = ["EmbeddingVerbs", "GenerationVerbs", "InspectionVerbs", "TranslationVerbs"]
