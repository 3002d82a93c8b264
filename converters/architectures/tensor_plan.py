"""The tensors of the file to be: where each comes from in the checkpoint, and whether all of that is used."""

from __future__ import annotations

import fnmatch
from _blake2 import blake2b
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from ...quants import QuantizationType
from ..sources.checkpoint import Checkpoint

__all__ = ["PlannedTensor", "ReadRows", "ReadTensor", "TensorPlan"]

Float32 = NDArray[np.float32]
ReadRows = Callable[[int, int], NDArray[np.uint8]]
ReadTensor = Callable[[], Float32]


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
    stored : str
        Where the source has it quantized, the name of its type; it stays so unless floats are asked for.
    open_rows : callable or None
        Then gives a function of first and count that gives the bytes of some rows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Float32]
    stored: str = ""
    open_rows: Callable[[], ReadRows] | None = None


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
        """Of a tensor of the checkpoint. Raises ConversionError where there is none."""
        if source not in self._stored:
            raise ConversionError(f"the checkpoint has no tensor {quote(source)}")
        return tuple(self.checkpoint.info(self._stored[source]).shape)

    def dtype(self, source: str) -> str:
        """Type of a tensor of the checkpoint, as it names it. Raises CheckpointFormatError where there is none."""
        return self.checkpoint.info(self._stored.get(source, source)).dtype

    def read(self, source: str) -> NDArray[Any]:
        """The array of a tensor of the checkpoint, as `Checkpoint.read` gives it."""
        return self.checkpoint.read(self._stored.get(source, source))

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

    def take_together(
        self, target: str, sources: Sequence[str], shape: Sequence[int], *, new_axis: bool = True
    ) -> None:
        """Plan `target` from tensors of the checkpoint of this shape, one after the other along a new first axis, or
        along the first one.

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
            return (np.stack if new_axis else np.concatenate)([part.read() for part in parts])

        joined = (len(sources), *shape) if new_axis else (len(sources) * shape[0], *shape[1:])
        self.tensors.append(PlannedTensor(target, joined, parts[0].dtype, read))

    def take_stored(
        self,
        target: str,
        sources: Mapping[str, Sequence[int]],
        shape: Sequence[int],
        stored: QuantizationType,
        read_bytes: Callable[[], NDArray[np.uint8]],
    ) -> None:
        """Plan `target` from tensors of the checkpoint that are its blocks in another order.

        Parameters
        ----------
        sources : mapping of str to sequence of int
            The checkpoint's tensors, of bytes, and their shapes.
        stored : QuantizationType
        read_bytes : callable
            Gives uint8 [rows, bytes of a row] of that type.

        Raises
        ------
        ConversionError
            A tensor is missing, or has another shape or type.
        """
        for source, wanted in sources.items():
            if source not in self._names:
                raise ConversionError(f"the checkpoint has no tensor {quote(source)}, from which {target} is made")
            self._used.add(source)
            found, dtype = self.shape(source), self.dtype(source)
            if (found, dtype) != (tuple(wanted), "uint8"):
                what = f"is {dtype} of shape {found}, and the configuration asks for uint8 of {tuple(wanted)}"
                raise ConversionError(f"tensor {quote(source)} {what}")

        def open_rows() -> ReadRows:
            raw = read_bytes()
            return lambda first, count: raw[first : first + count]

        def read() -> Float32:
            return stored.dequantize(read_bytes(), tuple(shape))

        self.tensors.append(PlannedTensor(target, tuple(shape), stored.name, read, stored.name, open_rows))

    def reader(self, source: str, shape: Sequence[int]) -> ReadTensor:
        """What reads a tensor of this shape, for others to be computed from.

        Raises
        ------
        ConversionError
            As for `take`.
        """
        self.take(source, source, shape)
        return self.tensors.pop().read

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
