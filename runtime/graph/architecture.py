"""A model ready to be compiled. What it can do follows from what its programs take and give.

A program with a cache that lives as long as a sequence steps: it appends rows to sequences. Every other program runs
over whole sequences. One that writes a cache of sources reads the sources of the program that steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..errors import GraphError
from .checks import check_programs
from .domains import TOKEN_TYPES, Features
from .graph import SEQUENCE, SOURCE, Graph

SCORES = ("softmax", "sigmoid", "none")  # how the numbers of classes become scores


@dataclass(frozen=True)
class Classifier:
    """Names of a model's classes, and how their numbers become scores: shares of one ("softmax"), each by itself from
    0 to 1 ("sigmoid"), or the numbers themselves ("none").
    """

    labels: tuple[str, ...]
    scores: str


@dataclass(frozen=True)
class Architecture:
    """The programs of a model and its limits.

    Attributes
    ----------
    programs : mapping of str to Graph
        By a name for messages. At most one steps and at most one reads sources.
    context_length : int
        The most rows of a sequence.
    decoder_start_token_id : int or None
        What a program that steps over a source is fed first.
    normalize_embeddings : bool
        Whether pooled rows are scaled to length 1 unless the caller says otherwise.
    classifier : Classifier or None
        Of the outputs "classes" and "token_classes".
    """

    programs: Mapping[str, Graph]
    context_length: int
    decoder_start_token_id: int | None = None
    normalize_embeddings: bool = False
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        check_programs(self.programs)
        for names, what in ((self._steppers, "appends rows to sequences"), (self._readers, "writes caches of sources")):
            if len(names) > 1:
                raise GraphError(self.programs[names[1]].path, names[1], f"{names[0]} {what} already; one program may")

    @property
    def _steppers(self) -> list[str]:
        return [name for name, graph in self.programs.items() if graph.has_cache(SEQUENCE)]

    @property
    def _readers(self) -> list[str]:
        return [name for name, graph in self.programs.items() if graph.stores(SOURCE)]

    @cached_property
    def stepper(self) -> str | None:
        """The program that appends rows to sequences: a decoder."""
        return next(iter(self._steppers), None)

    @cached_property
    def reader(self) -> str | None:
        """The program that writes what the stepper reads of a source: the encoder before a decoder."""
        return next(iter(self._readers), None)

    @cached_property
    def whole(self) -> list[str]:
        """The programs that run over whole sequences."""
        return [name for name in self.programs if name != self.stepper]

    def giving(self, output: str) -> str | None:
        """The first program over whole sequences that gives this output."""
        return next((name for name in self.whole if output in self.programs[name].outputs), None)

    @property
    def step_outputs(self) -> frozenset[str]:
        """What the stepper gives; nothing where no program steps."""
        return frozenset(self.programs[self.stepper].outputs if self.stepper else ())

    @property
    def whole_outputs(self) -> frozenset[str]:
        """What the programs over whole sequences give."""
        return frozenset(output for name in self.whole for output in self.programs[name].outputs)

    @property
    def features_taken(self) -> Features | None:
        """The float rows that are read whole instead of token ids, if any are."""
        taken = [features for name in self.whole for features in self.programs[name].features_taken]
        return taken[0] if taken else None

    @property
    def attends(self) -> bool:
        """Whether any program has attention."""
        return any(node.kind == "attention" for graph in self.programs.values() for node in graph.nodes)

    @property
    def takes_token_types(self) -> bool:
        """Whether any program has embeddings of token types."""
        return any(graph.takes(TOKEN_TYPES) for graph in self.programs.values())

    @property
    def family(self) -> str:
        """For people: "decoder", "encoder" or "encoder-decoder"; nothing is decided by it."""
        if self.stepper is None:
            return "encoder"
        return "decoder" if self.reader is None else "encoder-decoder"

    @property
    def vocab_size(self) -> int:
        """Token ids that the stepper takes, or where none steps, the first program; 0 without a vocabulary."""
        return self.programs[self.stepper or next(iter(self.programs))].vocab_size

    @property
    def source_vocab_size(self) -> int:
        """Token ids of what is read whole: of sources where there are any, else `vocab_size`."""
        return self.programs[self.reader].vocab_size if self.reader else self.vocab_size

    @property
    def embedding_width(self) -> int:
        """Columns of a pooled row; 0 where nothing is pooled."""
        name = self.giving("pooled") or (self.stepper if "pooled" in self.step_outputs else None)
        return self.programs[name].outputs["pooled"].width if name else 0
