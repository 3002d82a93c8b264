"""What the architectures share when they read a source: its files, its configuration, its tensors by name.

Nothing is dropped in silence. A key of the configuration is read, or known to be without effect, or an error; a tensor
of the checkpoint is used, or named as not needed, or an error.
"""

from __future__ import annotations

import fnmatch
import re
from _blake2 import blake2b
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from ...files.json_file import read_json, read_json_object
from ...text.defaults import GENERATION_KEYS
from ..sources.checkpoint import Checkpoint
from ..vocabularies.record import Vocabulary

__all__ = ["HARMLESS", "REQUIRED", "Config", "Plan", "PlannedTensor", "ReadRows", "Required", "Source", "TensorPlan"]

Float32 = NDArray[np.float32]
T = TypeVar("T")

FLOAT32_LIMIT = float(np.finfo(np.float32).max)

# Keys without effect on the numbers of a forward pass: training, bookkeeping, the ids of special tokens, which the
# vocabulary reads, and those of generation, which are read from here only if there is no generation_config.json.
HARMLESS = GENERATION_KEYS | frozenset(
    re.findall(
        r"\w+",
        """
    _name_or_path architectures model_type auto_map torch_dtype dtype transformers_version
    initializer_range initializer_factor gradient_checkpointing pretraining_tp sep_token_id cls_token_id
    unk_token_id return_dict use_return_dict id2label label2id num_labels problem_type tokenizer_class prefix
    task_specific_params finetuning_task keys_to_ignore_at_inference torchscript _attn_implementation
    attn_implementation _flash_attn_2_enabled chunk_size_feed_forward is_encoder_decoder output_past
        """,
    )
)
# By pattern: rates of dropout, which only training has, and the pooling of a classifier that is not there.
HARMLESS_PATTERNS = ("dropout", "dropout_rate", "*_dropout", "*_dropout_prob", "*_pdrop", "summary_*")


class Required:
    """Marks a key that has no default."""


REQUIRED: Final = Required()


