"""The verbs of a model, one file for each family of verbs."""

from __future__ import annotations

from .answer import AnswerVerbs
from .chat import ChatVerbs
from .classify import ClassificationVerbs
from .encode import EmbeddingVerbs
from .fill_mask import MaskVerbs
from .generate import GenerationVerbs
from .inspection import InspectionVerbs
from .rank import RankingVerbs
from .tokens import TokenVerbs
from .translate import TranslationVerbs

__all__ = [
    "AnswerVerbs",
    "ChatVerbs",
    "ClassificationVerbs",
    "EmbeddingVerbs",
    "GenerationVerbs",
    "InspectionVerbs",
    "MaskVerbs",
    "RankingVerbs",
    "TokenVerbs",
    "TranslationVerbs",
]
