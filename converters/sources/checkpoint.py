"""Checkpoints of whatever form, as names and arrays: torch's zip-pickles and safetensors, whole or in shards, and
llama2.c's binary files.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointFormatError, ModelNotFoundError, PathLike, UnsupportedModelError, quote
from ...files.gguf.layout import MAGIC as GGUF_MAGIC
from ...files.json_file import read_json_object
from ...files.storage import InputFile
from . import torch_zip
from .llama2c import HEADER_BYTES, Llama2cFile, looks_like_llama2c
from .safetensors import SafetensorsFile
from .torch_pickle import MAX_PICKLE_BYTES, TensorRef, load_pickle

__all__ = ["Checkpoint", "TensorDescription", "open_checkpoint"]

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
CHOICES = ("model.safetensors", INDEX_FILES[0], "pytorch_model.bin", INDEX_FILES[1])
NO_WEIGHTS = ("tokenizer.bin",)  # llama2.c's vocabulary
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "params")
OUTSIDES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
MAX_SHARDS = 512

_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_RESAVE = "load it with torch and write it again: torch.save(torch.load(path, weights_only=True), new_path)"


class TensorDescription(NamedTuple):
    """What a checkpoint says of a tensor: its shape and its type there (``"float32"``, ``"bfloat16"``, ...)."""

    shape: tuple[int, ...]
    dtype: str


class _Source(Protocol):
    """One file of a checkpoint. `config` is what the file itself says of the model, mostly nothing."""

    path: str
    config: dict[str, Any]

    def describe(self) -> dict[str, TensorDescription]: ...

    def read(self, name: str) -> NDArray[Any]: ...

    def close(self) -> None: ...


class Checkpoint:
    """An open checkpoint; a context manager.

    Tensors are read one at a time, when they are asked for.

    Attributes
    ----------
    path : str
        The folder or file that was opened.
    folder : str
        Where the files beside it are.
    config : dict or None
        ``config.json`` in the folder, if there is one, over what the file itself says of the model.
    """

    def __init__(self, path: PathLike, folder: PathLike, sources: list[_Source]) -> None:
        self.path = os.fspath(path)
        self.folder = os.fspath(folder)
        self._sources = sources
        self._source_of: dict[str, tuple[_Source, str]] = {}  # and the name there
        self._descriptions: dict[str, TensorDescription] = {}
        described = [(source, source.describe()) for source in sources]
        outside = _outside([name for _, tensors in described for name in tensors])
        for source, tensors in described:
            for stored, description in tensors.items():
                name = stored[outside:]
                if name in self._source_of:
                    first = os.path.basename(self._source_of[name][0].path)
                    raise CheckpointFormatError(source.path, None, f"tensor {quote(name)}", f"is in {first} as well")
                self._source_of[name] = source, stored
                self._descriptions[name] = description
        path_of_config = os.path.join(self.folder, "config.json")
        given = read_json_object(path_of_config) if os.path.lexists(path_of_config) else None
        own = sources[0].config
        self.config: dict[str, Any] | None = None if given is None and not own else {**own, **(given or {})}

    def files(self) -> list[str]:
        """Paths of the files that hold the tensors."""
        return [source.path for source in self._sources]

    def names(self) -> list[str]:
        """Names of all tensors, in the files' order."""
        return list(self._descriptions)

    def info(self, name: str) -> TensorDescription:
        """Shape and type of a tensor, without reading it. Raises CheckpointFormatError where there is none."""
        self._need(name)
        return self._descriptions[name]

    def read(self, name: str) -> NDArray[Any]:
        """Read a tensor.

        Returns
        -------
        ndarray in the tensor's shape, C-contiguous
            float32 for every floating type, integers and bools as they are.

        Raises
        ------
        CheckpointFormatError
            There is no such tensor, or its bytes fail their checksum.
        ModelFileChangedError
            The file is not the one that was opened any more.
        """
        self._need(name)
        source, stored = self._source_of[name]
        return source.read(stored)

    def _need(self, name: str) -> None:
        if name not in self._descriptions:
            raise CheckpointFormatError(self.path, None, f"tensor {quote(name)}", "is missing from the checkpoint")

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _outside(names: list[str]) -> int:
    """Characters that stand before every name because of what the model was wrapped in when it was saved."""
    count = 0
    while found := next((o for o in OUTSIDES if names and all(name.startswith(o, count) for name in names)), ""):
        count += len(found)
    return count


