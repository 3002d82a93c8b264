"""LoRA adapters of PEFT (Hu et al. 2021): a checkpoint whose matrices have an adapter's low-rank products added.

Formulas and names: `peft/tuners/lora` of PEFT. What would need more than W + scale * B A is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError, ModelNotFoundError, PathLike, quote
from ..files.json_file import read_json_object
from .architectures.huggingface import Config
from .sources.checkpoint import Checkpoint, TensorDescription, open_checkpoint

__all__ = ["CONFIG", "LoraAdapter", "LowRank", "with_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
HALF = re.compile(r"(?P<module>.+)\.lora_(?P<kind>A|B|embedding_A|embedding_B)(\.default)?(\.weight)?")
WRAPPING = re.compile(r"(^base_model\.model\.|modules_to_save\.(default\.)?|base_layer\.)")
# The ends of the classes that PEFT's tasks make of a base, and what the bases' own classes end with.
TASKS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
CLASS_END = re.compile(r"(For[A-Z]\w+|LMHeadModel|Model)?$")
OWN_HEADS = ("lm_head.", "cls.", "vocab_")
HEAD, WITH_HEAD = "lm_head.weight", ("ForCausalLM", "LMHeadModel")
# A pattern with a few repeats, none of them of a group, takes little time over a name.
REPEATS, REPEATED_GROUP = re.compile(r"[*+{]"), re.compile(r"\)[*+{]")
MOST_REPEATS, LONGEST_PATTERN, LONGEST_NAME, LONGEST_RANK = 3, 256, 256, 1 << 20
ROWS = 1024  # of a product at a time

# Keys without effect on a merged matrix: where the adapter came from, what training did, which modules it chose.
HARMLESS = frozenset(
    re.findall(
        r"\w+",
        """
    auto_mapping base_model_name_or_path inference_mode layers_pattern layers_to_transform lora_dropout peft_version
    revision target_modules exclude_modules task_type megatron_core modules_to_save runtime_config eva_config
    ensure_weight_tying qalora_group_size
        """,
    )
)
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # others change the matrices that they start from


@dataclass(frozen=True)
class LowRank:
    """What is added to one matrix: scale * up @ down, or its transpose.

    Attributes
    ----------
    down, up : str
        Tensors of the adapter: [rank, inputs] and [outputs, rank].
    scale : float
    transposed : bool
        Whether the checkpoint has the matrix as [inputs, outputs].
    """

    down: str
    up: str
    scale: float
    transposed: bool


class LoraAdapter:
    """A folder of PEFT's over a checkpoint.

    Attributes
    ----------
    added : dict of str to LowRank
        By the checkpoint's tensor.
    saved : dict of str to str
        Tensors that the adapter has whole (``modules_to_save``), by the name that the checkpoint has, or would have.

    Raises
    ------
    ModelNotFoundError
        There is no adapter in the folder.
    ConversionError
        It is of another kind, or does not fit the checkpoint.
    """

    def __init__(self, folder: PathLike, base: Checkpoint) -> None:
        self.folder, self.base = Path(folder), base
        path = self.folder / CONFIG
        if not path.is_file():
            raise ModelNotFoundError(self.folder, f"there is no {CONFIG}: this is no adapter of PEFT")
        weights = next((self.folder / name for name in WEIGHTS if (self.folder / name).is_file()), None)
        if weights is None:
            raise ModelNotFoundError(self.folder, f"there is no {' or '.join(WEIGHTS)} beside {CONFIG}")
        self._config = Config(read_json_object(path), str(path))
        self.task = self._config.get("task_type", str, "")
        self._scales = _Scales(self._config)
        self.checkpoint = open_checkpoint(weights)
        try:
            self.added, self.saved = self._match()
        except BaseException:
            self.checkpoint.close()
            raise

    def fail(self, what: str) -> ConversionError:
        return ConversionError(f"{self.folder}: {what}")

    def _match(self) -> tuple[dict[str, LowRank], dict[str, str]]:
        halves: dict[str, dict[str, str]] = {}
        saved: dict[str, str] = {}
        for name in self.checkpoint.names():
            half = HALF.fullmatch(name)
            if half:
                halves.setdefault(WRAPPING.sub("", half["module"]), {})[half["kind"]] = name
            elif ".lora_" in name:
                raise self.fail(f"tensor {quote(name)} is no part of plain LoRA, and merging would lose it")
            else:
                plain = WRAPPING.sub("", name)
                saved[self._stored(plain) or plain] = name
        if not halves and not saved:
            raise self.fail("the adapter has no tensors")
        added = {}
        for module, names in halves.items():
            stored = self._stored(f"{module}.weight")
            if stored is None:
                raise self.fail(f"the base model has no matrix {quote(module)}, which the adapter changes")
            added[stored] = self._low_rank(module, stored, names)
        return added, saved

    def _stored(self, name: str) -> str | None:
        """The base's name of a tensor: the same, or the one that differs in what stands before it."""
        names = self.base.names()
        if name in names:
            return name
        near = [other for other in names if other.endswith(f".{name}") or name.endswith(f".{other}")]
        return near[0] if len(near) == 1 else None

    def _low_rank(self, module: str, stored: str, names: Mapping[str, str]) -> LowRank:
        is_table = set(names) == {"embedding_A", "embedding_B"}
        if not is_table and set(names) != {"A", "B"}:
            raise self.fail(f"{quote(module)} has {', '.join(sorted(names))} of LoRA alone")
        down, up = (names[f"embedding_{kind}" if is_table else kind] for kind in "AB")
        shapes = [tuple(self.checkpoint.info(name).shape) for name in (down, up)]
        rank = self._scales.rank(module)
        if any(len(shape) != 2 for shape in shapes) or not shapes[0][0] == shapes[1][1] == rank:
            raise self.fail(f"{quote(module)} has factors of shapes {shapes}, and the rank is {rank}")
        found, dtype = self.base.info(stored)
        product = (shapes[1][0], shapes[0][1])
        transposed = is_table or self._scales.transposed or (found != product and found == product[::-1])
        if tuple(found) != (product[::-1] if transposed else product):
            raise self.fail(f"{quote(module)} has factors of {product}, and the base's matrix is {tuple(found)}")
        if dtype in ("uint8", "int8"):
            raise self.fail(f"the base has {quote(stored)} in {dtype}: merge into a checkpoint of floats")
        return LowRank(down, up, self._scales.scale(module), transposed)

    @property
    def alpha(self) -> float:
        """The configuration's, which a file of the adapter has for all matrices."""
        return self._scales.alpha

    def factors(self, stored: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """down [rank, columns] and up [rows, rank] of a tensor as the base has it; their product is to be multiplied by
        `alpha` over the rank.
        """
        part = self.added[stored]
        down, up = (self.checkpoint.read(name) for name in (part.down, part.up))
        up = up * np.float32(part.scale * len(down) / self.alpha)
        return (up.T, down.T) if part.transposed else (down, up)

    def head(self) -> str | None:
        """The class that the base becomes with the adapter's own head; None where it keeps its class.

        Raises
        ------
        ConversionError
            The base does not say what class it is of.
        """
        classes = [str(kind) for kind in (self.base.config or {}).get("architectures") or ()]
        end = TASKS.get(self.task)
        if end is None or not self.saved or any(kind.endswith(end) for kind in classes):
            return None
        if not classes:
            raise self.fail("it has a head of its own, and the base's config.json names no class (architectures)")
        return CLASS_END.sub("", classes[0], count=1) + end

    def untied(self) -> str | None:
        """The embeddings that the base's head is, where the adapter adds to them: what is added is not the head's."""
        config = self.base.config or {}
        names = [name for name, part in self.added.items() if "embedding" in part.down]
        is_tied = config.get("tie_word_embeddings") is not False and HEAD not in self.base.names()
        heads = [str(kind) for kind in config.get("architectures") or ()]
        return names[0] if names and is_tied and any(kind.endswith(WITH_HEAD) for kind in heads) else None

    def plain(self, stored: str) -> NDArray[Any]:
        """A tensor before anything is added: the adapter's own, or the base's."""
        return self.checkpoint.read(self.saved[stored]) if stored in self.saved else self.base.read(stored)

    def merged(self, stored: str) -> NDArray[Any]:
        """A tensor of the base with what the adapter adds, float32."""
        weights, part = self.plain(stored), self.added[stored]
        target = weights.T if part.transposed else weights
        down, up = (self.checkpoint.read(name).astype(np.float64) for name in (part.down, part.up))
        for first in range(0, len(target), ROWS):
            target[first : first + ROWS] += part.scale * (up[first : first + ROWS] @ down)
        return weights


class _Scales:
    """Ranks and scales of the modules, from the configuration; refuses all that is not plain LoRA."""

    def __init__(self, config: Config) -> None:
        config.expect("peft_type", "LORA")
        config.expect("bias", "none")
        for flag in ("use_dora", "lora_bias", "use_qalora", "use_bdlora"):
            config.expect(flag, False, None)
        start = config.values.get("init_lora_weights", True)
        if not any(start is one or (type(start) is str and start == one) for one in PLAIN_STARTS):
            raise config.fail("init_lora_weights", "the base model is changed by this start: save it as plain LoRA")
        self._rank, self.alpha = config.count("r", 8), config.number("lora_alpha", 8.0)
        if self.alpha == 0:
            raise config.fail("lora_alpha", "an adapter that adds nothing")
        self._ranks, self._alphas = (_patterns(config, f"{kind}_pattern") for kind in ("rank", "alpha"))
        self._by_root = config.get("use_rslora", bool, False)
        self.transposed = config.get("fan_in_fan_out", bool, False)
        without = {key for key, value in config.values.items() if value in ({}, [], False)}
        config.finish(HARMLESS | without | {"init_lora_weights"})

    def rank(self, module: str) -> int:
        """Of a module, by the first pattern that fits the end of its name."""
        return int(_by_pattern(self._ranks, module, self._rank))

    def scale(self, module: str) -> float:
        """alpha / rank, or alpha over the root of the rank."""
        alpha, rank = float(_by_pattern(self._alphas, module, self.alpha)), self.rank(module)
        return alpha / (math.sqrt(rank) if self._by_root else rank)


def _patterns(config: Config, key: str) -> list[tuple[re.Pattern[str], float]]:
    """Numbers by patterns of the ends of modules' names.

    Raises
    ------
    ConversionError
        A pattern is none, or could take long to match; a number is not positive.
    """
    found = []
    for pattern, value in config.get(key, dict, {}).items():
        many = REPEATS.findall(pattern)
        if len(pattern) > LONGEST_PATTERN or len(many) > MOST_REPEATS or REPEATED_GROUP.search(pattern):
            raise config.fail(key, f"the pattern {quote(pattern)} may take long to match: name the modules instead")
        if type(value) not in (int, float) or not 0 < value < LONGEST_RANK:
            raise config.fail(key, f"{quote(value)} is not a number above 0")
        try:
            found.append((re.compile(rf"(.*\.)?({pattern})"), float(value)))
        except re.error as error:
            raise config.fail(key, f"{quote(pattern)} is no pattern: {error}") from error
    return found


def _by_pattern(patterns: list[tuple[re.Pattern[str], float]], module: str, default: float) -> float:
    """The number of the first pattern that fits."""
    fitting = (value for pattern, value in patterns if len(module) <= LONGEST_NAME and pattern.fullmatch(module))
    return next(fitting, default)


class _Adapted(Checkpoint):
    """The base with the adapter merged."""

    def __init__(self, adapter: LoraAdapter) -> None:
        base, embeddings = adapter.base, adapter.untied()
        self.path, self.folder, self.config = base.path, base.folder, base.config
        self._adapter, self._head = adapter, {} if embeddings is None else {HEAD: embeddings}
        self._left_out: tuple[str, ...] = ()
        if (kind := adapter.head()) is not None:
            self.config, self._left_out, self._head = {**(base.config or {}), "architectures": [kind]}, OWN_HEADS, {}

    def files(self) -> list[str]:
        return [*self._adapter.base.files(), *self._adapter.checkpoint.files()]

    def names(self) -> list[str]:
        of_base = [name for name in self._adapter.base.names() if not name.startswith(self._left_out)]
        return list(dict.fromkeys([*of_base, *self._adapter.saved, *self._head]))

    def info(self, name: str) -> TensorDescription:
        adapter, name = self._adapter, self._head.get(name, name)
        return adapter.checkpoint.info(adapter.saved[name]) if name in adapter.saved else adapter.base.info(name)

    def read(self, name: str) -> NDArray[Any]:
        adapter = self._adapter
        if name in self._head:
            return adapter.plain(self._head[name])
        return adapter.merged(name) if name in adapter.added else adapter.plain(name)

    def close(self) -> None:
        self._adapter.checkpoint.close()


@contextmanager
def with_adapter(base: Checkpoint, folder: PathLike | None) -> Iterator[Checkpoint]:
    """The checkpoint with an adapter merged into it; the checkpoint itself where there is none.

    Raises
    ------
    ModelNotFoundError, ConversionError
        As for `LoraAdapter`.
    """
    if folder is None:
        yield base
        return
    with _Adapted(LoraAdapter(folder, base)) as checkpoint:
        yield checkpoint
