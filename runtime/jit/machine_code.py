"""An object file of a compiler made into an image: bytes that run wherever they lie in memory, with nothing to resolve.

Reads ELF (Tool Interface Standard, version 1.2) of x86-64 and AArch64; the relocations are those of their ABI
supplements (System V ABI, AMD64, table 4.9; ELF for the Arm 64-bit Architecture, section 5.7). An image has neither
writable data nor symbols outside itself, so that putting it into executable memory is all it takes to run it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["link"]

SHT_PROGBITS, SHT_SYMTAB, SHT_RELA = 1, 2, 4
SHF_WRITE, SHF_ALLOC = 1, 2
EM_X86_64, EM_AARCH64 = 62, 183
UNWIND_TABLES = ".eh_frame"  # for exceptions and debuggers; nothing here throws
PAGE = 4096  # images start on a page: what AArch64's pairs of instructions address by page and offset stays right


class Section(NamedTuple):
    """A section header, with its name looked up."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class Symbol(NamedTuple):
    """Where a name stands: section 0 is another file."""

    name: str
    section: int
    value: int


@dataclass(frozen=True)
class Field:
    """How a relocation is written.

    `value` is computed of (address of what is meant, address of the field); `bits` bits of it, from `shift` on, go to
    bit `at` of the four bytes there. With `checked`, a value that does not fit, sign included, is refused.
    """

    value: Callable[[int, int], int]
    bits: int = 32
    at: int = 0
    shift: int = 0
    checked: bool = True


def _distance(target: int, place: int) -> int:
    return target - place


def _within_page(target: int, place: int) -> int:
    return target % PAGE


def _pages(target: int, place: int) -> int:
    return target // PAGE - place // PAGE


# What a relocation of each number writes. Two fields: an instruction holds the value in two places.
RELOCATIONS: Mapping[int, Mapping[int, Sequence[Field]]] = {
    EM_X86_64: {
        2: [Field(_distance)],  # R_X86_64_PC32
        4: [Field(_distance)],  # R_X86_64_PLT32
    },
    EM_AARCH64: {
        261: [Field(_distance)],  # R_AARCH64_PREL32
        275: [Field(_pages, 2, 29, checked=False), Field(_pages, 19, 5, 2)],  # R_AARCH64_ADR_PREL_PG_HI21
        277: [Field(_within_page, 12, 10, checked=False)],  # R_AARCH64_ADD_ABS_LO12_NC
        278: [Field(_within_page, 12, 10, checked=False)],  # R_AARCH64_LDST8_ABS_LO12_NC
        282: [Field(_distance, 26, 0, 2)],  # R_AARCH64_JUMP26
        283: [Field(_distance, 26, 0, 2)],  # R_AARCH64_CALL26
        284: [Field(_within_page, 11, 10, 1, checked=False)],  # R_AARCH64_LDST16_ABS_LO12_NC
        285: [Field(_within_page, 10, 10, 2, checked=False)],  # R_AARCH64_LDST32_ABS_LO12_NC
        286: [Field(_within_page, 9, 10, 3, checked=False)],  # R_AARCH64_LDST64_ABS_LO12_NC
        299: [Field(_within_page, 8, 10, 4, checked=False)],  # R_AARCH64_LDST128_ABS_LO12_NC
    },
}


class ObjectFile:
    """What linking asks of a relocatable file. RuntimeError unless it is 64-bit, little-endian ELF of a known CPU."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise RuntimeError("the object file is no 64-bit, little-endian ELF")
        kind, self.machine = struct.unpack_from("<HH", data, 16)
        if kind != 1 or self.machine not in RELOCATIONS:
            raise RuntimeError(f"an object file of kind {kind} for machine {self.machine} cannot be linked")
        table, size, count, names = *struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HHH", data, 58)
        # Header fields: name, type, flags, address, offset, size, link, info, alignment, entry size.
        headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * i) for i in range(count)]
        start = headers[names][4]
        self.sections = [Section(self._name(start + h[0]), *h[1:3], *h[4:9]) for h in headers]
        self.symbols = [symbol for table in self.sections if table.type == SHT_SYMTAB for symbol in self._of(table)]

    def _name(self, start: int) -> str:
        return self.data[start : self.data.index(b"\0", start)].decode()

    def _of(self, table: Section) -> list[Symbol]:
        names = self.sections[table.link].offset
        # Fields: name, type and binding, visibility, section, value, size.
        entries = struct.iter_unpack("<IBBHQQ", self.bytes_of(table))
        return [Symbol(self._name(names + e[0]), e[3], e[4]) for e in entries]

    def bytes_of(self, section: Section) -> bytes:
        """What a section holds."""
        return self.data[section.offset : section.offset + section.size]


def link(data: bytes, names: Sequence[str]) -> tuple[list[int], bytes]:
    """The image of an object file, and where in it the functions `names` begin.

    Parameters
    ----------
    data : bytes
        The object file, position independent and in the small code model.
    names : sequence of str

    Returns
    -------
    offsets : list of int
        In bytes from the start of the image.
    image : bytes
        To be put at the start of a page.

    Raises
    ------
    RuntimeError
        The code needs something outside itself, has state, or a form that is not known here.
    """
    file = ObjectFile(data)
    places, image = _lay_out(file)
    for section in file.sections:
        if section.type == SHT_RELA and section.info in places:
            _relocate(file, section, places, image)
    offsets = {s.name: places[s.section] + s.value for s in file.symbols if s.section in places}
    missing = [name for name in names if name not in offsets]
    if missing:
        raise RuntimeError(f"the object file has no {', '.join(missing)}")
    return [offsets[name] for name in names], bytes(image)


def _lay_out(file: ObjectFile) -> tuple[dict[int, int], bytearray]:
    """Where each section that is needed at run time begins, and all of them end to end."""
    places, image = {}, bytearray()
    for index, section in enumerate(file.sections):
        if not section.flags & SHF_ALLOC or section.name == UNWIND_TABLES or not section.size:
            continue
        if section.type != SHT_PROGBITS or section.flags & SHF_WRITE or section.alignment > PAGE:
            raise RuntimeError(f"the code needs section {section.name}, which cannot be linked")
        image.extend(bytes(-len(image) % max(section.alignment, 1)))
        places[index] = len(image)
        image.extend(file.bytes_of(section))
    return places, image


def _relocate(file: ObjectFile, section: Section, places: Mapping[int, int], image: bytearray) -> None:
    """Writes what a section of relocations says into the image."""
    for offset, info, addend in struct.iter_unpack("<QQq", file.bytes_of(section)):
        symbol, kind = file.symbols[info >> 32], info & 0xFFFFFFFF
        fields = RELOCATIONS[file.machine].get(kind)
        if symbol.section not in places or fields is None:
            raise RuntimeError(f"the code needs {symbol.name or 'another section'} by relocation {kind}")
        place = places[section.info] + offset
        for field in fields:
            _write(image, place, field, places[symbol.section] + symbol.value + addend)


def _write(image: bytearray, place: int, field: Field, target: int) -> None:
    """Writes one field of a relocation at `place`."""
    value = field.value(target, place) >> field.shift
    if field.checked and not -(1 << (field.bits - 1)) <= value < 1 << (field.bits - 1):
        raise RuntimeError(f"the code is too large: {value} does not fit {field.bits} bits")
    mask = (1 << field.bits) - 1
    (old,) = struct.unpack_from("<I", image, place)
    struct.pack_into("<I", image, place, old & ~(mask << field.at) | (value & mask) << field.at)
