"""The verbs of a model, one file for each family of verbs."""

from __future__ import annotations

from .embedding import EmbeddingVerbs
from .generation import GenerationVerbs
from .inspection import InspectionVerbs
from .translation import TranslationVerbs

__all__ = ["EmbeddingVerbs", "GenerationVerbs", "InspectionVerbs", "TranslationVerbs"]
