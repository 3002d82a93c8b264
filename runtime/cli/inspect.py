"""``edgeformer inspect``"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from . import options
from .output import human_bytes, print_json, print_rows

if TYPE_CHECKING:
    from ..files.gguf.reader import GGUFFile

LONGEST_VALUE = 60


def _shown(value: Any) -> str:
    """A metadata value on one short line."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        items = ", ".join(repr(item) for item in list(value[:3]))
        return f"[{items}{', ...' if len(value) > 3 else ''}] ({len(value)})"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"


def _summary(file: GGUFFile) -> dict[str, Any]:
    """Counts over the whole file."""
    bytes_by_type: dict[str, int] = defaultdict(int)
    for tensor in file.tensors.values():
        bytes_by_type[tensor.type_name] += tensor.nbytes
    return {
        "path": str(file.path),
        "version": file.version,
        "alignment": file.alignment,
        "architecture": file.metadata.get("general.architecture"),
        "parameters": sum(math.prod(tensor.shape) for tensor in file.tensors.values()),
        "tensor_bytes": sum(bytes_by_type.values()),
        "bytes_by_type": dict(bytes_by_type),
    }


def inspect(file: options.ModelFile, json: options.Json = False) -> None:
    """Show what a GGUF file holds: metadata and tensors.

    Reads the header alone, so it is quick for a file of any size.

    Example: edgeformer inspect my-model.gguf
    """
    from ..files.gguf.reader import GGUFFile

    with GGUFFile(file) as opened:
        summary = _summary(opened)
        tensors: list[dict[str, Any]] = [
            {"name": t.name, "shape": list(t.shape), "type": t.type_name, "offset": t.offset, "bytes": t.nbytes}
            for t in opened.tensors.values()
        ]
        if json:
            print_json({**summary, "metadata": opened.metadata, "tensors": tensors})
            return
        print_rows("metadata", ("key", "value"), ((key, _shown(value)) for key, value in opened.metadata.items()))
    print_rows(
        "tensors",
        ("name", "shape", "type", ">bytes"),
        ((t["name"], "x".join(map(str, t["shape"])), t["type"], t["bytes"]) for t in tensors),
    )
    sizes = ", ".join(f"{name} {human_bytes(size)}" for name, size in summary["bytes_by_type"].items())
    counts = f"{summary['parameters']:,} parameters in {len(tensors)} tensors"
    print(f"{file}: {summary['architecture']}, {counts} ({sizes})")
