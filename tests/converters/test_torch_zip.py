"""Torch's archives: what torch and zipfile write is read; what makes two readers see two things is refused by name."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from edgeformer.converters.sources.torch_zip import TorchZip
from edgeformer.errors import CheckpointFormatError, ModelFileChangedError, UnsupportedModelError
from edgeformer.files.storage import InputFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.file_makers import ZipEntry, put, zip64_end, zip_body, zip_end, zip_file

DATA = {"m/data.pkl": b"\x80\x02}.", "m/data/0": bytes(range(100)), "m/empty": b"", "m/version": b"3\n"}


def entries(flags: int = 0) -> list[ZipEntry]:
    return [ZipEntry(name.encode(), data, flags) for name, data in DATA.items()]


def with_first(**changes: object) -> bytes:
    """An archive whose first entry is changed."""
    made = entries()
    for name, value in changes.items():
        setattr(made[0], name, value)
    return zip_file(made)


def zip64_file(
    *,
    located_off_by: int = 0,
    entries_off_by: int = 0,
    offset_off_by: int = 0,
    short: tuple[int, int, int] | None = None,
) -> bytes:
    body, directory = zip_body(entries(8))
    at = len(body) + len(directory)
    count, size, offset = len(DATA), len(directory), len(body)
    long = zip64_end(count + entries_off_by, size, offset + offset_off_by, at, at + located_off_by)
    return body + directory + long + zip_end(*(short or (count, size, offset)))


def opened(tmp_path: Path, raw: bytes) -> TorchZip:
    path = tmp_path / "a.pt"
    put(path, raw)
    return TorchZip(InputFile(path))


def by_zipfile(method: int = zipfile.ZIP_STORED, **options: object) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, **options) as archive:
        for name, data in DATA.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def in_a_stream() -> bytes:
    """With data descriptors, as Python writes into what cannot seek."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)
            return len(bytes(data))

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, data in DATA.items():
            archive.writestr(name, data)
    return bytes(pipe.written)


def with_zip64_fields() -> bytes:
    """Sizes in zip64 fields of both headers, as for entries of 4 GiB and more, and a 64-bit descriptor."""
    made = entries()
    size = len(DATA["m/data/0"])
    wide = struct.pack("<2H2Q", 1, 16, size, size)
    large = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": wide}
    made[1].local, made[1].central = dict(large), dict(large)
    made[3].flags = 8
    made[3].descriptor = struct.pack("<4sI2Q", b"PK\7\x08", zlib.crc32(b"3\n"), 2, 2)
    made[3].extra = struct.pack("<2HQ", 1, 8, 0) + b"FB\3\0ZZZ"
    return zip_file(made)


GOOD = {
    "plain": zip_file(entries()),
    "with descriptors": zip_file(entries(0x0808)),
    "with both end records": zip64_file(),
    "with a saturated end record": zip64_file(short=(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)),
    "with zip64 fields": with_zip64_fields(),
    "by zipfile": by_zipfile(),
    "by zipfile in a stream": in_a_stream(),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_archives(tmp_path: Path, name: str) -> None:
    archive = opened(tmp_path, GOOD[name])
    assert {name: archive.read(name) for name in archive.entries} == DATA
    with zipfile.ZipFile(tmp_path / "a.pt") as other:
        assert {name: other.read(name) for name in other.namelist()} == DATA


def test_ranges(tmp_path: Path) -> None:
    archive = opened(tmp_path, GOOD["with descriptors"])
    assert archive.read_range("m/data/0", 10, 5).tolist() == [10, 11, 12, 13, 14]
    assert archive.read_range("m/data/0", 100, 0).size == 0
    offset = archive.data_offset("m/data/0")
    assert (tmp_path / "a.pt").read_bytes()[offset : offset + 100] == bytes(range(100))


def test_one_entry(tmp_path: Path) -> None:
    assert list(opened(tmp_path, zip_file([ZipEntry(b"m/a", b"x")])).entries) == ["m/a"]


def extra(value: bytes, kind: int = 1) -> bytes:
    return struct.pack("<2H", kind, len(value)) + value


def overlapping() -> bytes:
    """Two central entries for the bytes of one: the entry of Fifield's bomb."""
    made = entries()
    body, directory = zip_body(made)
    directory += ZipEntry(b"m/again", made[3].data, central={}).central_bytes(body.rfind(b"PK\3\4"))
    return body + directory + zip_end(5, len(directory), len(body))


def nested() -> bytes:
    """An entry inside the data of another."""
    inner = ZipEntry(b"m/inner", b"secret")
    outer = ZipEntry(b"m/outer", inner.local_bytes(0))
    body, directory = zip_body([outer])
    directory += inner.central_bytes(len(body) - len(outer.data))
    return body + directory + zip_end(2, len(directory), len(body))


def two_directories() -> bytes:
    """Two archives in one: readers that look for the first and for the last end record see different ones."""
    return zip_file([ZipEntry(b"m/other", b"x")]) + GOOD["plain"]


def million_entries() -> bytes:
    count = 10**6
    name = ZipEntry(b"m/a", b"").central_bytes(0)
    directory = name * count
    end64 = zip64_end(count, len(directory), 0, len(directory))
    return directory + end64 + zip_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def with_counts(on_disk: int, in_all: int) -> bytes:
    return GOOD["plain"][:-14] + struct.pack("<2H", on_disk, in_all) + GOOD["plain"][-10:]


def short_directory() -> bytes:
    """Room for two entries, where the first takes most of it with its name."""
    body, directory = zip_body([ZipEntry(b"m/" + b"a" * 100, b"x")])
    return body + directory + zip_end(2, len(directory), len(body))


SATURATED_SIZES = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}

FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "too short"),
    "only an end record": (zip_end(0, 0, 0)[:21], "too short"),
    "names twice": (zip_file([*entries(), ZipEntry(b"m/version", b"3\n")]), "twice"),
    "local name differs": (with_first(local={"name": b"m/data.pkk"}), "local header"),
    "local name longer": (with_first(local={"name": b"m/data.pklX"}), "local header|gap"),
    "local flags differ": (with_first(local={"flags": 0x0800}), "local header"),
    "local method differs": (with_first(local={"method": 8}), "local header"),
    "local size differs": (with_first(local={"size": 3}), "local header"),
    "local packed size differs": (with_first(local={"packed": 3}), "local header"),
    "local checksum differs": (with_first(local={"crc": 1}), "local header"),
    "local sizes zero without a descriptor": (with_first(local={"size": 0, "packed": 0, "crc": 0}), "local header"),
    "local header missing": (GOOD["plain"].replace(b"PK\3\4", b"PK\3\5", 1), "local header"),
    "central size too large": (with_first(central={"size": 400, "packed": 400}), "byte"),
    "central size too small": (with_first(central={"size": 3, "packed": 3}), "local header"),
    "central sizes differ": (with_first(central={"size": 3}), "became"),
    "central offset past the end": (with_first(central={"offset": 1 << 30}), "begins at byte|ended"),
    "central offset between": (with_first(central={"offset": 1}), "begins at byte"),
    "deflated storage": (by_zipfile(zipfile.ZIP_DEFLATED), "compressed"),
    "deflated in one header": (with_first(central={"method": 8}), "compressed"),
    "encrypted": (with_first(flags=1), "flags"),
    "strongly encrypted": (with_first(flags=0x40), "flags"),
    "masked headers": (with_first(flags=0x2000), "flags"),
    "on another disk": (with_first(central={"disk": 1}), "disk"),
    "entry with a comment": (with_first(central={"comment": b"hello"}), "comment"),
    "link": (with_first(central={"attributes": 0o120777 << 16}), "link"),
    "folder by its attributes": (with_first(central={"attributes": 0o040755 << 16}), "link"),
    "device": (with_first(central={"attributes": 0o020666 << 16}), "link"),
    "descriptor missing": (with_first(flags=8, descriptor=b""), "descriptor"),
    "descriptor lies": (with_first(flags=8, descriptor=struct.pack("<4s3I", b"PK\7\x08", 0, 9, 9)), "otherwise"),
    "descriptor without a signature": (with_first(flags=8, descriptor=bytes(16)), "otherwise"),
    "descriptor of nobody": (with_first(descriptor=bytes(16)), "gap"),
    "zip64 field twice": (with_first(central={"extra": extra(b"") * 2}), "extra"),
    "zip64 field that nothing asks for": (with_first(central={"extra": extra(bytes(8))}), "zip64"),
    "zip64 field missing": (with_first(central=SATURATED_SIZES), "zip64"),
    "zip64 field too short": (with_first(central={"size": 0xFFFFFFFF, "extra": extra(bytes(4))}), "extra"),
    "zip64 field lies": (
        with_first(central={**SATURATED_SIZES, "extra": extra(struct.pack("<2Q", 1 << 62, 1 << 62))}),
        "byte",
    ),
    "zip64 field lies in the local header": (
        with_first(flags=8, local={"extra": extra(struct.pack("<Q", 99))}),
        "otherwise in its local",
    ),
    "extra field past its end": (with_first(central={"extra": b"FB\xff\xff"}), "extra"),
    "extra field cut short": (with_first(central={"extra": b"FB\0"}), "extra"),
    "overlapping entries": (overlapping(), "begins at byte|local header|byte"),
    "entry inside another": (nested(), "byte"),
    "gaps between entries": (zip_file(entries(), gap=b"hidden"), "gap|byte"),
    "bytes before the first entry": (b"#!" + GOOD["plain"], "central directory"),
    "trailing byte": (zip_file(entries(), tail=b"\0"), "end record"),
    "trailing data": (zip_file(entries(), tail=b"more" * 100), "end record"),
    "comment": (zip_file(entries(), comment=b"a comment"), "end record"),
    "comment that is an end record": (zip_file(entries(), comment=zip_end(0, 0, 0)), "central directory"),
    "two end records": (GOOD["plain"] + zip_end(0, 0, len(GOOD["plain"])), "there are none"),
    "two archives": (two_directories(), "central directory"),
    "end record counts too few": (with_counts(3, 3), "more than"),
    "end record counts too many": (with_counts(5, 5), "cannot hold 5"),
    "end record counts two ways": (with_counts(4, 5), "disks"),
    "directory cut inside an entry": (short_directory(), "cut short"),
    "zip64 locator lies": (zip64_file(located_off_by=-8), "locator"),
    "zip64 locator into nowhere": (zip64_file(located_off_by=1 << 60), "locator"),
    "zip64 count lies": (zip64_file(entries_off_by=1), "zip64 end record"),
    "zip64 count lies, nothing to compare": (
        zip64_file(entries_off_by=1 << 40, short=(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)),
        "at most",
    ),
    "zip64 offset lies": (zip64_file(offset_off_by=4), "central directory|zip64 end record"),
    "zip64 offset 2^63": (zip64_file(offset_off_by=1 << 63, short=(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)), "directory"),
    "saturated end record without zip64": (GOOD["plain"][:-22] + zip_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "central"),
    "million entries": (million_entries(), "at most"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(tmp_path: Path, name: str) -> None:
    raw, message = FAULTS[name]
    path = tmp_path / "a.pt"
    path.write_bytes(raw)
    file = InputFile(path)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointFormatError, match=message) as caught:
            TorchZip(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(raw) + (1 << 17)
    assert caught.value.path == str(path)
    assert caught.value.offset is not None


@pytest.mark.parametrize(
    "name",
    [
        b"../evil", b"m/../../evil", b"/etc/passwd", b"m//a", b"m/./a", b"m/", b"", b"..", b"m\\..\\a", b"C:evil",
        b"m/a\0b", b"m/a\nb", b"m/\x1b[2J", b"m/\xff", b"m/" + b"a" * 2000, "m/\u202eevil".encode(),
    ],
)  # fmt: skip
def test_names_that_are_no_plain_paths_are_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(CheckpointFormatError, match="entry name"):
        opened(tmp_path, zip_file([*entries(), ZipEntry(name, b"x")]))


@pytest.mark.parametrize("name", [b"m/code/__torch__.py", b"m/constants.pkl"])
def test_programs_are_refused_with_what_to_do(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(UnsupportedModelError, match=r"TorchScript.*torch\.save"):
        opened(tmp_path, zip_file([*entries(), ZipEntry(name, b"x")]))


@pytest.mark.parametrize("flags", [0, 8])
def test_bad_checksum_is_named(tmp_path: Path, flags: int) -> None:
    raw = zip_file(entries(flags))
    at = raw.index(bytes(range(100)))
    archive = opened(tmp_path, raw[: at + 7] + b"X" + raw[at + 8 :])
    assert archive.read("m/version") == b"3\n"
    with pytest.raises(CheckpointFormatError, match=r"'m/data/0'.*checksum"):
        archive.read("m/data/0")
    with pytest.raises(CheckpointFormatError, match=r"'m/data/0'.*checksum"):
        archive.read_range("m/data/0", 50, 3)


def test_change_while_open_is_named(tmp_path: Path) -> None:
    archive = opened(tmp_path, GOOD["plain"])
    os.truncate(tmp_path / "a.pt", 100)
    with pytest.raises(ModelFileChangedError):
        archive.read("m/data/0")


def survives(tmp_path: Path, raw: bytes) -> None:
    """Damage is refused, or every entry that is read is what it was, or a name is another."""
    try:
        archive = opened(tmp_path, raw)
        contents = [archive.read(name) for name in archive.entries]
    except (CheckpointFormatError, UnsupportedModelError):
        return
    assert set(contents) <= set(DATA.values())


@pytest.mark.parametrize("name", GOOD)
def test_every_truncation_is_named(tmp_path: Path, name: str) -> None:
    for length in range(0, len(GOOD[name]), 3):
        with pytest.raises(CheckpointFormatError):
            opened(tmp_path, GOOD[name][:length])


@pytest.mark.parametrize("name", ["with descriptors", "with both end records", "with zip64 fields"])
def test_every_byte_flipped(tmp_path: Path, name: str) -> None:
    for index in range(len(GOOD[name])):
        raw = bytearray(GOOD[name])
        raw[index] ^= 0x81
        survives(tmp_path, bytes(raw))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    st.floats(0, 1),
    st.binary(max_size=8),
)
def test_random_damage(
    tmp_path: Path, name: str, changes: list[tuple[float, int]], position: float, inserted: bytes
) -> None:
    raw = bytearray(GOOD[name])
    for where, value in changes:
        raw[int(where * len(raw))] = value
    at = int(position * len(raw))
    raw[at:at] = inserted
    survives(tmp_path, bytes(raw))