def open_checkpoint(path: PathLike) -> Checkpoint:
    """Open a checkpoint.

    Parameters
    ----------
    path : path-like
        A folder as Hugging Face lays it out (``model.safetensors`` or ``pytorch_model.bin``, or their ``.index.json``
        with shards), a folder with one checkpoint file of any name, or such a file: .safetensors, .pt, .pth, .bin, the
        last of transformers or of llama2.c.

    Raises
    ------
    ModelNotFoundError
        There is no checkpoint at the path.
    CheckpointFormatError
        A file breaks its format's rules, or holds no state dict.
    UnsupportedModelError
        A tensor's type is not read.
    """
    target = Path(path)
    chosen = _choose_file(target) if target.is_dir() else target
    weight_map = _read_index(chosen) if chosen.name in INDEX_FILES else {}
    sources: list[_Source] = []
    try:
        for file in dict.fromkeys(weight_map.values()) or (chosen,):
            sources.append(_open_source(file))
        _check_index(weight_map, sources)
        return Checkpoint(path, target if target.is_dir() else target.parent, sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _choose_file(folder: Path) -> Path:
    """The checkpoint file or index of a folder."""
    for name in CHOICES:
        if (folder / name).exists():
            return folder / name
    found = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.name not in NO_WEIGHTS)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:8])
        raise ModelNotFoundError(folder, f"holds several files that could be the checkpoint: give one of {names}")
    expected = ", ".join((*CHOICES, *(f"*{suffix}" for suffix in SUFFIXES)))
    raise ModelNotFoundError(folder, f"holds no checkpoint: none of {expected}")


def _read_index(index: Path) -> dict[str, Path]:
    """Which file each tensor is in. The files must be in the index's own folder."""

    def refuse(what: str) -> CheckpointFormatError:
        return CheckpointFormatError(index, None, "weight_map", what)

    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise refuse("is missing or empty")
    for shard in weight_map.values():
        if not isinstance(shard, str):
            raise refuse("maps a tensor to something that is no file name")
        if not shard.endswith(SUFFIXES) or "/" in shard or "\\" in shard:
            raise refuse(f"{quote(shard)} is not the name of a checkpoint file beside the index")
    if len(set(weight_map.values())) > MAX_SHARDS:
        raise refuse(f"names more than {MAX_SHARDS} files")
    return {name: index.parent / shard for name, shard in weight_map.items()}


def _check_index(weight_map: dict[str, Path], sources: list[_Source]) -> None:
    """Every tensor must be where the index says."""
    held = {Path(source.path): source.describe().keys() for source in sources}
    for name, shard in weight_map.items():
        if name not in held[shard]:
            raise CheckpointFormatError(shard, None, f"tensor {quote(name)}", "is not in the file that the index names")


