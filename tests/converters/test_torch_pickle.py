"""The pickle interpreter: what torch.save writes, and every attack on readers of pickles by its named error."""

from __future__ import annotations

import collections
import contextlib
import pickle
import struct
import tracemalloc
from typing import Any

import pytest
from edgeformer.converters.sources import torch_pickle
from edgeformer.converters.sources.torch_pickle import MAX_DEPTH, Storage, TensorRef, load_pickle
from edgeformer.errors import CheckpointFormatError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.file_makers import (
    integer_opcode,
    state_dict_pickle,
    storage_opcodes,
    tensor_opcodes,
    text_opcode,
    tuple_opcodes,
)

TENSOR = tensor_opcodes("0", 6, (2, 3), (3, 1))
STATE = state_dict_pickle({"weight": TENSOR, "bias": tensor_opcodes("1", 8, (3,), (2,), 1, "HalfStorage")})

PLAIN = [
    None,
    True,
    0,
    255,
    65535,
    -1,
    1 << 31,
    -(1 << 62),
    1 << 100,
    0.1,
    float("inf"),
    "",
    "naïve 😀",
    "x" * 300,
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    tuple(range(10)),
    [],
    [1, "a", None, 2.5],
    {},
    {"a": 1, "b": {"c": [1, (2, {})]}, 7: "number"},
    {"epoch": 3, "args": {"lr": 1e-3, "layers": [1, 2], "name": None}, "again": "epoch"},
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_as_python_pickles_them(value: Any, protocol: int) -> None:
    read = load_pickle(pickle.dumps(value, protocol), "a.pt")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("protocol", [2, 4])
def test_ordered_dict(protocol: int) -> None:
    value = collections.OrderedDict(a=1, b=collections.OrderedDict(c=2))
    assert load_pickle(pickle.dumps(value, protocol), "a.pt") == {"a": 1, "b": {"c": 2}}


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain_values, st.sampled_from([2, 4, 5]))
def test_any_plain_value(value: Any, protocol: int) -> None:
    assert load_pickle(pickle.dumps(value, protocol), "a.pt") == value


def test_shared_values_are_shared() -> None:
    shared = [1, 2]
    first, second = load_pickle(pickle.dumps([shared, shared], 2), "a.pt")
    assert first is second


def test_tensors() -> None:
    assert load_pickle(STATE, "a.pt") == {
        "weight": TensorRef(Storage("0", "float32", 6), 0, (2, 3), (3, 1)),
        "bias": TensorRef(Storage("1", "float16", 8), 1, (3,), (2,)),
    }


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("DoubleStorage", "float64"),
        ("FloatStorage", "float32"),
        ("HalfStorage", "float16"),
        ("BFloat16Storage", "bfloat16"),
        ("LongStorage", "int64"),
        ("IntStorage", "int32"),
        ("ShortStorage", "int16"),
        ("CharStorage", "int8"),
        ("ByteStorage", "uint8"),
        ("BoolStorage", "bool"),
    ],
)
def test_storage_types(name: str, dtype: str) -> None:
    state = load_pickle(state_dict_pickle({"w": tensor_opcodes("0", 1, (), (), 0, name)}), "a.pt")
    assert state["w"] == TensorRef(Storage("0", dtype, 1), 0, (), ())


def test_parameter_size_and_module_versions() -> None:
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + TENSOR + b"\x88ccollections\nOrderedDict\n)RtR"
    size = b"ctorch\nSize\n(" + tuple_opcodes((2, 3)) + b"tR"
    versions = b"}" + text_opcode("_metadata") + b"}sb"
    body = b"ccollections\nOrderedDict\n)R(" + text_opcode("w") + parameter + text_opcode("s") + size + b"u" + versions
    state = load_pickle(b"\x80\x02" + body + b".", "a.pt")
    assert state == {"w": TensorRef(Storage("0", "float32", 6), 0, (2, 3), (3, 1)), "s": (2, 3)}


def test_views_that_torch_makes() -> None:
    views = [((3, 2), (1, 3), 0), ((2,), (2,), 1), ((0, 4), (4, 1), 6), ((), (), 5), ((1,), (9,), 0)]
    for shape, strides, offset in views:
        state = load_pickle(state_dict_pickle({"w": tensor_opcodes("0", 6, shape, strides, offset)}), "a.pt")
        assert (state["w"].shape, state["w"].strides, state["w"].offset) == (shape, strides, offset)


# Attacks


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


