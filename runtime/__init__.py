"""edgeformer: Transformers on the CPU of a small device.

    import edgeformer

    with edgeformer.load("stories.gguf") as model:
        print(model.generate("Once upon a time", max_tokens=50).text)

`load` gives a `Model` with the verbs of what it computes: `generate` and `agenerate` for decoders, `encode` for
encoders, `translate` for encoder-decoders; `classify`, `rank`, `tokens`, `answer` and `fill_mask` for models with such
a head; and `logits`, `hidden_states`, `tokenize` and `detokenize` where they make sense.
`edgeformer.converters.convert` makes model files from PyTorch checkpoints.

Every error raised on purpose is an `EdgeformerError`. Nothing is printed: messages go to the logger "edgeformer".
The first use of a name loads what it needs; importing the package alone costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .errors import (
    ChatTemplateError,
    CheckpointFormatError,
    ContextOverflowError,
    ConversionError,
    EdgeformerError,
    GenerationCancelled,
    GraphError,
    InvalidInputError,
    InvalidOptionError,
    MissingDependencyError,
    ModelFileChangedError,
    ModelFormatError,
    ModelNotFoundError,
    NotEnoughMemoryError,
    NumericError,
    OutputError,
    UnsupportedCPUError,
    UnsupportedInterpreterError,
    UnsupportedModelError,
)
from .host.interpreters import refuse_subinterpreters

refuse_subinterpreters()

if TYPE_CHECKING:
    from ._kernels.core import CancelFlag as CancelFlag
    from .engine.adapters import Adapter as Adapter
    from .engine.packing import pack as pack
    from .engine.session import Session as Session
    from .generation.results import GenerationChunk as GenerationChunk
    from .generation.results import GenerationResult as GenerationResult
    from .generation.results import Hypothesis as Hypothesis
    from .generation.results import Timings as Timings
    from .generation.results import TokenLogprob as TokenLogprob
    from .generation.results import Usage as Usage
    from .generation.streams import AsyncGenerationStream as AsyncGenerationStream
    from .generation.streams import GenerationStream as GenerationStream
    from .model import Model as Model
    from .model import load as load
    from .tasks.results import Answer as Answer
    from .tasks.results import Classification as Classification
    from .tasks.results import Entity as Entity
    from .tasks.results import FilledMasks as FilledMasks
    from .tasks.results import LabelScore as LabelScore
    from .tasks.results import MaskedWord as MaskedWord
    from .tasks.results import RankedDocument as RankedDocument
    from .tasks.results import Span as Span
    from .text.tokenizer import Tokenizer as Tokenizer

__version__ = "0.1.0"

# Public name -> the module that has it.
_LAZY = {
    "Adapter": "engine.adapters",
    "Answer": "tasks.results",
    "AsyncGenerationStream": "generation.streams",
    "CancelFlag": "_kernels.core",
    "Classification": "tasks.results",
    "Entity": "tasks.results",
    "FilledMasks": "tasks.results",
    "GenerationChunk": "generation.results",
    "GenerationResult": "generation.results",
    "GenerationStream": "generation.streams",
    "Hypothesis": "generation.results",
    "LabelScore": "tasks.results",
    "MaskedWord": "tasks.results",
    "Model": "model",
    "RankedDocument": "tasks.results",
    "Session": "engine.session",
    "Span": "tasks.results",
    "Timings": "generation.results",
    "TokenLogprob": "generation.results",
    "Tokenizer": "text.tokenizer",
    "Usage": "generation.results",
    "load": "model",
    "pack": "engine.packing",
}

__all__ = [
    "Adapter",
    "Answer",
    "AsyncGenerationStream",
    "CancelFlag",
    "ChatTemplateError",
    "CheckpointFormatError",
    "Classification",
    "ContextOverflowError",
    "ConversionError",
    "EdgeformerError",
    "Entity",
    "FilledMasks",
    "GenerationCancelled",
    "GenerationChunk",
    "GenerationResult",
    "GenerationStream",
    "GraphError",
    "Hypothesis",
    "InvalidInputError",
    "InvalidOptionError",
    "LabelScore",
    "MaskedWord",
    "MissingDependencyError",
    "Model",
    "ModelFileChangedError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NotEnoughMemoryError",
    "NumericError",
    "OutputError",
    "RankedDocument",
    "Session",
    "Span",
    "Timings",
    "TokenLogprob",
    "Tokenizer",
    "UnsupportedCPUError",
    "UnsupportedInterpreterError",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "load",
    "pack",
]

# A library is quiet: without this, Python prints warnings of unconfigured loggers on stderr.
logging.getLogger("edgeformer").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'edgeformer' has no attribute {name!r}")
    from .host.interrupts import interrupts_wait

    with interrupts_wait():
        value = getattr(importlib.import_module(f"edgeformer.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