def _open_source(path: Path) -> _Source:
    """The reader that a file's first bytes ask for."""
    with InputFile(path) as file:
        size, start = file.size, bytes(file.read(0, min(HEADER_BYTES, file.size)))
    if start[:4] == torch_zip.MAGIC:
        return _TorchSource(path)
    if start[: len(GGUF_MAGIC)] == GGUF_MAGIC:
        raise UnsupportedModelError(f"{path}: is a GGUF file: convert it by its own path, not as part of a checkpoint")
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return _SafetensorsSource(path)
    if looks_like_llama2c(start, size):
        return _Llama2cSource(path)
    if start[: len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
        raise UnsupportedModelError(f"{path}: is in torch.save's format of before 2020, which is not read: {_RESAVE}")
    if start[:1] == b"\x80":
        raise UnsupportedModelError(f"{path}: is a bare pickle, which is never read: {_RESAVE}")
    what = f"{start[:8]!r} begins neither a checkpoint of torch.save nor safetensors"
    raise CheckpointFormatError(path, 0, "first bytes", what if start else "the file is empty")


def _as_array(raw: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """Numbers of a checkpoint's type from their little-endian bytes: every float as float32."""
    if dtype == "bfloat16":
        return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "bool":
        return raw != 0
    numbers = raw.view(np.dtype(dtype).newbyteorder("<"))
    # A float64 past float32's range becomes infinite, and the quantizer refuses that by name.
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32) if dtype in ("float64", "float16") else numbers


class _Llama2cSource:
    def __init__(self, path: PathLike) -> None:
        self._file = Llama2cFile(path)
        self.path, self.config = self._file.path, self._file.config

    def describe(self) -> dict[str, TensorDescription]:
        return {name: TensorDescription(*what) for name, what in self._file.describe().items()}

    def read(self, name: str) -> NDArray[Any]:
        return self._file.read(name)

    def close(self) -> None:
        self._file.close()


class _SafetensorsSource:
    def __init__(self, path: PathLike) -> None:
        self._file = SafetensorsFile(path)
        self.path = self._file.path
        self.config: dict[str, Any] = {}

    def describe(self) -> dict[str, TensorDescription]:
        return {name: TensorDescription(entry.shape, entry.dtype) for name, entry in self._file.entries.items()}

    def read(self, name: str) -> NDArray[Any]:
        entry = self._file.entries[name]
        return _as_array(self._file.read(name), entry.dtype).reshape(entry.shape)

    def close(self) -> None:
        self._file.close()


class _TorchSource:
    """A checkpoint of torch.save: an archive of storages, and a pickle that says which tensors lie where in them."""

    def __init__(self, path: PathLike) -> None:
        self._file = InputFile(path)
        self.path = self._file.path
        self.config: dict[str, Any] = {}
        try:
            self._archive = torch_zip.TorchZip(self._file)
            self._prefix = self._find_prefix()
            self._tensors = self._find_tensors(self._load())
            for name, tensor in self._tensors.items():
                self._check_storage(name, tensor)
        except BaseException:
            self._file.close()
            raise

    def describe(self) -> dict[str, TensorDescription]:
        return {name: TensorDescription(t.shape, t.storage.dtype) for name, t in self._tensors.items()}

    def read(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        item_bytes = _item_bytes(tensor.storage.dtype)
        count = _extent(tensor)
        entry = f"{self._prefix}/data/{tensor.storage.key}"
        raw = self._archive.read_range(entry, tensor.offset * item_bytes, count * item_bytes)
        flat = _as_array(raw, tensor.storage.dtype)
        byte_strides = tuple(stride * flat.itemsize for stride in tensor.strides)
        # The strides were checked against the storage, and `flat` reaches as far as they do.
        view = np.lib.stride_tricks.as_strided(flat, tensor.shape, byte_strides)
        return np.ascontiguousarray(view).reshape(tensor.shape)

    def close(self) -> None:
        self._file.close()

    def _error(self, field: str, what: str) -> CheckpointFormatError:
        return CheckpointFormatError(self.path, None, field, what)

    def _find_prefix(self) -> str:
        """The folder of the archive that everything is in."""
        prefixes = {name.partition("/")[0] for name in self._archive.entries}
        if len(prefixes) != 1:
            raise self._error("archive", "is not one folder: it is a zip, but not one of torch.save")
        prefix = prefixes.pop()
        byte_order = f"{prefix}/byteorder"
        if byte_order in self._archive.entries and self._archive.read(byte_order) != b"little":
            raise UnsupportedModelError(f"{self.path}: was saved on a big-endian machine: save it again on another")
        return prefix

    def _load(self) -> Any:
        name = f"{self._prefix}/data.pkl"
        if name not in self._archive.entries:
            raise self._error("archive", f"has no {name}: it is a zip, but not one of torch.save")
        size = self._archive.entries[name].size
        if size > MAX_PICKLE_BYTES:
            raise self._error(name, f"has {size} bytes, and at most {MAX_PICKLE_BYTES} are read")
        return load_pickle(self._archive.read(name), self.path, self._archive.data_offset(name))

    def _find_tensors(self, root: Any) -> dict[str, TensorRef]:
        """The state dict: the root, or under one of the names that training scripts put it."""
        while isinstance(root, dict):
            inside = [key for key in WRAPPERS if isinstance(root.get(key), dict) and root[key]]
            if len(inside) > 1:
                raise self._error("pickle", f"holds several state dicts ({', '.join(inside)}): save one alone")
            if not inside:
                break
            root = root[inside[0]]
        if not isinstance(root, dict) or not any(isinstance(value, TensorRef) for value in root.values()):
            keys = f" with the keys {', '.join(quote(key) for key in list(root)[:8])}" if isinstance(root, dict) else ""
            kind = "tensor" if isinstance(root, TensorRef) else type(root).__name__
            what = f"holds a {kind}{keys}, and no state dict at its root or under {', '.join(WRAPPERS)}"
            raise self._error("pickle", f"{what}: save model.state_dict()")
        tensors = {name: value for name, value in root.items() if isinstance(value, TensorRef)}
        for name in tensors:
            if not isinstance(name, str):
                raise self._error("pickle", f"a tensor has the name {name}, which is a number: save model.state_dict()")
        return tensors

    def _check_storage(self, name: str, tensor: TensorRef) -> None:
        entry = f"{self._prefix}/data/{tensor.storage.key}"
        if entry not in self._archive.entries:
            raise self._error(f"tensor {quote(name)}", f"is in {entry}, which the archive does not have")
        needed = tensor.storage.num_elements * _item_bytes(tensor.storage.dtype)
        if self._archive.entries[entry].size != needed:
            what = f"has {self._archive.entries[entry].size} bytes in {entry}, and its storage is said to have {needed}"
            raise self._error(f"tensor {quote(name)}", what)


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _extent(tensor: TensorRef) -> int:
    """Elements of the storage from a tensor's first to its last."""
    if math.prod(tensor.shape) == 0:
        return 0
    return 1 + sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.strides, strict=True))
