"""Files made byte by byte, so that tests can put any lie into any field. Nothing here uses the code under test."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


def put(path: Path, raw: bytes) -> None:
    """Write a file of its own: cutting an existing one to nothing first takes file systems milliseconds."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


# GGUF


def gguf_string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def gguf_key(key: str | bytes, value_type: int, payload: bytes) -> bytes:
    return gguf_string(key) + struct.pack("<I", value_type) + payload


def gguf_tensor(name: str | bytes, extents: Sequence[int], type_id: int, offset: int) -> bytes:
    entry = gguf_string(name) + struct.pack("<I", len(extents)) + struct.pack(f"<{len(extents)}Q", *extents)
    return entry + struct.pack("<IQ", type_id, offset)


def gguf_file(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    num_keys: int | None = None,
    num_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = struct.pack(
        "<IQQ",
        version,
        len(tensors) if num_tensors is None else num_tensors,
        len(keys) if num_keys is None else num_keys,
    )
    head = magic + counts + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


# Pickles, in the opcodes of torch.save


def text_opcode(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer_opcode(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tuple_opcodes(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(integer_opcode(value) for value in values) + b"t"


def storage_opcodes(key: str, count: int, storage_type: str = "FloatStorage") -> bytes:
    name = f"ctorch\n{storage_type}\n".encode()
    return b"(" + text_opcode("storage") + name + text_opcode(key) + text_opcode("cpu") + integer_opcode(count) + b"tQ"


def tensor_opcodes(
    key: str,
    count: int,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int = 0,
    storage_type: str = "FloatStorage",
) -> bytes:
    """What torch.save writes of a tensor: its storage has `count` elements."""
    view = integer_opcode(offset) + tuple_opcodes(shape) + tuple_opcodes(strides)
    hooks = b"ccollections\nOrderedDict\n)R"
    storage = storage_opcodes(key, count, storage_type)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"\x89" + hooks + b"tR"


def state_dict_pickle(tensors: dict[str, bytes]) -> bytes:
    items = b"".join(text_opcode(name) + opcodes for name, opcodes in tensors.items())
    return b"\x80\x02}(" + items + b"u."


# Zip archives, laid out as torch.save does


@dataclass
class ZipEntry:
    """An entry; `local` and `central` replace fields of the two headers by name."""

    name: bytes
    data: bytes
    flags: int = 0
    extra: bytes = b""
    stored: bytes | None = None
    descriptor: bytes | None = None
    local: dict[str, int | bytes] = field(default_factory=dict)
    central: dict[str, int | bytes] = field(default_factory=dict)

    def fields(self, offset: int) -> dict[str, int | bytes]:
        stored = self.data if self.stored is None else self.stored
        deferred = bool(self.flags & 8)
        return {
            "flags": self.flags,
            "method": 0,
            "crc": 0 if deferred else zlib.crc32(self.data),
            "packed": 0 if deferred else len(stored),
            "size": 0 if deferred else len(self.data),
            "name": self.name,
            "extra": self.extra,
            "offset": offset,
            "attributes": 0,
            "disk": 0,
            "comment": b"",
        }

    def local_bytes(self, offset: int) -> bytes:
        f = {**self.fields(offset), **self.local}
        header = struct.pack(
            "<4s5H3I2H", b"PK\x03\x04", 20, f["flags"], f["method"], 0, 0, f["crc"], f["packed"], f["size"],
            len(f["name"]), len(f["extra"]),
        )  # fmt: skip
        descriptor = self.descriptor
        if descriptor is None:
            sizes = (zlib.crc32(self.data), len(self.data), len(self.data))
            descriptor = struct.pack("<4s3I", b"PK\x07\x08", *sizes) if self.flags & 8 else b""
        return header + f["name"] + f["extra"] + (self.data if self.stored is None else self.stored) + descriptor

    def central_bytes(self, offset: int) -> bytes:
        sizes = {"crc": zlib.crc32(self.data), "packed": len(self.stored or self.data), "size": len(self.data)}
        f = {**self.fields(offset), **sizes, "extra": b"", **self.central}
        header = struct.pack(
            "<4s6H3I5H2I", b"PK\x01\x02", 0, 20, f["flags"], f["method"], 0, 0, f["crc"], f["packed"], f["size"],
            len(f["name"]), len(f["extra"]), len(f["comment"]), f["disk"], 0, f["attributes"], f["offset"],
        )  # fmt: skip
        return header + f["name"] + f["extra"] + f["comment"]


def zip_end(num_entries: int, size: int, offset: int, comment: bytes = b"") -> bytes:
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, num_entries, num_entries, size, offset, len(comment)) + comment


def zip64_end(num_entries: int, size: int, offset: int, at: int, located_at: int | None = None) -> bytes:
    """The 64-bit end record, to stand at byte `at`, and its locator."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, num_entries, num_entries, size, offset)
    return record + struct.pack("<4sIQI", b"PK\x06\x07", 0, at if located_at is None else located_at, 1)


def zip_body(entries: Sequence[ZipEntry], gap: bytes = b"") -> tuple[bytes, bytes]:
    """The entries, with `gap` after each, and the central directory."""
    body, directory = b"", b""
    for entry in entries:
        directory += entry.central_bytes(len(body))
        body += entry.local_bytes(len(body)) + gap
    return body, directory


def zip_file(entries: Sequence[ZipEntry], gap: bytes = b"", tail: bytes = b"", comment: bytes = b"") -> bytes:
    body, directory = zip_body(entries, gap)
    return body + directory + zip_end(len(entries), len(directory), len(body), comment) + tail


def torch_file(pickle: bytes, storages: dict[str, bytes], byte_order: bytes = b"little") -> bytes:
    """A checkpoint as torch.save lays it out."""
    entries = [ZipEntry(b"model/data.pkl", pickle, 0x0808), ZipEntry(b"model/byteorder", byte_order, 0x0808)]
    entries += [ZipEntry(f"model/data/{key}".encode(), data, 0x0808) for key, data in storages.items()]
    return zip_file([*entries, ZipEntry(b"model/version", b"3\n", 0x0808)])


# safetensors


def safetensors_file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def safetensors_of(tensors: dict[str, np.ndarray]) -> bytes:
    """A file of float32 tensors."""
    header: dict[str, object] = {}
    data = b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return safetensors_file(json.dumps(header).encode(), data)
