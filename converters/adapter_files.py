"""LoRA adapters of PEFT as llama.cpp's adapter files, to be loaded beside a model.

The names and the order of rows that a model's tensors have in its GGUF file follow from its checkpoint by the
architecture's own table. So that table is asked what becomes of each matrix: it is given the numbers of rows and of
columns in the place of weights, and the factors follow them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError, InvalidOptionError, ModelNotFoundError, PathLike, quote
from ..files.gguf.writer import GGUFWriter
from .adapters import CONFIG, LoraAdapter
from .architectures.huggingface import Config, Source
from .architectures.registry import architecture_of, planner_of
from .architectures.tensor_plan import PlannedTensor
from .report import ConversionReport, TensorReport
from .sources.checkpoint import Checkpoint, TensorDescription, open_checkpoint

__all__ = ["convert_adapter", "is_adapter"]

Float32 = NDArray[np.float32]
F32 = 0  # its number
FLOAT32_INTEGERS = 1 << 24  # float32 holds all of them below


def is_adapter(folder: PathLike) -> bool:
    """Whether a folder holds an adapter of PEFT."""
    return (Path(folder) / CONFIG).is_file()


def convert_adapter(folder: PathLike, base: PathLike | None, out: PathLike) -> ConversionReport:
    """Write an adapter as llama.cpp's adapter file, its factors in F32.

    Parameters
    ----------
    folder : path-like
        PEFT's.
    base : path-like
        The checkpoint that it was trained on: a folder with its `config.json`.
    out : path-like
        The file to write.

    Raises
    ------
    InvalidOptionError
        There is no base, or the folder holds no adapter.
    ConversionError
        The adapter does not fit the base, or changes what has no place beside a model.
    ModelNotFoundError, CheckpointFormatError, OutputError
    """
    if base is None:
        raise InvalidOptionError(f"{folder} is an adapter: name the checkpoint that it belongs to, with base or --base")
    if not is_adapter(folder):
        raise InvalidOptionError(f"base: {folder} holds no adapter, to which it would belong; leave it out")
    with open_checkpoint(base) as checkpoint:
        if checkpoint.config is None:
            raise ModelNotFoundError(checkpoint.folder, "there is no config.json; it says what the weights mean")
        probe = _Probe(checkpoint)
        opened = Source(Path(checkpoint.folder), Config(checkpoint.config, str(base)), probe)
        architecture = architecture_of(opened.config)
        tensors = planner_of(architecture)(opened).tensors
        adapter = LoraAdapter(folder, checkpoint)
        with adapter.checkpoint as stored:
            if adapter.saved:
                names = ", ".join(map(quote, sorted(adapter.saved)[:4]))
                raise adapter.fail(f"it has whole tensors ({names}): merge it into the checkpoint, with --adapter")
            factors = _factors(adapter, probe, tensors)
            with GGUFWriter(out, architecture.name, sources=[*checkpoint.files(), *stored.files()]) as file:
                file.add("general.type", "adapter")
                file.add("general.name", Path(folder).resolve().name)
                file.add("adapter.type", "lora")
                file.add("adapter.lora.alpha", adapter.alpha)
                for name, array in factors.items():
                    file.declare(name, array.shape, F32)
                for name, array in factors.items():
                    file.write(name, array)
    reports = [TensorReport(name, array.shape, "float32", "f32", array.nbytes, 0.0) for name, array in factors.items()]
    return ConversionReport(str(out), architecture.name, "f32", reports, [])


class _Probe(Checkpoint):
    """A checkpoint that gives its tensors, or in their place the numbers of their rows, of their columns, or ones."""

    def __init__(self, base: Checkpoint) -> None:
        self.path, self.folder, self.config = base.path, base.folder, base.config
        self._base, self.axis, self.seen = base, -1, list[str]()

    def files(self) -> list[str]:
        return self._base.files()

    def names(self) -> list[str]:
        return self._base.names()

    def info(self, name: str) -> TensorDescription:
        return self._base.info(name)

    def read(self, name: str) -> NDArray[Any]:
        if self.axis < 0:
            return self._base.read(name)
        self.seen.append(name)
        shape = self._base.info(name).shape
        if self.axis >= len(shape):
            return np.ones(shape, np.float32)
        numbers = np.arange(shape[self.axis], dtype=np.float32)
        columns = numbers.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])
        return np.ascontiguousarray(np.broadcast_to(columns, shape))

    def look(self, tensor: PlannedTensor, axis: int) -> tuple[NDArray[Any], list[str]]:
        """What a tensor of the file becomes of such numbers, and the checkpoint's tensors that it is made of."""
        self.axis, self.seen = axis, []
        try:
            return tensor.read(), list(self.seen)
        finally:
            self.axis = -1


def _factors(adapter: LoraAdapter, probe: _Probe, tensors: list[PlannedTensor]) -> dict[str, Float32]:
    """The factors of every matrix of the file that the adapter changes, by llama.cpp's names."""
    factors, used = dict[str, Float32](), set[str]()
    for tensor in tensors:
        if tensor.dtype == "computed" or len(tensor.shape) < 2:
            continue
        rows, sources = probe.look(tensor, 0)
        changed = [name for name in sources if name in adapter.added]
        if not changed:
            continue
        if len(sources) > 1 or len(tensor.shape) != 2 or tensor.name == "token_embd.weight":
            raise adapter.fail(f"it changes {tensor.name}, beside which nothing can be: merge it, with --adapter")
        used.add(changed[0])
        columns, ones = probe.look(tensor, 1)[0], probe.look(tensor, 2)[0]
        if max(probe.info(changed[0]).shape) >= FLOAT32_INTEGERS or not (ones == 1).all():
            raise adapter.fail(f"{tensor.name} is computed of {changed[0]}: merge the adapter, with --adapter")
        down, up = _placed(*adapter.factors(changed[0]), rows, columns, tensor.name)
        factors |= {
            f"{tensor.name}.lora_a": np.ascontiguousarray(down),
            f"{tensor.name}.lora_b": np.ascontiguousarray(up),
        }
    lost = sorted(adapter.added.keys() - used)
    if lost:
        raise adapter.fail(f"it changes {quote(lost[0])}, which has no matrix of its own: merge it, with --adapter")
    return factors


def _placed(
    down: Float32, up: Float32, rows: NDArray[Any], columns: NDArray[Any], name: str
) -> tuple[Float32, Float32]:
    """The factors of a matrix whose element [i, j] is that of row rows[i, j] and column columns[i, j] of theirs."""
    if (rows == rows[:, :1]).all() and (columns == columns[:1]).all():
        return down[:, columns[0].astype(int)], up[rows[:, 0].astype(int)]
    if (rows == rows[:1]).all() and (columns == columns[:, :1]).all():
        return up[rows[0].astype(int)].T, down[:, columns[:, 0].astype(int)].T
    raise ConversionError(
        f"{name} mixes rows and columns of the checkpoint's matrix: merge the adapter, with --adapter"
    )
