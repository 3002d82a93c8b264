"""llama2.c's binary checkpoints, as its `export.py` writes them: versions 0 (no magic), 1 (float32) and 2 (int8).

The sizes come first, seven int32, then the tensors in an order of their own, those of all layers of a kind together.
Every byte of the file has its place: a file of another length is refused. Names are those of its state dicts.
Source of the format: https://github.com/karpathy/llama2.c (export.py).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointFormatError, PathLike, UnsupportedModelError
from ...files.storage import InputFile

__all__ = ["HEADER_BYTES", "Llama2cFile", "looks_like_llama2c"]

MAGIC = 0x616B3432
HEADER_BYTES = 28  # of version 0: seven int32
START_BYTES = 256  # of the later ones, where the weights begin
LIMIT = 1 << 24  # of each size
KEYS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
MATRICES = ("attention.wq", "attention.wk", "attention.wv", "attention.wo", "feed_forward.w1", "feed_forward.w2",
            "feed_forward.w3")  # fmt: skip

Sizes = dict[str, int]


@dataclass(frozen=True)
class Entry:
    """A tensor: its shape, where its numbers begin, and where the scales of its groups do, if it has such."""

    shape: tuple[int, ...]
    offset: int
    scales: int | None = None


def looks_like_llama2c(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins so is one: by its magic, or by its sizes, which say its length."""
    if len(start) < HEADER_BYTES:
        return False
    if int.from_bytes(start[:4], "little") == MAGIC:
        return True
    sizes = _sizes(start)
    return _fault(sizes) is None and size == _entries_of_version_0(sizes, _has_own_output(start))[1]


def _sizes(fields: bytes) -> Sizes:
    sizes = dict(zip(KEYS, struct.unpack("<7i", fields[:28]), strict=True))
    return sizes | {"vocab_size": abs(sizes["vocab_size"])}


def _has_own_output(fields: bytes) -> bool:
    """Version 0 marks an output matrix that is not the embeddings' by a negative size of the vocabulary."""
    return struct.unpack("<7i", fields[:28])[5] < 0


