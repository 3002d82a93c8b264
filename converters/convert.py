"""From a checkpoint to a GGUF file, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    ConversionError,
    InvalidOptionError,
    ModelFormatError,
    ModelNotFoundError,
    NotEnoughMemoryError,
    PathLike,
    UnsupportedModelError,
    quote,
)
from ..files.gguf.encoding import encode_value
from ..files.gguf.layout import ALIGNMENT_KEY
from ..files.gguf.reader import GGUFFile, GGUFHead, GGUFWriter, is_gguf
from ..host.memory import ShortMemory
from ..models.registry import build_architecture
from ..quants import TYPES, QuantizationType
from ..text.defaults import settings_of_config
from ..text.settings import TextSettings
from .adapter_files import convert_adapter, is_adapter
from .adapters import with_adapter
from .architectures.huggingface import Config, Plan, Source
from .architectures.registry import architecture_of, planner_of
from .architectures.tensor_plan import PlannedTensor, ReadRows
from .report import ConversionReport, TensorReport
from .sources.checkpoint import open_checkpoint
from .types.importance import read_importance
from .types.policy import Choice, Policy
from .vocabularies.tasks import task_metadata

__all__ = ["ConversionReport", "TensorReport", "convert"]

FILE_TYPE_KEY = "general.file_type"
START_KEY = "decoder_start_token_id"
CHUNK_ELEMENTS = 1 << 22  # quantized at a time, so that what comes beside a tensor stays small

Progress = Callable[[str, int, int], None]
Importance = Mapping[str, NDArray[np.float32]]


@ShortMemory("convert")
def convert(
    source: PathLike,
    out: PathLike,
    *,
    type: str = "q8_0",
    overrides: Mapping[str, str] | None = None,
    importance: Importance | PathLike | None = None,
    adapter: PathLike | None = None,
    base: PathLike | None = None,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a checkpoint to a GGUF file.

    Parameters
    ----------
    source : path-like
        A Hugging Face or sentence-transformers folder; a file of weights with `config.json` beside it; or a GGUF file
        of F32, F16 or BF16 weights, by any name. Weights of a GGUF file that are quantized stay as they are, and are
        refused where the type asked for needs others: to quantize twice loses twice. Its metadata stay what they are.
    out : path-like
        The file to write. There is nothing at the path, or what was there before, until all is written.
    type : str
        Of the matrices: ``"f32"``, ``"f16"``, ``"bf16"``, ``"i8_row"`` (a scale a row, edgeformer's own) or a file type
        of llama-quantize, e.g. ``"q8_0"`` or ``"q4_k_m"``, which gives every matrix the type that llama-quantize does.
    overrides : mapping of str to str, optional
        Types by pattern of the tensor's name, e.g. ``{"token_embd.weight": "f16"}``.
    importance : mapping of str to float32 [K], or path-like, optional
        How much each column of a matrix matters, by the tensor's name, or the importance file that has it. Types below
        eight bits then keep their errors away from the columns that matter.
    adapter : path-like, optional
        A folder of PEFT's with a LoRA adapter, which is added to the weights of the checkpoint.
    base : path-like, optional
        Where the source is such a folder itself: the checkpoint that it was trained on. The file is then an adapter of
        its own in F32, for `Model.load_adapter`.
    progress : callable, optional
        Called with the name of each tensor, its number from 0, and how many there are.

    Raises
    ------
    ModelNotFoundError
        There is no source, or it holds no checkpoint.
    ConversionError
        The source asks for something that edgeformer does not run, or its parts contradict each other. What `load`
        would refuse is not written; only a GGUF file of an architecture that edgeformer does not run is converted all
        the same, with a note.
    CheckpointFormatError, ModelFormatError
        A file of the source is damaged.
    InvalidOptionError
        A type is unknown, or an override matches nothing.
    NotEnoughMemoryError
        There is no memory for one of the tensors.
    OutputError
        The file cannot be written.
    """
    files: list[PathLike] = []  # read from, beside the source
    if isinstance(importance, (str, os.PathLike)):
        files, importance = [importance], read_importance(importance)
    weights = importance or {}
    policy = Policy(type, overrides, weighted=bool(weights))
    if is_adapter(source) or base is not None:
        return convert_adapter(source, base, out)
    if not os.path.isdir(source) and is_gguf(source):
        if adapter is not None:
            raise InvalidOptionError("adapter: it is merged into a checkpoint of PyTorch, not into a GGUF file")
        return _requantize(Path(source), out, policy, weights, files, progress)
    with open_checkpoint(source) as plain, with_adapter(plain, adapter) as checkpoint:
        folder = Path(checkpoint.folder)
        if checkpoint.config is None:
            raise ModelNotFoundError(folder, "there is no config.json; it says what the weights mean")
        opened = Source(folder, Config(checkpoint.config, str(folder / "config.json")), checkpoint)
        architecture = architecture_of(opened.config)
        plan = planner_of(architecture)(opened)
        metadata = _metadata(architecture.name, plan, policy, opened)
        shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
        stored = {tensor.name: tensor.stored for tensor in plan.tensors if tensor.stored}
        choices = policy.choose(shapes, _heads_per_value(metadata, architecture.name), stored)
        job = _Job(out, architecture.name, policy, plan.tensors, choices, weights, progress)
        encoded = {
            k: encode_value(k, v, "string" if isinstance(v, list) and not v else None) for k, v in metadata.items()
        }
        notes = [
            *plan.notes,
            *opened.config.notes,
            *(note for vocabulary in plan.vocabularies.values() for note in vocabulary.notes),
        ]
        with GGUFWriter(out, architecture.name, sources=[*checkpoint.files(), *files]) as writer:
            job.declare(writer, encoded)
            try:
                notes += _load_notes(writer)
            except (ModelFormatError, UnsupportedModelError) as error:
                raise ConversionError(f"{folder}: edgeformer could not load what this makes: {error}") from error
            return job.write(writer, list(dict.fromkeys(notes)))


