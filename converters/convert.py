"""From a checkpoint to a GGUF file, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from edgeformer.errors import ConversionError, ModelNotFoundError, PathLike, quote
from edgeformer.gguf import GGUFFile, GGUFWriter
from edgeformer.quants import TYPES, QuantizationType
from numpy.typing import NDArray

from .checkpoint import open_checkpoint
from .huggingface import Config, Plan, PlannedTensor, Source
from .policy import FILE_TYPES, Choice, Policy
from .registry import architecture_of, planner_of

__all__ = ["ConversionReport", "TensorReport", "convert"]

CHUNK_ELEMENTS = 1 << 22  # quantized at a time, so that what comes beside a tensor stays small

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TensorReport:
    """One tensor of the file that was written.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Rows first.
    source_dtype, type : str
    nbytes : int
    error : float
        Root mean square of the change of its weights, relative to that of the weights.
    reason : str
        Why the type is not the one that was asked for, if it is not.
    """

    name: str
    shape: tuple[int, ...]
    source_dtype: str
    type: str
    nbytes: int
    error: float
    reason: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes
    ----------
    path : str
        Of the file that was written.
    architecture, type : str
    tensors : list of TensorReport
        In the file's order.
    notes : list of str
        What the user should know: things left out, things other readers of GGUF do otherwise.
    """

    path: str
    architecture: str
    type: str
    tensors: list[TensorReport]
    notes: list[str] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def convert(
    source: PathLike,
    out: PathLike,
    *,
    type: str = "q8_0",
    overrides: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a checkpoint to a GGUF file.

    Parameters
    ----------
    source : path-like
        A Hugging Face or sentence-transformers folder; a file of weights with `config.json` beside it; or a GGUF file
        of F32, F16 or BF16 weights.
    out : path-like
        The file to write. There is nothing at the path, or what was there before, until all is written.
    type : str
        Of the matrices: ``"f32"``, ``"f16"``, ``"bf16"``, ``"q8_0"`` or ``"q4_0"``.
    overrides : mapping of str to str, optional
        Types by pattern of the tensor's name, e.g. ``{"token_embd.weight": "f16"}``.
    progress : callable, optional
        Called with the name of each tensor, its number from 0, and how many there are.

    Raises
    ------
    ModelNotFoundError
        There is no source, or it holds no checkpoint.
    ConversionError
        The source asks for something that edgeformer does not run, or its parts contradict each other.
    CheckpointFormatError, ModelFormatError
        A file of the source is damaged.
    InvalidOptionError
        A type is unknown, or an override matches nothing.
    OutputError
        The file cannot be written.
    """
    policy = Policy(type, overrides)
    if Path(source).suffix.lower() == ".gguf":
        return _requantize(Path(source), out, policy, progress)
    with open_checkpoint(source) as checkpoint:
        folder = Path(checkpoint.folder)
        if checkpoint.config is None:
            raise ModelNotFoundError(folder, "there is no config.json; it says what the weights mean")
        opened = Source(folder, Config(checkpoint.config, str(folder / "config.json")), checkpoint)
        architecture = architecture_of(opened.config)
        plan = planner_of(architecture)(opened)
        metadata = _metadata(architecture.name, plan, policy, opened)
        job = _Job(out, architecture.name, policy, plan.tensors, progress)
        notes = [*plan.notes, *(note for vocabulary in plan.vocabularies.values() for note in vocabulary.notes)]
        return job.run(metadata, list(dict.fromkeys(notes)), checkpoint.files())


def _metadata(name: str, plan: Plan, policy: Policy, source: Source) -> dict[str, Any]:
    """All keys of the file but `general.architecture`, which the writer adds."""
    title = source.config.values.get("_name_or_path")
    general: dict[str, Any] = {
        "general.name": Path(title).name if isinstance(title, str) and title else source.folder.resolve().name,
        "general.file_type": FILE_TYPES[policy.type.name],
        "general.quantization_version": 2,
    }
    generation = source.json("generation_config.json")
    if generation is not None:
        general["general.generation.json"] = json.dumps(generation, ensure_ascii=False)
    sentences = source.config_of("config_sentence_transformers.json").values
    prompts = {key: sentences[key] for key in ("prompts", "default_prompt_name") if sentences.get(key)}
    if prompts:
        general["general.prompts.json"] = json.dumps(prompts, ensure_ascii=False)
    architecture = {f"{name}.{key}": value for key, value in plan.metadata.items()}
    vocabularies = {
        k: v for prefix, vocabulary in plan.vocabularies.items() for k, v in vocabulary.metadata(prefix).items()
    }
    return general | architecture | vocabularies


def _requantize(source: Path, out: PathLike, policy: Policy, progress: Progress | None) -> ConversionReport:
    """From one GGUF file to another, with other types; weights that are quantized already stay what they are."""
    with GGUFFile(source) as file:
        if file.get("split.count", int, 1) > 1:
            raise ConversionError(f"{source}: one part of several; join them with llama-gguf-split first")
        tensors = []
        for name, info in file.tensors.items():
            stored = TYPES.get(info.type)
            wanted = policy.choose(name, info.shape).type
            if stored is None or (stored.block_size > 1 and stored is not wanted):
                kind = "unknown to edgeformer" if stored is None else info.type_name
                what = f"tensor {quote(name)} is {kind}, not F32, F16 or BF16"
                raise ConversionError(f"{source}: {what}; quantize from the unquantized file")

            def read(name: str = name) -> NDArray[np.float32]:
                return file.dequantize(name)

            tensors.append(PlannedTensor(name, info.shape, info.type_name, read))
        metadata = {k: v for k, v in file.metadata.items() if k not in ("general.architecture", "general.alignment")}
        metadata["general.file_type"] = FILE_TYPES[policy.type.name]
        job = _Job(out, file.get("general.architecture", str), policy, tensors, progress)
        return job.run(metadata, [], [source])


@dataclass
class _Job:
    """Writing one file."""

    out: PathLike
    architecture: str
    policy: Policy
    tensors: list[PlannedTensor]
    progress: Progress | None

    def run(self, metadata: dict[str, Any], notes: list[str], sources: Sequence[PathLike]) -> ConversionReport:
        choices = [self.policy.choose(tensor.name, tensor.shape) for tensor in self.tensors]
        self.policy.finish()
        reports = []
        with GGUFWriter(self.out, self.architecture, sources=sources) as writer:
            for key, value in metadata.items():
                empty = isinstance(value, list) and not value
                writer.add(key, value, "string" if empty else None)
            for tensor, choice in zip(self.tensors, choices, strict=True):
                writer.declare(tensor.name, tensor.shape, choice.type.id)
            for index, (tensor, choice) in enumerate(zip(self.tensors, choices, strict=True)):
                if self.progress is not None:
                    self.progress(tensor.name, index, len(self.tensors))
                reports.append(_write(writer, tensor, choice))
        return ConversionReport(str(self.out), self.architecture, self.policy.type.name, reports, notes)


def _write(writer: GGUFWriter, tensor: PlannedTensor, choice: Choice) -> TensorReport:
    """Read, quantize and write one tensor, some rows at a time."""
    weights = tensor.read()
    if weights.shape != tensor.shape:
        raise ConversionError(f"tensor {tensor.name} has shape {weights.shape}, not {tensor.shape}")
    rows = weights.reshape(-1, weights.shape[-1])
    step = max(1, CHUNK_ELEMENTS // rows.shape[1])
    nbytes, change, power = 0, 0.0, 0.0
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        try:
            raw = choice.type.quantize(part)
        except ConversionError as error:
            raise ConversionError(f"tensor {tensor.name}: {error}") from error
        writer.write(tensor.name, raw)
        nbytes += raw.nbytes
        change += _change(part, raw, choice.type)
        power += float(np.vdot(part, part))
    relative = math.sqrt(change / power) if power else 0.0
    return TensorReport(tensor.name, tensor.shape, tensor.dtype, choice.type.name, nbytes, relative, choice.reason)


def _change(part: NDArray[np.float32], raw: NDArray[np.uint8], stored: QuantizationType) -> float:
    """Sum of the squared differences that quantizing makes."""
    if stored.name == "f32":
        return 0.0
    difference = stored.dequantize(raw, part.shape) - part
    return float(np.vdot(difference, difference))
