"""JSON from strangers: what is good is read as Python reads it, and every trick is refused by name."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from edgeformer.errors import CheckpointFormatError, ModelNotFoundError
from edgeformer.files.json_file import MAX_DEPTH, parse_json, read_json, read_json_object
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values, st.booleans())
def test_reads_what_json_writes(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    if b"\xed" not in raw or raw.decode(errors="ignore").encode() == raw:  # not a lone surrogate, which is no UTF-8
        assert parse_json(raw, "a.json") == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        b' \n{"a":\t1}\r\n',
    ],
)
def test_layouts(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.json").write_bytes(raw)
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert read_json_object(tmp_path / "a.json") == {"a": 1}


def test_brackets_in_text_do_not_count() -> None:
    text = "[{" * 1000 + '"\\' + "}" * 10
    value = {text: [text, "\\", '"', '\\"[[']}
    assert parse_json(json.dumps(value).encode(), "a.json") == value


def test_deepest() -> None:
    raw = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(raw, "a.json") == json.loads(raw)


FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "Expecting value"),
    "not JSON": (b"hello", "Expecting value"),
    "cut short": (b'{"a": [1, 2', "Expecting"),
    "two values": (b"{} {}", "Extra data"),
    "trailing comma": (b'{"a": 1,}', "line 1"),
    "comment": (b'{"a": 1} // b', "Extra data"),
    "raw newline in text": (b'"a\nb"', "control character"),
    "key twice": (b'{"a": 1, "b": 2, "a": 3}', "key 'a' is there twice"),
    "key twice, spelled in two ways": (b'{"a": 1, "\\u0061": 3}', "key 'a' is there twice"),
    "key twice, deep inside": (b'[{"x": {"a": 1, "a": 1}}]', "key 'a'"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "Infinity": (b'{"a": Infinity}', "Infinity"),
    "-Infinity": (b'{"a": -Infinity}', "Infinity"),
    "1e999": (b'{"a": 1e999}', "too large"),
    "number of 5,000 digits": (b"1" * 5000, "5000 digits"),
    "fraction of 5,000 digits": (b"0." + b"1" * 5000, "too long"),
    "exponent of 5,000 digits": (b"1e" + b"1" * 5000, "too long"),
    "nested 65 deep": (b"[" * 65 + b"]" * 65, "nested"),
    "nested 10^5 deep": (b"[" * 10**5, "nested"),
    "objects nested 10^5 deep": (b'{"a":' * 10**5, "nested"),
    "nested behind an escaped quotation mark": (b'["\\"", ' + b"[" * 10**5, "nested"),
    "not UTF-8": (b'{"a": "\xff"}', "UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "UTF-8"),
    "surrogate": (b'"\xed\xa0\x80"', "UTF-8"),
    "five million values": (b"[" + b"0," * 5_000_000 + b"0]", "values"),
    "five million lists": (b"[" + b"[]," * 5_000_000 + b"0]", "values"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(tmp_path: Path, name: str) -> None:
    raw, message = FAULTS[name]
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(CheckpointFormatError, match=message) as caught:
        read_json(path)
    assert caught.value.path == str(path)
    assert len(str(caught.value)) < 500


def test_position_of_an_error() -> None:
    with pytest.raises(CheckpointFormatError) as caught:
        parse_json('{"é": x}'.encode(), "a.json", 100)
    assert caught.value.offset == 100 + len('{"é": '.encode())


def test_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"1")
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    with pytest.raises(CheckpointFormatError, match="at most"):
        read_json(path)
    with pytest.raises(CheckpointFormatError, match="at most 10"):
        read_json(path, 10)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"1"])
def test_root_that_is_no_object_is_named(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(CheckpointFormatError, match="must be an object"):
        read_json_object(tmp_path / "a.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        read_json(tmp_path / "a.json")


@settings(max_examples=300)
@given(st.text(alphabet='[]{}",:\\u0019ae.+- \ntrlfsn', max_size=30))
def test_random_text(text: str) -> None:
    """As Python's own parser, or refused."""
    try:
        value = parse_json(text.encode(), "a.json")
    except CheckpointFormatError:
        return
    assert value == json.loads(text)