def _metadata(name: str, plan: Plan, policy: Policy, source: Source) -> dict[str, Any]:
    """All keys of the file but `general.architecture`, which the writer adds."""
    title = source.config.values.get("_name_or_path")
    general: dict[str, Any] = {
        "general.name": Path(title).name if isinstance(title, str) and title else source.folder.resolve().name,
        FILE_TYPE_KEY: policy.mix.file_type,
        "general.quantization_version": 2,
    }
    generation = source.json("generation_config.json")
    if generation is None:  # where older versions of transformers kept these, and newer ones still look
        generation = settings_of_config(source.config.values)
    elif isinstance(generation, dict) and generation.get(START_KEY) is not None and START_KEY in plan.metadata:
        plan.metadata[START_KEY] = generation[START_KEY]  # which is what transformers follows
    if generation != {} and plan.vocabularies:  # what has no vocabulary, an encoder of sound, generates nothing
        general["general.generation.json"] = json.dumps(generation, ensure_ascii=False)
    sentences = source.config_of("config_sentence_transformers.json").values
    prompts = {key: sentences[key] for key in ("prompts", "default_prompt_name") if sentences.get(key)}
    if prompts:
        general["general.prompts.json"] = json.dumps(prompts, ensure_ascii=False)
    settings = source.config_of("tokenizer_config.json").values
    if START_KEY in plan.metadata:  # of models that make one text from another
        general |= task_metadata(source.config.values, settings, sentences=plan.sentences)
    architecture = {f"{name}.{key}": value for key, value in plan.metadata.items()}
    vocabularies = {
        k: v for prefix, vocabulary in plan.vocabularies.items() for k, v in vocabulary.metadata(prefix).items()
    }
    return general | architecture | vocabularies


