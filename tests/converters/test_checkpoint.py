"""Checkpoints of every form, hand-made and real, and the refusals with what to do."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import (
    CheckpointFormatError,
    EdgeformerError,
    ModelFileChangedError,
    UnsupportedModelError,
)
from support.file_makers import (
    ZipEntry,
    gguf_file,
    safetensors_file,
    safetensors_of,
    state_dict_pickle,
    storage_opcodes,
    tensor_opcodes,
    text_opcode,
    torch_file,
    tuple_opcodes,
    zip_file,
)

FLOATS = np.arange(24, dtype="<f4")


def one_tensor(*, storage: bytes = FLOATS.tobytes(), count: int = 24, **view: Any) -> bytes:
    layout = {"shape": (4, 6), "strides": (6, 1), **view}
    return torch_file(state_dict_pickle({"w": tensor_opcodes("0", count, **layout)}), {"0": storage})


def saved(tmp_path: Path, raw: bytes, name: str = "model.pt") -> Path:
    (tmp_path / name).write_bytes(raw)
    return tmp_path / name


# Views and types


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((4, 6), (6, 1), 0),
        ((6, 4), (1, 6), 0),
        ((2, 3), (12, 2), 1),
        ((3,), (7,), 2),
        ((2, 2, 2), (1, 6, 12), 3),
        ((5, 4), (1, 1), 4),
        ((), (), 23),
        ((0, 6), (6, 1), 24),
        ((1, 24), (99, 1), 0),
    ],
)
def test_views(tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    expected = np.lib.stride_tricks.as_strided(FLOATS[offset:], shape, tuple(4 * stride for stride in strides))
    with open_checkpoint(saved(tmp_path, one_tensor(shape=shape, strides=strides, offset=offset))) as checkpoint:
        assert checkpoint.names() == ["w"]
        assert checkpoint.info("w") == (shape, "float32")
        read = checkpoint.read("w")
    assert read.shape == shape
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    assert read.flags.writeable
    np.testing.assert_array_equal(read, expected)


HALVES = np.array([0, 1.5, -2, 65504, 6e-8, -0.0], dtype="<f2")
BFLOATS = np.array([0x0000, 0x3FC0, 0xC000, 0x7F7F, 0x0001, 0x8000], dtype="<u2")
TYPES = [
    ("FloatStorage", "F32", "float32", FLOATS[:6], FLOATS[:6]),
    ("DoubleStorage", "F64", "float64", FLOATS[:6].astype("<f8") / 3, (FLOATS[:6].astype("<f8") / 3).astype("<f4")),
    ("HalfStorage", "F16", "float16", HALVES, HALVES.astype(np.float32)),
    ("BFloat16Storage", "BF16", "bfloat16", BFLOATS, (BFLOATS.astype(np.uint32) << 16).view(np.float32)),
    ("LongStorage", "I64", "int64", np.array([-(1 << 62), 0, 1, 2, 3, 4], "<i8"), None),
    ("IntStorage", "I32", "int32", np.array([-(1 << 30), 0, 1, 2, 3, 4], "<i4"), None),
    ("ShortStorage", "I16", "int16", np.array([-(1 << 14), 0, 1, 2, 3, 4], "<i2"), None),
    ("CharStorage", "I8", "int8", np.array([-128, 0, 1, 2, 3, 127], "i1"), None),
    ("ByteStorage", "U8", "uint8", np.array([255, 0, 1, 2, 3, 4], "u1"), None),
    ("BoolStorage", "BOOL", "bool", np.array([True, False, True, True, False, True]), None),
]


@pytest.mark.parametrize(("storage", "code", "dtype", "stored", "expected"), TYPES, ids=[row[2] for row in TYPES])
def test_types(
    tmp_path: Path, storage: str, code: str, dtype: str, stored: np.ndarray, expected: np.ndarray | None
) -> None:
    raw = stored.tobytes()
    tensor = tensor_opcodes("0", 6, (3, 2), (1, 3), 0, storage)
    torch_path = saved(tmp_path, torch_file(state_dict_pickle({"w": tensor}), {"0": raw}))
    header = json.dumps({"w": {"dtype": code, "shape": [2, 3], "data_offsets": [0, len(raw)]}}).encode()
    safe_path = saved(tmp_path, safetensors_file(header, raw), "model.safetensors")
    wanted = stored if expected is None else expected
    with open_checkpoint(torch_path) as first, open_checkpoint(safe_path) as second:
        assert first.info("w").dtype == second.info("w").dtype == dtype
        for read in (first.read("w").T, second.read("w")):
            assert read.dtype == wanted.dtype.newbyteorder("=")
            np.testing.assert_array_equal(read, wanted.reshape(2, 3))


def test_several_tensors_in_one_storage(tmp_path: Path) -> None:
    tensors = {"a": tensor_opcodes("0", 24, (2, 6), (6, 1)), "b": tensor_opcodes("0", 24, (6,), (1,), 18)}
    path = saved(tmp_path, torch_file(state_dict_pickle(tensors), {"0": FLOATS.tobytes()}))
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("a"), FLOATS[:12].reshape(2, 6))
        np.testing.assert_array_equal(checkpoint.read("b"), FLOATS[18:])


# State dicts in wrappers


def wrapped(*levels: str, inside: bytes | None = None) -> bytes:
    opcodes = b"}" + text_opcode("w") + tensor_opcodes("0", 24, (24,), (1,)) + b"s" if inside is None else inside
    for level in reversed(levels):
        opcodes = b"}(" + text_opcode(level) + opcodes + text_opcode("epoch") + b"K\3u"
    return torch_file(b"\x80\x02" + opcodes + b".", {"0": FLOATS.tobytes()})


@pytest.mark.parametrize("levels", [(), ("state_dict",), ("model",), ("model_state_dict",), ("model", "state_dict")])
def test_wrappers(tmp_path: Path, levels: tuple[str, ...]) -> None:
    with open_checkpoint(saved(tmp_path, wrapped(*levels))) as checkpoint:
        assert checkpoint.names() == ["w"]
        np.testing.assert_array_equal(checkpoint.read("w"), FLOATS)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (b"]", "holds a list"),
        (b"}", "no state dict"),
        (text_opcode("hello"), "holds a str"),
        (tensor_opcodes("0", 24, (24,), (1,)), "holds a tensor"),
        (b"}" + text_opcode("optimizer") + b"}s", "'optimizer'"),
        (b"}K\1" + tensor_opcodes("0", 24, (24,), (1,)) + b"s", "number"),
        (b"}(" + text_opcode("model") + b"}K\1Ns" + text_opcode("state_dict") + b"}K\1Nsu", "several"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, inside: bytes, message: str) -> None:
    with pytest.raises(CheckpointFormatError, match=f"{message}.*save"):
        open_checkpoint(saved(tmp_path, wrapped(inside=inside)))


# What is refused


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


def deflated() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
    return buffer.getvalue()


LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)

REFUSED: dict[str, tuple[bytes, type[EdgeformerError], str]] = {
    "nothing": (b"", CheckpointFormatError, "empty"),
    "text": (b"hello, world", CheckpointFormatError, "neither"),
    "tar": (b"sys_info\0" * 60, CheckpointFormatError, "neither"),
    "GGUF": (gguf_file(), UnsupportedModelError, "GGUF"),
    "legacy torch.save": (LEGACY, UnsupportedModelError, r"2020.*torch\.save\(torch\.load"),
    "bare pickle": (pickle.dumps(Command(), 2), UnsupportedModelError, r"pickle.*torch\.save"),
    "TorchScript": (
        zip_file([ZipEntry(b"m/data.pkl", b"\x80\x02}."), ZipEntry(b"m/code/a.py", b"")]),
        UnsupportedModelError,
        r"TorchScript.*torch\.save",
    ),
    "big endian": (torch_file(b"\x80\x02}.", {}, b"big"), UnsupportedModelError, "big-endian"),
    "zip of something else": (zip_file([ZipEntry(b"a/b", b"c")]), CheckpointFormatError, r"no a/data\.pkl"),
    "zip of two folders": (
        zip_file([ZipEntry(b"a/data.pkl", b""), ZipEntry(b"b/c", b"")]),
        CheckpointFormatError,
        "one folder",
    ),
    "deflated": (deflated(), CheckpointFormatError, r"compressed.*torch\.save"),
    "code in the pickle": (torch_file(pickle.dumps(Command(), 2), {}), CheckpointFormatError, "eval"),
    "storage missing": (
        torch_file(state_dict_pickle({"w": tensor_opcodes("7", 1, (), ())}), {"0": bytes(4)}),
        CheckpointFormatError,
        "'w'.*model/data/7",
    ),
    "storage too short": (one_tensor(storage=FLOATS.tobytes()[:-4]), CheckpointFormatError, "'w'.*92 bytes.*96"),
    "storage too long": (one_tensor(storage=FLOATS.tobytes() + b"\0"), CheckpointFormatError, "'w'.*97 bytes.*96"),
    "storage said to be larger": (one_tensor(count=1 << 50), CheckpointFormatError, "'w'.*96 bytes"),
    "view past the storage": (one_tensor(strides=(7, 1)), CheckpointFormatError, "needs more"),
    "nothing times 2^118": (one_tensor(shape=(0, 1 << 59, 1 << 59), strides=(1, 1, 1)), CheckpointFormatError, "empty"),
    "negative offset": (one_tensor(offset=-1), CheckpointFormatError, "offset"),
    "safetensors cut short": (safetensors_of({"a": FLOATS})[:-1], CheckpointFormatError, "cut short"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(tmp_path: Path, name: str) -> None:
    raw, kind, message = REFUSED[name]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(kind, match=message) as caught:
        open_checkpoint(saved(tmp_path, raw))
    assert str(tmp_path) in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


def test_pickle_of_a_hostile_size_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, zip_file([ZipEntry(b"m/data.pkl", bytes((1 << 26) + 1))]))
    with pytest.raises(CheckpointFormatError, match="at most"):
        open_checkpoint(path)


def test_bad_checksum_is_named_on_reading(tmp_path: Path) -> None:
    raw = one_tensor()
    at = raw.index(FLOATS.tobytes())
    path = saved(tmp_path, raw[:at] + b"\1" + raw[at + 1 :])
    with open_checkpoint(path) as checkpoint, pytest.raises(CheckpointFormatError, match="checksum"):
        checkpoint.read("w")


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    with open_checkpoint(saved(tmp_path, one_tensor())) as checkpoint:
        for use in (checkpoint.info, checkpoint.read):
            with pytest.raises(CheckpointFormatError, match=r"'nothing'.*missing"):
                use("nothing")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_change_while_open_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, one_tensor() if name.endswith("pt") else safetensors_of({"w": FLOATS}), name)
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, 200)
        with pytest.raises(ModelFileChangedError):
            checkpoint.read("w")


def test_size_of_a_module_is_kept(tmp_path: Path) -> None:
    """A shape that was pickled as torch.Size is a shape as well."""
    size = b"ctorch\nSize\n(" + tuple_opcodes((4, 6)) + b"tR"
    view = b"K\0" + size + tuple_opcodes((6, 1)) + b"\x89}"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage_opcodes("0", 24) + view + b"tR"
    path = saved(tmp_path, torch_file(state_dict_pickle({"w": tensor}), {"0": FLOATS.tobytes()}))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read("w").shape == (4, 6)


# Real checkpoints


def test_two_forms_of_one_model_are_equal(test_models: Path) -> None:
    folder = test_models / "stories260k-llama"
    with open_checkpoint(folder) as first, open_checkpoint(folder / "pytorch_model.bin") as second:
        assert first.config is not None
        assert first.config["model_type"] == "llama"
        assert first.files() == [str(folder / "model.safetensors")]
        assert sorted(first.names()) == sorted(second.names())
        assert len(first.names()) == 47
        for name in first.names():
            assert first.info(name) == second.info(name)
            np.testing.assert_array_equal(first.read(name).view(np.uint32), second.read(name).view(np.uint32))


@pytest.mark.parametrize(
    ("path", "count", "name", "shape"),
    [
        ("transliterate-ar-en/model.pt", 188, "src_embed.weight", (51, 32)),
        ("transliterate-ar-en", 188, "src_embed.weight", (51, 32)),
        ("vit-mnist/model.pt", 74, "pos_embedding", (1, 50, 64)),
        ("bart-g2p-us", 50, "final_logits_bias", (1, 63)),
        ("shakespeare-llama-5m", 56, "model.embed_tokens.weight", (2048, 256)),
    ],
)
def test_real_checkpoints(test_models: Path, path: str, count: int, name: str, shape: tuple[int, ...]) -> None:
    with open_checkpoint(test_models / path) as checkpoint:
        assert len(checkpoint.names()) == count
        assert checkpoint.info(name) == (shape, "float32")
        for each in checkpoint.names():
            assert np.isfinite(checkpoint.read(each)).all()


def test_truncated_real_checkpoints_are_named(test_models: Path, tmp_path: Path) -> None:
    for name in ("vit-mnist/model.pt", "stories260k-llama/model.safetensors"):
        raw = (test_models / name).read_bytes()
        for length in (len(raw) - 1, len(raw) // 2, 1000, 30, 4):
            path = saved(tmp_path, raw[:length], os.path.basename(name))
            with pytest.raises(CheckpointFormatError, match=r"cut short|too short|end record|8 bytes"):
                open_checkpoint(path)