def body(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def rebuilt(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, count: int = 6) -> bytes:
    return body(tensor_opcodes("0", count, shape, strides, offset))


def persistent(*parts: bytes) -> bytes:
    return body(b"(" + b"".join(parts) + b"tQ")


FLOATS = b"ctorch\nFloatStorage\n"
STORAGE = text_opcode("storage")
KEY = text_opcode("0")
CPU = text_opcode("cpu")
REBUILD_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"

ATTACKS: dict[str, tuple[bytes, str]] = {
    "builtin function": (pickle.dumps(Command(), 2), "eval"),
    "builtin function, protocol 4": (pickle.dumps(Command(), 4), "eval"),
    "unlisted global": (body(b"cos\nsystem\n" + text_opcode("true") + b"\x85R"), "'os' 'system'"),
    "unlisted global of torch": (body(b"ctorch\nload\n" + text_opcode("x") + b"\x85R"), "'torch' 'load'"),
    "unlisted global never called": (body(b"cposix\nsystem\n"), "'posix' 'system'"),
    "dotted name": (body(text_opcode("torch") + text_opcode("_utils._rebuild_tensor_v2") + b"\x93"), "_utils._rebuild"),
    "dotted module": (body(b"ctorch._utils.os\nsystem\n"), r"torch\._utils\.os"),
    "attribute of a listed class": (body(b"ccollections\nOrderedDict.__init__\n"), "OrderedDict.__init__"),
    "global of numbers": (body(b"K\1K\2\x93"), "not text"),
    "global without an end": (body(b"c" + b"a" * 1000), "no end"),
    "global not UTF-8": (body(b"c\xff\n\xff\n"), "UTF-8"),
    "numpy scalar": (body(b"cnumpy.core.multiarray\nscalar\n"), "state_dict"),
    "whole module": (body(b"ctorch.nn.modules.linear\nLinear\n)\x81"), "Linear"),
    "rebuild of another kind": (body(b"ctorch._utils\n_rebuild_sparse_tensor\n"), "_rebuild_sparse_tensor"),
    "calling text": (body(text_opcode("os.system") + b")R"), "not a function"),
    "calling a storage type": (body(FLOATS + b")R"), "FloatStorage"),
    "calling with a list": (body(b"ccollections\nOrderedDict\n]R"), "tuple"),
    "ordered dict with arguments": (body(b"ccollections\nOrderedDict\n(]]tR"), "OrderedDict"),
    "size of text": (body(b"ctorch\nSize\n(" + text_opcode("x") + b"tR"), "size"),
    "size that is negative": (body(b"ctorch\nSize\n(" + tuple_opcodes((-1,)) + b"tR"), "-1"),
    "parameter of no tensor": (body(b"ctorch._utils\n_rebuild_parameter\n(N\x88}tR"), "_rebuild_parameter"),
    "tensor with few arguments": (body(REBUILD_TENSOR + b")R"), "_rebuild_tensor_v2"),
    "tensor without a storage": (body(REBUILD_TENSOR + b"(NK\0))\x89}tR"), "no storage"),
    "BUILD on a tensor": (body(TENSOR + b"}b"), "not a dict"),
    "BUILD on a list": (body(b"]}b"), "not a dict"),
    "BUILD with other attributes": (body(b"}}" + text_opcode("__class__") + b"Nsb"), "_metadata"),
    "BUILD with a tuple": (body(b"}))\x86b"), "_metadata"),
    "SETITEM on a tensor": (body(TENSOR + text_opcode("k") + b"Ns"), "not a dict"),
    "SETITEMS on a tensor": (body(TENSOR + b"(" + text_opcode("k") + b"Nu"), "not a dict"),
    "SETITEM on a list": (body(b"]K\0Ns"), "not a dict"),
    "APPEND to a tensor": (body(TENSOR + b"Na"), "not a list"),
    "APPENDS to a tuple": (body(b")(NNe"), "not a list"),
    "key without a value": (body(b"}(" + text_opcode("k") + b"u"), "no value"),
    "tuple as a key": (body(b"})Ns"), "tuple"),
    "list as a key": (body(b"}]Ns"), "list"),
    "tensor as a key": (body(b"}" + TENSOR + b"Ns"), "TensorRef"),
    "float as a key": (body(b"}G" + struct.pack(">d", 0.5) + b"Ns"), "float"),
    "large number as a key": (body(b"}" + integer_opcode((1 << 61) - 1) + b"Ns"), "small number"),
    "stride 2^40": (rebuilt((2, 3), (1 << 40, 1)), "needs more"),
    "stride 2^63": (rebuilt((2, 3), (1 << 63, 1)), "stride"),
    "stride -1": (rebuilt((2, 3), (3, -1)), "-1"),
    "stride 0": (rebuilt((10**6, 10**6), (0, 0)), "needs more"),
    "stride one too long": (rebuilt((2, 3), (4, 1)), "needs more"),
    "strides of another rank": (rebuilt((2, 3), (1,)), "strides"),
    "shape -1": (rebuilt((-1, 3), (3, 1)), "-1"),
    "shape product 2^120": (rebuilt((1 << 59, 1 << 59), (1, 1)), "needs more"),
    "shape of true": (body(REBUILD_TENSOR + b"(" + storage_opcodes("0", 6) + b"K\0(\x88t(K\1t\x89}tR"), "bool"),
    "rank 17": (rebuilt((1,) * 17, (1,) * 17), "at most 16"),
    "offset -1": (rebuilt((2, 3), (3, 1), -1), "offset"),
    "offset past the end": (rebuilt((2, 3), (3, 1), 1), "needs more"),
    "offset of an empty tensor": (rebuilt((0,), (1,), 7), "offset"),
    "offset 2^63": (rebuilt((2, 3), (3, 1), 1 << 63), "offset"),
    "storage of -1": (rebuilt((2, 3), (3, 1), 0, -1), "element count"),
    "storage of 2^63": (rebuilt((2, 3), (3, 1), 0, 1 << 63), "element count"),
    "reference of text": (body(text_opcode("storage") + b"Q"), "reference"),
    "reference of another kind": (persistent(text_opcode("module"), FLOATS, KEY, CPU, b"K\1"), "reference"),
    "reference of four parts": (persistent(STORAGE, FLOATS, KEY, CPU), "reference"),
    "reference without a type": (persistent(STORAGE, text_opcode("FloatStorage"), KEY, CPU, b"K\1"), "storage type"),
    "reference with a function": (persistent(STORAGE, b"ctorch\nSize\n", KEY, CPU, b"K\1"), "storage type"),
    "reference to a path": (persistent(STORAGE, FLOATS, text_opcode("../../etc/passwd"), CPU, b"K\1"), "key"),
    "reference to a number": (persistent(STORAGE, FLOATS, b"K\1", CPU, b"K\1"), "key"),
    "reference to other digits": (persistent(STORAGE, FLOATS, text_opcode("٣"), CPU, b"K\1"), "key"),
    "one storage as two": (state_dict_pickle({"a": TENSOR, "b": tensor_opcodes("0", 7, (1,), (1,))}), "two different"),
    "storage as a value": (body(storage_opcodes("0", 6)), "bare"),
    "storage in a list": (body(b"]" + storage_opcodes("0", 6) + b"a"), "bare"),
    "global as a value": (body(b"}" + text_opcode("k") + FLOATS + b"s"), "bare"),
    "million nested tuples": (body(b")" + b"\x85" * 10**6), "containers|deep"),
    "million nested tuples as a key": (body(b"})" + b"\x85" * 10**6 + b"Ns"), "containers|tuple"),
    "tuples nested too deep": (body(b")" + b"\x85" * MAX_DEPTH), "deep"),
    "lists nested too deep": (body(b"]" * 65 + b"a" * 64), "deep"),
    "a list in itself": (body(b"]q\0h\0a"), "itself"),
    "a dict in itself": (body(b"}q\0" + text_opcode("k") + b"h\0s"), "itself"),
    "a list in its own tuple": (body(b"]q\0h\0\x85a"), "itself"),
    "million values": (body(b"N" * 10**6), "stack"),
    "million marks": (body(b"(" * 10**6), "marks"),
    "million lists": (body(b"](" + b"]" * 10**6 + b"e"), "containers"),
    "memo index 2^26": (body(b"Nr" + struct.pack("<I", 1 << 26)), "memo index"),
    "memo index 2^32-1": (body(b"Nr" + b"\xff" * 4), "memo index"),
    "memo index 1 before 0": (body(b"Nq\1"), "memo index"),
    "memo that was never put": (body(b"h\0"), "memo index"),
    "memo that was never put, long": (body(b"j" + b"\xff" * 4), "memo index"),
    "memo of an empty stack": (body(b"q\0"), "empty"),
    "memoize of an empty stack": (body(b"\x94"), "empty"),
    "text of 4 GiB": (body(b"X" + b"\xff" * 4 + b"abc"), "4294967295 bytes"),
    "text of 2^64-1": (body(b"\x8d" + b"\xff" * 8 + b"abc"), "bytes"),
    "text not UTF-8": (body(b"X" + struct.pack("<I", 1) + b"\xff"), "UTF-8"),
    "text of a surrogate": (body(b"X" + struct.pack("<I", 3) + b"\xed\xa0\x80"), "UTF-8"),
    "frame of 2^64-1": (body(b"\x95" + b"\xff" * 8 + b"N"), "frame"),
    "number cut short": (b"\x80\x02J\1\2", "4 bytes"),
    "long number cut short": (b"\x80\x02\x8a\xff\1", "255 bytes"),
    "PERSID": (body(b"Pstorage\n"), "PERSID"),
    "EXT1": (body(b"\x82\1"), "EXT1"),
    "EXT2": (body(b"\x83\1\0"), "EXT2"),
    "EXT4": (body(b"\x84\1\0\0\0"), "EXT4"),
    "INST": (body(b"(ios\nsystem\n"), "INST"),
    "OBJ": (body(b"(cos\nsystem\no"), "system"),
    "OBJ without a global": (body(b"(No"), "OBJ"),
    "NEWOBJ": (body(b"ccollections\nOrderedDict\n)\x81"), "NEWOBJ"),
    "NEWOBJ_EX": (body(b"ccollections\nOrderedDict\n)}\x92"), "NEWOBJ_EX"),
    "bytes": (body(b"C\3abc"), "0x43"),
    "set": (body(b"\x8f"), "0x8f"),
    "DUP": (body(b"N2"), "0x32"),
    "decimal integer": (body(b"I" + b"9" * 10**5 + b"\n"), "0x49"),
    "LONG4": (body(b"\x8b" + struct.pack("<I", 1 << 30)), "0x8b"),
    "unknown opcode": (body(b"N\xff"), "0xff"),
    "unknown opcode at the end": (b"\x80\x02N\xff", "0xff"),
    "opcodes after STOP": (body(b"N") + b"cos\nsystem\n)R.", "follow"),
    "one byte after STOP": (body(b"N") + b"\0", "follow"),
    "no STOP": (b"\x80\x02N", "cut short"),
    "no protocol": (b"N.", "protocol"),
    "nothing": (b"", "protocol"),
    "protocol 0": (b"\x80\x00N.", "protocol 0"),
    "protocol 6": (b"\x80\x06N.", "protocol 6"),
    "protocol again": (body(b"N\x80\x02"), "protocol"),
    "empty stack at STOP": (body(b""), "0 values"),
    "two values at STOP": (body(b"NN"), "2 values"),
    "open mark at STOP": (body(b"N("), "1 values"),
    "pop past a mark": (body(b"N(\x85"), "empty"),
    "tuple without a mark": (body(b"t"), "mark"),
    "items without a mark": (body(b"}u"), "mark"),
    "reduce of nothing": (body(b"R"), "empty"),
    "set item past a mark": (body(b"}(NNs"), "not a dict"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_named(name: str) -> None:
    raw, message = ATTACKS[name]
    with pytest.raises(CheckpointFormatError, match=message) as caught:
        load_pickle(raw, "evil.pt", 1000)
    assert caught.value.path == "evil.pt"
    assert caught.value.offset is not None
    assert 1000 <= caught.value.offset <= 1000 + len(raw)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["text of 4 GiB", "memo index 2^32-1", "frame of 2^64-1", "stride 0", "LONG4"])
def test_attack_takes_no_memory(name: str) -> None:
    tracemalloc.start()
    with pytest.raises(CheckpointFormatError):
        load_pickle(ATTACKS[name][0], "evil.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 16


@pytest.mark.parametrize(("limit", "message"), [("MAX_OPCODES", "opcodes"), ("MAX_PICKLE_BYTES", "bytes")])
def test_limits_are_named(monkeypatch: pytest.MonkeyPatch, limit: str, message: str) -> None:
    monkeypatch.setattr(torch_pickle, limit, 10)
    with pytest.raises(CheckpointFormatError, match=f"10 {message}|at most 10"):
        load_pickle(body(b"N" + b"q\0" * 10), "a.pt")


def test_every_truncation_is_named() -> None:
    for length in range(len(STATE)):
        with pytest.raises(CheckpointFormatError):
            load_pickle(STATE[:length], "a.pt")


def survives(raw: bytes) -> None:
    with contextlib.suppress(CheckpointFormatError):
        load_pickle(raw, "a.pt")


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_every_byte_flipped(flip: int) -> None:
    for index in range(len(STATE)):
        raw = bytearray(STATE)
        raw[index] ^= flip
        survives(bytes(raw))


OPCODE_PIECES = [bytes([code]) for code in b"(.NKq\0h]}ausetR)bQ\x85\x86\x87\x88\x93\x94"] + [
    FLOATS,
    TENSOR,
    KEY,
    storage_opcodes("0", 6),
    b"ccollections\nOrderedDict\n",
    REBUILD_TENSOR,
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(OPCODE_PIECES) | st.binary(max_size=3), max_size=40))
def test_random_programs(pieces: list[bytes]) -> None:
    survives(b"\x80\x02" + b"".join(pieces) + b".")


def test_nothing_is_imported_or_called() -> None:
    source = load_pickle.__globals__
    assert "pickle" not in source
    assert "importlib" not in source
