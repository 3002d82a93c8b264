"""What the architectures share when they read a source: its files, its configuration, its tensors by name.

Nothing is dropped in silence. A key of the configuration is read, or known to be without effect, or an error; a tensor
of the checkpoint is used, or named as not needed, or an error.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
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
from .tensor_plan import PlannedTensor, TensorPlan

__all__ = ["HARMLESS", "REQUIRED", "Config", "Plan", "Required", "Source", "TensorPlan"]

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
    unk_token_id return_dict use_return_dict id2label label2id num_labels _num_labels problem_type tokenizer_class
    prefix task_specific_params finetuning_task keys_to_ignore_at_inference torchscript _attn_implementation
    attn_implementation _flash_attn_2_enabled chunk_size_feed_forward is_encoder_decoder output_past is_llama_config
    _attn_implementation_autoset _num_labels directionality language name xla_device model_max_length
    pooler_type pooler_fc_size pooler_num_fc_layers pooler_size_per_head pooler_num_attention_heads
        """,
    )
)
# By pattern: rates of dropout, which only training has, the pooling of a classifier that is not there, other runtimes.
HARMLESS_PATTERNS = (
    *("dropout", "dropout_rate", "*_dropout", "*_dropout_prob", "*_pdrop", "summary_*"),
    "transformers.js_config",
)


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
    sentences : bool
        The model translates, and was trained on single sentences.
    """

    metadata: dict[str, Any]
    tensors: list[PlannedTensor]
    vocabularies: dict[str, Vocabulary]
    notes: list[str] = field(default_factory=list)
    sentences: bool = False