def _fault(sizes: Sizes) -> str | None:
    for name, value in sizes.items():
        if not 0 < value < LIMIT:
            return f"{name} is {value}; it must be 1 to {LIMIT - 1}"
    if sizes["dim"] % sizes["n_heads"] or sizes["n_heads"] % sizes["n_kv_heads"]:
        return f"{sizes['n_heads']} heads with {sizes['n_kv_heads']} of keys do not share {sizes['dim']} columns"
    if sizes["n_layers"] > 1 << 12:
        return f"n_layers is {sizes['n_layers']}"
    return None


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Of every kind of tensor, by its name inside a layer or of the whole."""
    dim, hidden, vocab = sizes["dim"], sizes["hidden_dim"], sizes["vocab_size"]
    keys = dim // sizes["n_heads"] * sizes["n_kv_heads"]
    ways = ((dim, dim), (keys, dim), (keys, dim), (dim, dim), (hidden, dim), (dim, hidden), (hidden, dim))
    return {
        **dict(zip(MATRICES, ways, strict=True)),
        **dict.fromkeys(("attention_norm", "ffn_norm", "norm"), (dim,)),
        **dict.fromkeys(("tok_embeddings", "output"), (vocab, dim)),
    }


class _Layout:
    """Gives each tensor its place, in the order of the calls."""

    def __init__(self, sizes: Sizes, start: int, group: int = 0) -> None:
        self.sizes, self.shapes = sizes, _shapes(sizes)
        self.end, self.group = start, group
        self.entries: dict[str, Entry] = {}

    def add(self, *kinds: str, quantized: bool = False) -> None:
        """Each kind in turn: of all layers, or the one of the whole."""
        for kind in kinds:
            is_whole = kind in ("tok_embeddings", "output", "norm")
            for name in [kind] if is_whole else [f"layers.{i}.{kind}" for i in range(self.sizes["n_layers"])]:
                shape, offset = self.shapes[kind], self.end
                count = math.prod(shape)
                self.end += count if quantized else 4 * count
                scales = self.end if quantized else None
                self.end += 4 * (count // self.group) if quantized else 0
                self.entries[f"{name}.weight"] = Entry(shape, offset, scales)


def _entries_of_version_0(sizes: Sizes, own_output: bool) -> tuple[dict[str, Entry], int]:
    layout = _Layout(sizes, HEADER_BYTES)
    layout.add("tok_embeddings", "attention_norm", *MATRICES[:4], "ffn_norm", *MATRICES[4:], "norm")
    layout.end += 4 * sizes["max_seq_len"] * (sizes["dim"] // sizes["n_heads"] // 2) * 2  # the rotary angles
    if own_output:
        layout.add("output")
    return layout.entries, layout.end


class Llama2cFile:
    """An open checkpoint of llama2.c.

    Attributes
    ----------
    path : str
    config : dict
        The sizes by the names of llama2.c's `ModelArgs`.

    Raises
    ------
    CheckpointFormatError
        Sizes or length of the file are impossible.
    UnsupportedModelError
        The version is not known.
    """

    def __init__(self, path: PathLike) -> None:
        self._file = InputFile(path)
        self.path = self._file.path
        try:
            self._entries, self.config = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def describe(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of every tensor."""
        types = {name: "float32" if entry.scales is None else "int8" for name, entry in self._entries.items()}
        return {name: (entry.shape, types[name]) for name, entry in self._entries.items()}

    def read(self, name: str) -> NDArray[Any]:
        """A tensor as float32."""
        entry = self._entries[name]
        count = math.prod(entry.shape)
        if entry.scales is None:
            return self._floats(entry.offset, count).reshape(entry.shape)
        weights = np.frombuffer(self._file.read(entry.offset, count), np.int8).reshape(-1, self._group)
        scales = self._floats(entry.scales, len(weights))
        return (weights * scales[:, None]).astype(np.float32).reshape(entry.shape)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _floats(self, offset: int, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self._file.read(offset, 4 * count), "<f4").astype(np.float32)

    def _fail(self, offset: int, what: str) -> CheckpointFormatError:
        return CheckpointFormatError(self.path, offset, "header", what)

    def _read_header(self) -> tuple[dict[str, Entry], dict[str, Any]]:
        start = bytes(self._file.read(0, min(START_BYTES, self._file.size)))
        if len(start) < HEADER_BYTES:
            raise self._fail(0, f"{len(start)} bytes are too few")
        version, own_output, self._group, fields = 0, _has_own_output(start), 0, start
        if int.from_bytes(start[:4], "little") == MAGIC:
            version = int.from_bytes(start[4:8], "little", signed=True)
            if len(start) < START_BYTES:
                raise self._fail(0, f"{len(start)} bytes are too few")
            if version not in (1, 2):
                raise UnsupportedModelError(f"{self.path}: version {version} of llama2.c's files is not 0, 1 or 2")
            fields, own_output = start[8:], start[36] == 0
            self._group = int.from_bytes(start[37:41], "little", signed=True) if version == 2 else 0
        sizes = _sizes(fields)
        fault = _fault(sizes)
        if fault is not None:
            raise self._fail(8 if version else 0, fault)
        entries, end = self._layout(version, sizes, own_output)
        if end != self._file.size:
            raise self._fail(0, f"these sizes make {end} bytes, and the file has {self._file.size}")
        return entries, {"model_type": "llama2.c", **sizes}

    def _layout(self, version: int, sizes: Sizes, own_output: bool) -> tuple[dict[str, Entry], int]:
        """The tensors, and where the last one ends."""
        if version == 0:
            return _entries_of_version_0(sizes, own_output)
        if version == 2:
            shapes = _shapes(sizes)
            if self._group < 1 or any(math.prod(shape) % self._group for shape in shapes.values() if len(shape) > 1):
                raise self._fail(37, f"groups of {self._group} weights do not divide the matrices")
        layout = _Layout(sizes, START_BYTES, self._group)
        layout.add("attention_norm", "ffn_norm", "norm")
        layout.add("tok_embeddings", *MATRICES, *(["output"] if own_output else []), quantized=version == 2)
        return layout.entries, layout.end
