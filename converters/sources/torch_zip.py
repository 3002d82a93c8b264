"""The zip archives that torch.save writes, read strictly.

Zip has three places that say what an archive holds (local headers, central directory, end records), and attacks live
where readers believe different ones. Here all of them must agree, and the archive must be exactly its entries in a row,
then the central directory, then the end records: no gap, overlap, prefix, comment or trailing byte is left to hide
anything in. Entries are stored, never deflated, as torch writes them.
Specification: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointFormatError, UnsupportedModelError, quote
from ...files.storage import InputFile

__all__ = ["MAGIC", "TorchZip"]

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 1 << 17
MAX_DIRECTORY_BYTES = 1 << 26
MAX_NAME_BYTES = 1024
CHUNK = 1 << 22

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_DESCRIPTOR = struct.Struct("<4s3I")
_DESCRIPTOR64 = struct.Struct("<4sI2Q")

STORED = 0
FLAG_DESCRIPTOR = 0x0008
FLAG_UTF8 = 0x0800
SATURATED = 0xFFFFFFFF
ZIP64_EXTRA = 0x0001
RESAVE = "save it again with torch.save"


@dataclass(frozen=True)
class Entry:
    """An entry, as the central directory has it."""

    name: str
    flags: int
    crc: int
    size: int
    header_offset: int


class _Directory(NamedTuple):
    offset: int
    size: int
    num_entries: int


class TorchZip:
    """The entries of an archive.

    Attributes
    ----------
    entries : dict of str to Entry

    Raises
    ------
    CheckpointFormatError
        The archive is not a plain row of stored entries.
    UnsupportedModelError
        It holds a TorchScript program.
    """

    def __init__(self, file: InputFile) -> None:
        self.file = file
        directory = self._read_end()
        self.entries = self._read_directory(directory)
        self._data_offsets = self._check_layout(directory.offset)
        self._verified: set[str] = set()

    def read(self, name: str) -> bytes:
        """The whole of an entry, its checksum compared. Raises as `read_range` does."""
        entry = self.entries[name]
        self.file.check_unchanged()
        data = self.file.read(self._data_offsets[name], entry.size)
        self._compare_crc(entry, zlib.crc32(data))
        return data

    def read_range(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Bytes of an entry, after the checksum of all of it was compared once.

        Raises
        ------
        CheckpointFormatError
            The checksum is wrong.
        ModelFileChangedError
            The file is not the one that was opened any more.
        """
        entry = self.entries[name]
        start = self._data_offsets[name]
        self.file.check_unchanged()
        if count == entry.size:
            data = self.file.read_array(start, count)
            self._compare_crc(entry, zlib.crc32(data.data))
            return data
        if name not in self._verified:
            crc = 0
            for offset in range(0, entry.size, CHUNK):
                part = self.file.read_array(start + offset, min(CHUNK, entry.size - offset))
                crc = zlib.crc32(part.data, crc)
            self._compare_crc(entry, crc)
        return self.file.read_array(start + first, count)

    def data_offset(self, name: str) -> int:
        """Byte position of an entry's data in the file."""
        return self._data_offsets[name]

    def _compare_crc(self, entry: Entry, crc: int) -> None:
        if crc != entry.crc:
            what = f"has the checksum {crc:08x} and not {entry.crc:08x}: it is damaged, or was saved without checksums"
            raise self._error(self._data_offsets[entry.name], f"entry {quote(entry.name)}", what)
        self._verified.add(entry.name)

    def _error(self, offset: int, field: str, what: str) -> CheckpointFormatError:
        return CheckpointFormatError(self.file.path, offset, field, what)

    def _read_end(self) -> _Directory:
        """Where the central directory is, from the end record and, if there is one, its 64-bit twin."""
        offset = self.file.size - _END.size
        if offset < 0:
            raise self._error(0, "zip end record", "the file is too short for one: it is cut short")
        magic, disk, start_disk, disk_entries, num_entries, size, start, comment = _END.unpack(
            self.file.read(offset, _END.size)
        )
        if magic != b"PK\x05\x06" or comment:
            what = f"is not the last {_END.size} bytes: the file is cut short, or bytes or a comment follow it"
            raise self._error(offset, "zip end record", what)
        if disk or start_disk or disk_entries != num_entries:
            raise self._error(offset, "zip end record", "speaks of several disks")
        directory = _Directory(start, size, num_entries)
        end = offset
        if offset >= _LOCATOR64.size and self.file.read(offset - _LOCATOR64.size, 4) == b"PK\x06\x07":
            directory, end = self._read_end64(offset - _LOCATOR64.size, directory)
        if directory.offset + directory.size != end:
            what = f"of {directory.size} bytes at byte {directory.offset} does not reach to the end records at {end}"
            raise self._error(offset, "zip central directory", what)
        if directory.num_entries > MAX_ENTRIES or directory.size > MAX_DIRECTORY_BYTES:
            what = f"has {directory.num_entries} entries in {directory.size} bytes, and at most {MAX_ENTRIES} are read"
            raise self._error(offset, "zip central directory", what)
        if directory.num_entries * _CENTRAL.size > directory.size:
            what = f"of {directory.size} bytes cannot hold {directory.num_entries} entries"
            raise self._error(offset, "zip central directory", what)
        return directory

    def _read_end64(self, locator: int, short: _Directory) -> tuple[_Directory, int]:
        """The 64-bit end record, which must agree with the short one wherever that is not saturated."""
        _, disk, end, num_disks = _LOCATOR64.unpack(self.file.read(locator, _LOCATOR64.size))
        if disk or num_disks != 1 or end != locator - _END64.size:
            raise self._error(locator, "zip64 locator", f"says {end}, and the end record before it must be there")
        magic, length, _, _, disk, start_disk, disk_entries, num_entries, size, start = _END64.unpack(
            self.file.read(end, _END64.size)
        )
        if magic != b"PK\x06\x06" or length != _END64.size - 12 or disk or start_disk or disk_entries != num_entries:
            raise self._error(end, "zip64 end record", "is malformed")
        long = _Directory(start, size, num_entries)
        limits = _Directory(SATURATED, SATURATED, 0xFFFF)
        if any(s not in (value, limit) for s, value, limit in zip(short, long, limits, strict=True)):
            raise self._error(end, "zip64 end record", f"says {tuple(long)} and the end record {tuple(short)}")
        return long, end

    def _read_directory(self, directory: _Directory) -> dict[str, Entry]:
        raw = self.file.read(directory.offset, directory.size)
        entries: dict[str, Entry] = {}
        index = 0
        for _ in range(directory.num_entries):
            at = directory.offset + index
            if index + _CENTRAL.size > len(raw):
                raise self._error(at, "zip central directory", "is cut short")
            fields = _CENTRAL.unpack_from(raw, index)
            name_end = index + _CENTRAL.size + fields[10]
            extra_end = name_end + fields[11]
            if fields[0] != b"PK\x01\x02" or extra_end > len(raw):
                raise self._error(at, "zip central directory", "is malformed")
            entry = self._central_entry(at, fields, raw[index + _CENTRAL.size : name_end], raw[name_end:extra_end])
            if entry.name in entries:
                raise self._error(at, f"entry {quote(entry.name)}", "is there twice")
            entries[entry.name] = entry
            index = extra_end
        if index != len(raw):
            raise self._error(directory.offset + index, "zip central directory", "holds more than its entries")
        return entries

    def _central_entry(self, at: int, fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Entry:
        _, _, _, flags, method, _, _, crc, packed, size, _, _, comment, disk, _, attributes, offset = fields
        name = self._checked_name(at, raw_name)
        field = f"entry {quote(name)}"
        if "/code/" in name or name.endswith("/constants.pkl"):
            advice = "torch.save(torch.jit.load(path).state_dict(), new_path) makes a checkpoint of it"
            raise UnsupportedModelError(f"{self.file.path}: is a TorchScript program, whose code is not run: {advice}")
        if method != STORED:
            raise self._error(at, field, f"is compressed (method {method}), which torch.save does not do: {RESAVE}")
        if flags & ~(FLAG_DESCRIPTOR | FLAG_UTF8):
            raise self._error(at, field, f"has the flags {flags:#06x}: it is encrypted or not of torch.save's making")
        if comment or disk:
            raise self._error(at, field, "has a comment or is on another disk")
        if attributes >> 28 not in (0, 0o10):
            raise self._error(at, field, "is a link or another thing that is no file")
        size, packed, offset = self._widen(at, field, extra, [size, packed, offset])
        if size != packed:
            raise self._error(at, field, f"is stored, and yet {size} bytes became {packed}")
        return Entry(name, flags, crc, size, offset)

    def _checked_name(self, at: int, raw: bytes) -> str:
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise self._error(at, "entry name", f"{quote(raw)} is not UTF-8") from None
        parts = name.split("/")
        if len(raw) > MAX_NAME_BYTES or "" in parts or "." in parts or ".." in parts or not name.isprintable():
            raise self._error(at, "entry name", f"{quote(name)} is not a plain relative path")
        if "\\" in name or ":" in name:
            raise self._error(at, "entry name", f"{quote(name)} means other things to other systems")
        return name

    def _widen(self, at: int, field: str, extra: bytes, values: list[int]) -> list[int]:
        """Values too large for 32 bits stand in the zip64 field, in this order; it holds those and nothing else."""
        wide = self._zip64_values(at, field, extra)
        if len(wide) != values.count(SATURATED):
            raise self._error(at, field, "has a zip64 field that does not fit its sizes")
        remaining = iter(wide)
        return [next(remaining) if value == SATURATED else value for value in values]

    def _zip64_values(self, at: int, field: str, extra: bytes) -> tuple[int, ...]:
        found: list[bytes] = []
        index = 0
        while index + 4 <= len(extra):
            kind, length = struct.unpack_from("<2H", extra, index)
            if kind == ZIP64_EXTRA:
                found.append(extra[index + 4 : index + 4 + length])
            index += 4 + length
        if index != len(extra) or len(found) > 1 or any(len(wide) % 8 for wide in found):
            raise self._error(at, field, "has malformed extra fields")
        return struct.unpack(f"<{len(found[0]) // 8}Q", found[0]) if found else ()

    def _check_layout(self, directory_offset: int) -> dict[str, int]:
        """Byte positions of the entries' data. Local headers must agree, and entries leave no gap between them."""
        ordered = sorted(self.entries.values(), key=lambda entry: entry.header_offset)
        data_offsets: dict[str, int] = {}
        position = 0
        for index, entry in enumerate(ordered):
            end = ordered[index + 1].header_offset if index + 1 < len(ordered) else directory_offset
            if entry.header_offset != position or end > directory_offset:
                what = f"begins at byte {entry.header_offset}, and the one before ended at {position}"
                raise self._error(entry.header_offset, f"entry {quote(entry.name)}", what)
            data_offsets[entry.name] = self._check_local(entry, end)
            position = end
        if position != directory_offset:
            raise self._error(0, "zip entries", "there are none, and bytes before the central directory")
        return data_offsets

    def _check_local(self, entry: Entry, end: int) -> int:
        """The position of an entry's data, which with its header and descriptor must reach exactly to `end`."""
        at, field = entry.header_offset, f"entry {quote(entry.name)}"
        if at + _LOCAL.size > end:
            raise self._error(at, field, "has no room for its header")
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(
            self.file.read(at, _LOCAL.size)
        )
        data = at + _LOCAL.size + name_length + extra_length
        if magic != MAGIC or data + entry.size > end:
            raise self._error(at, field, f"has no local header, or its {entry.size} bytes do not end by byte {end}")
        text = self.file.read(at + _LOCAL.size, name_length + extra_length)
        if text[:name_length] != entry.name.encode() or flags != entry.flags or method != STORED:
            raise self._error(at, field, "is another one in its local header: name, flags or method differ")
        self._check_local_sizes(entry, text[name_length:], [crc, size, packed])
        if end - data - entry.size != self._descriptor_bytes(entry, data + entry.size, end):
            raise self._error(data + entry.size, field, "is not followed at once by the next: the archive has a gap")
        return data

    def _check_local_sizes(self, entry: Entry, extra: bytes, stated: list[int]) -> None:
        """The local header states checksum and sizes, or leaves them to the data descriptor."""
        at, field = entry.header_offset, f"entry {quote(entry.name)}"
        if entry.flags & FLAG_DESCRIPTOR and stated == [0, 0, 0]:
            # Past 4 GiB torch leaves a zip64 field here that counts for nothing, but must not contradict either.
            if not {0, entry.size, entry.header_offset}.issuperset(self._zip64_values(at, field, extra)):
                raise self._error(at, field, "has a zip64 field that says otherwise in its local header")
            return
        expected = [entry.crc, entry.size, entry.size]
        stated[1:] = self._widen(at, field, extra, stated[1:])
        if stated != expected:
            raise self._error(at, field, f"has checksum and sizes {stated} in its local header, not {expected}")

    def _descriptor_bytes(self, entry: Entry, at: int, end: int) -> int:
        """Bytes of the data descriptor after an entry: it may be absent, or have sizes of 32 or of 64 bits."""
        if not entry.flags & FLAG_DESCRIPTOR:
            return 0
        layout = _DESCRIPTOR64 if end - at == _DESCRIPTOR64.size else _DESCRIPTOR
        if end - at != layout.size:
            raise self._error(at, f"entry {quote(entry.name)}", "is not followed by a data descriptor and the next")
        if layout.unpack(self.file.read(at, layout.size)) != (b"PK\x07\x08", entry.crc, entry.size, entry.size):
            raise self._error(at, f"entry {quote(entry.name)}", "has a data descriptor that says otherwise")
        return layout.size