def _heads_per_value(metadata: Mapping[str, Any], architecture: str) -> int:
    """Query heads that share a key and value head, in the first layer; 1 where the file does not say."""
    keys = (f"{architecture}.attention.head_count", f"{architecture}.attention.head_count_kv")
    counts = [np.ravel(metadata[key])[0] for key in keys if np.size(metadata.get(key, ()))]
    if len(counts) < 2 or not all(isinstance(count, (int, np.integer)) and count > 0 for count in counts):
        return 1
    return int(counts[0] // counts[1])


def _requantize(
    source: Path,
    out: PathLike,
    policy: Policy,
    importance: Importance,
    files: Sequence[PathLike],
    progress: Progress | None,
) -> ConversionReport:
    """From one GGUF file to another, with other types; weights that are quantized already stay what they are.

    `files` are read from, too.
    """
    with GGUFFile(source) as file:
        if file.get("split.count", int, 1) > 1:
            raise ConversionError(f"{source}: one part of several; join them with llama-gguf-split first")
        kind = file.get("general.type", str, "model")
        if kind != "model":
            raise ConversionError(f"{source}: is of the kind {quote(kind)}, not a model")
        architecture = file.get("general.architecture", str)
        shapes = {name: info.shape for name, info in file.tensors.items()}
        choices = policy.choose(shapes, _heads_per_value(file.metadata, architecture))
        tensors = [_from_gguf(file, name, choice) for name, choice in choices.items()]
        kept = file.metadata.keys() - {"general.architecture", ALIGNMENT_KEY}
        encoded = {key: file.encoded(key) for key in file.metadata if key in kept}
        encoded[FILE_TYPE_KEY] = encode_value(FILE_TYPE_KEY, policy.mix.file_type, "uint32")
        job = _Job(out, architecture, policy, tensors, choices, importance, progress)
        with GGUFWriter(out, architecture, sources=[source, *files]) as writer:
            job.declare(writer, encoded)
            try:
                notes = _load_notes(writer)
            except (ModelFormatError, UnsupportedModelError) as error:
                notes = [f"edgeformer cannot load this file: {error}"]
            return job.write(writer, notes)


def _load_notes(writer: GGUFWriter) -> list[str]:
    """Read what is about to be written as `load` does, before there are weights; what to say of it.

    Raises
    ------
    ModelFormatError, UnsupportedModelError
        `load` would refuse the file.
    """
    head = GGUFHead.of_writer(writer)
    architecture = build_architecture(head)
    unsupported = TextSettings.from_metadata(head.metadata, head.path, architecture.vocab_size).defaults.unsupported
    return [f"settings of generation that edgeformer does not follow: {', '.join(unsupported)}"] if unsupported else []


def _from_gguf(file: GGUFFile, name: str, choice: Choice) -> PlannedTensor:
    """A tensor of a GGUF file. Quantized ones are copied if they have the type that was chosen, and else refused."""
    info = file.tensors[name]
    if info.type == choice.type.id and choice.type.block_size > 1:
        rows = partial(file.read_rows, name)
        return PlannedTensor(
            name, info.shape, info.type_name, partial(file.dequantize, name), choice.type.name, lambda: rows
        )
    stored = TYPES.get(info.type)
    if stored is None or stored.block_size > 1:
        kind = "unknown to edgeformer" if stored is None else info.type_name
        what = f"tensor {quote(name)} is {kind}, not F32, F16 or BF16"
        raise ConversionError(f"{file.path}: {what}; quantize from the unquantized file")
    return PlannedTensor(name, info.shape, info.type_name, partial(file.dequantize, name))


@dataclass
class _Job:
    """Writing one file."""

    out: PathLike
    architecture: str
    policy: Policy
    tensors: list[PlannedTensor]
    choices: Mapping[str, Choice]
    importance: Importance
    progress: Progress | None

    def declare(self, writer: GGUFWriter, metadata: Mapping[str, bytes]) -> None:
        """Everything that stands before the weights."""
        self._check_importance()
        for key, encoded in metadata.items():
            writer.add_encoded(key, encoded)
        for tensor in self.tensors:
            writer.declare(tensor.name, tensor.shape, self.choices[tensor.name].type.id)

    def write(self, writer: GGUFWriter, notes: list[str]) -> ConversionReport:
        """The weights, one tensor in memory at a time."""
        reports = []
        for index, tensor in enumerate(self.tensors):
            if self.progress is not None:
                self.progress(tensor.name, index, len(self.tensors))
            try:
                reports.append(self._write(writer, tensor))
            except NotEnoughMemoryError:
                raise
            except MemoryError:
                nbytes = 4 * math.prod(tensor.shape)
                raise NotEnoughMemoryError(f"tensor {tensor.name} in float32", nbytes) from None
        notes = [*notes, *self.policy.notes()]
        return ConversionReport(str(self.out), self.architecture, self.policy.mix.name, reports, notes)

    def _check_importance(self) -> None:
        """Each importance that is there has to fit its matrix, and one at least has to be there."""
        fitting = {tensor.name: tensor.shape[-1] for tensor in self.tensors if tensor.name in self.importance}
        if self.importance and not fitting:
            raise ConversionError("the importance weights name no tensor of this model: they belong to another one")
        for name, columns in fitting.items():
            if np.shape(self.importance[name]) != (columns,):
                what = f"rows of {columns} and importance weights of shape {np.shape(self.importance[name])}"
                raise ConversionError(f"tensor {name} has {what}: they belong to another model")

    def _write(self, writer: GGUFWriter, tensor: PlannedTensor) -> TensorReport:
        """Write one tensor, some rows at a time: copied, or read and quantized."""
        choice = self.choices[tensor.name]
        if tensor.open_rows is not None and tensor.stored == choice.type.name:
            parts = _copied(tensor.shape, tensor.open_rows())
        else:
            parts = _quantized(tensor, choice.type, self.importance.get(tensor.name))
        nbytes, change, power = 0, 0.0, 0.0
        for raw, part_change, part_power in parts:
            writer.write(tensor.name, raw)
            nbytes += raw.nbytes
            change += part_change
            power += part_power
        relative = math.sqrt(change / power) if power else 0.0
        return TensorReport(tensor.name, tensor.shape, tensor.dtype, choice.type.name, nbytes, relative, choice.reason)


Part = tuple[NDArray[np.uint8], float, float]
"""Bytes of some rows, the sum of the squared differences that quantizing made, and that of the squared weights."""


def _copied(shape: tuple[int, ...], read_rows: ReadRows) -> Iterator[Part]:
    num_rows, step = math.prod(shape[:-1]), max(1, CHUNK_ELEMENTS // shape[-1])
    for first in range(0, num_rows, step):
        yield read_rows(first, min(step, num_rows - first)), 0.0, 0.0


def _quantized(
    tensor: PlannedTensor, wanted: QuantizationType, importance: NDArray[np.float32] | None
) -> Iterator[Part]:
    weights = tensor.read()
    if weights.shape != tensor.shape:
        raise ConversionError(f"tensor {tensor.name} has shape {weights.shape}, not {tensor.shape}")
    rows = weights.reshape(-1, weights.shape[-1])
    step = max(1, CHUNK_ELEMENTS // rows.shape[1])
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        try:
            raw = wanted.quantize(part, importance)
        except ConversionError as error:
            raise ConversionError(f"tensor {tensor.name}: {error}") from error
        yield raw, _change(part, raw, wanted), float(np.vdot(part, part))


def _change(part: NDArray[np.float32], raw: NDArray[np.uint8], stored: QuantizationType) -> float:
    """Sum of the squared differences that quantizing makes."""
    if stored.name == "f32":
        return 0.0
    difference = stored.dequantize(raw, part.shape) - part
    return float(np.vdot(difference, difference))