class Config:
    """A configuration whose every key must be accounted for.

    Parameters
    ----------
    values : dict
        The parsed `config.json`, or an object inside it.
    path : str
        For messages: the file, and the key of the object inside it.

    Attributes
    ----------
    notes : list of str
        What reading it leaves to say to the user.
    """

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self.values = values
        self.path = path
        self.notes: list[str] = []
        self._seen: set[str] = set()

    def fail(self, key: str, what: str) -> ConversionError:
        return ConversionError(f"{self.path}: {key} = {quote(self.values.get(key))}: {what}")

    def get(self, key: str, kind: type[T], default: T | Required = REQUIRED) -> T:
        """The value of a key; a null counts as absent.

        Raises
        ------
        ConversionError
            It is missing and has no default, or of another type.
        """
        self._seen.add(key)
        value = self.values.get(key)
        if value is None:
            if isinstance(default, Required):
                raise ConversionError(f"{self.path}: {key} is missing")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.fail(key, f"not of type {kind.__name__}")
        return value

    def count(self, key: str, default: int | Required = REQUIRED) -> int:
        """A positive integer below 2**31."""
        value = self.get(key, int, default)
        if not 0 < value < 1 << 31:
            raise self.fail(key, "not a positive number below 2**31")
        return value

    def number(self, key: str, default: float | Required = REQUIRED) -> float:
        """A number that float32 holds."""
        value = self.get(key, float, default)
        if not abs(value) < FLOAT32_LIMIT:
            raise self.fail(key, "not a number that float32 holds")
        return value

    def expect(self, key: str, *allowed: Any) -> Any:
        """The value of a key that may only be one of `allowed`; absent counts as the first."""
        self._seen.add(key)
        value = self.values.get(key, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise self.fail(key, f"not supported; known are {', '.join(map(quote, allowed))}")
        return value

    def rename(self, **older: str) -> None:
        """Read each key of `older` as the one that it stands for.

        Raises
        ------
        ConversionError
            Both are there, with different values.
        """
        for key, name in older.items():
            if self.values.get(key) is None:
                continue
            if self.values.get(name) not in (None, self.values[key]):
                raise self.fail(key, f"is another name of {name} = {quote(self.values[name])}")
            self.values = {**self.values, name: self.values[key]}
            self._seen.add(key)

    def section(self, key: str) -> Config | None:
        """An object inside the configuration, None where it is absent or null."""
        values = self.get(key, dict, {})
        return Config(values, f"{self.path}: {key}") if values else None

    def finish(self, harmless: Iterable[str] = ()) -> None:
        """Refuse keys that nobody has read and that may have an effect.

        Raises
        ------
        ConversionError
            Naming the key and its value.
        """
        for key, value in self.values.items():
            known = key in self._seen or key in harmless or any(fnmatch.fnmatchcase(key, p) for p in HARMLESS_PATTERNS)
            if value is not None and not known:
                raise ConversionError(
                    f"{self.path}: {key} = {quote(value)} is not known, and may change the model's results"
                )


@dataclass
class Source:
    """A folder to convert from.

    Attributes
    ----------
    folder : Path
    config : Config
        Of `config.json`.
    checkpoint : Checkpoint
    """

    folder: Path
    config: Config
    checkpoint: Checkpoint

    @property
    def task(self) -> str:
        """What the checkpoint's class has on top of the model: the end of its name, "ForMaskedLM"; empty: nothing."""
        names = [str(name) for name in self.config.get("architectures", list, [])]
        found = [match[0] for name in names if (match := re.search(r"For[A-Z]\w+$", name))]
        return found[0] if found else ""

    def json(self, name: str) -> Any:
        """A JSON file of the folder, None where there is none."""
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def config_of(self, name: str) -> Config:
        """A JSON object of the folder, empty where there is no such file."""
        path = self.folder / name
        return Config(read_json_object(path) if path.is_file() else {}, str(path))


ReadRows = Callable[[int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the file to be: how to get it, without having it.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Rows first.
    dtype : str
        Of the source, for the report.
    read : callable
        Gives the float32 array of that shape.
    read_rows : callable or None
        Where the source has the very bytes that are to be written: gives those of some rows, by first and count.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Float32]
    read_rows: ReadRows | None = None


class TensorPlan:
    """Collects the tensors of the file to be, and keeps account of the checkpoint's.

    Parameters
    ----------
    checkpoint : Checkpoint
    *bases : str
        What stands before the names of the model itself, beside a head; a checkpoint that has it in another of these
        spellings, or has no head and so none of them, is read as if it had the first.
    """

    def __init__(self, checkpoint: Checkpoint, *bases: str) -> None:
        self.checkpoint = checkpoint
        self.tensors: list[PlannedTensor] = []
        self._stored = _with_base(checkpoint.names(), bases)
        self._names = frozenset(self._stored)
        self._used: set[str] = set()
        self._source_of: dict[str, str] = {}

    def has(self, source: str) -> bool:
        return source in self._names

    def shape(self, source: str) -> tuple[int, ...]:
        """Of a tensor of the checkpoint. Raises CheckpointFormatError where there is none."""
        return tuple(self.checkpoint.info(self._stored.get(source, source)).shape)

    def first(self, *sources: str) -> str:
        """The first of several names that the checkpoint has; the first of all where it has none."""
        return next((source for source in sources if source in self._names), sources[0])

    def take(
        self,
        target: str,
        source: str,
        shape: Sequence[int],
        transform: Callable[[Float32], Float32] | None = None,
        source_shape: Sequence[int] | None = None,
        optional: bool = False,
    ) -> None:
        """Plan `target` from the checkpoint's tensor `source`.

        Parameters
        ----------
        shape : sequence of int
            Of the target.
        transform : callable, optional
            From the source's array to the target's.
        source_shape : sequence of int, optional
            Of the source, where it is another.
        optional : bool
            Plan nothing where the checkpoint has no such tensor.

        Raises
        ------
        ConversionError
            The tensor is missing, or its shape is not what the configuration says.
        """
        if source not in self._names:
            if optional:
                return
            raise ConversionError(f"the checkpoint has no tensor {quote(source)}, from which {target} is made")
        self._used.add(source)
        self._source_of[target] = source
        stored = self._stored[source]
        found, dtype = self.checkpoint.info(stored)
        expected = tuple(shape if source_shape is None else source_shape)
        if tuple(found) != expected:
            what = f"has shape {tuple(found)}, and the configuration asks for {expected}"
            raise ConversionError(f"tensor {quote(source)} {what}")

        def read() -> Float32:
            array = self.checkpoint.read(stored)
            return array if transform is None else transform(array)

        self.tensors.append(PlannedTensor(target, tuple(shape), str(dtype), read))

    def take_together(self, target: str, sources: Sequence[str], shape: Sequence[int]) -> None:
        """Plan `target` from tensors of the checkpoint of this shape, one after the other along a new first axis.

        Raises
        ------
        ConversionError
            As for `take`.
        """
        for source in sources:
            self.take(target, source, shape)
        parts = self.tensors[-len(sources) :]
        del self.tensors[-len(sources) :]

        def read() -> Float32:
            return np.stack([part.read() for part in parts])

        self.tensors.append(PlannedTensor(target, (len(sources), *shape), parts[0].dtype, read))

    def make(self, target: str, shape: Sequence[int], compute: Callable[[], Float32]) -> None:
        """Plan a tensor that is computed, not read: when its turn comes, for it may be large."""
        self.tensors.append(PlannedTensor(target, tuple(shape), "computed", compute))

    def is_copy(self, source: str, target: str) -> bool:
        """Whether the checkpoint's tensor `source` has the numbers that `target` is made from; reads both."""
        original = self._source_of[target]
        if self.shape(source) != self.shape(original):
            return False
        stored = (self._stored[source], self._stored[original])
        digests = [blake2b(self.checkpoint.read(name).data).digest() for name in stored]
        return digests[0] == digests[1]

    def ignore(self, *patterns: str) -> list[str]:
        """Leave out tensors that the model does without and that nothing has taken; returns their names."""
        free = self._names - self._used
        names = sorted(name for name in free if any(fnmatch.fnmatchcase(name, p) for p in patterns))
        self._used.update(names)
        return names

    def finish(self) -> list[PlannedTensor]:
        """The plan.

        Raises
        ------
        ConversionError
            Tensors of the checkpoint are left over; the message names the first few.
        """
        names = sorted(self._names - self._used)
        if names:
            shown = ", ".join(quote(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
            raise ConversionError(f"{len(names)} tensors of the checkpoint have no place in this architecture: {shown}")
        return self.tensors


def _with_base(names: Iterable[str], bases: Sequence[str]) -> dict[str, str]:
    """The checkpoint's names by those that they have with the first base."""
    listed = list(names)
    found = next((base for base in bases if any(name.startswith(base) for name in listed)), "")
    if not bases or found == bases[0]:
        return {name: name for name in listed}
    return {bases[0] + name.removeprefix(found) if name.startswith(found) else name: name for name in listed}


@dataclass
class Plan:
    """All that goes into a file.

    Attributes
    ----------
    metadata : dict
        Under the architecture's own prefix, which is added on writing.
    tensors : list of PlannedTensor
    vocabularies : dict
        By prefix of their keys.
    notes : list of str
        What the user should know.
    """

    metadata: dict[str, Any]
    tensors: list[PlannedTensor]
    vocabularies: dict[str, Vocabulary]
    notes: list[str] = field(default_factory=list)
