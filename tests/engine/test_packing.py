"""`pack`: the same numbers from a mapped file for every architecture and type; nothing in a file breaks it."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path

import edgeformer
import gguf
import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.engine.memory_plan import plan_memory
from edgeformer.engine.packing import pack
from edgeformer.engine.programs import compile_programs
from edgeformer.engine.session import Session
from edgeformer.errors import EdgeformerError, ModelFormatError, OutputError, UnsupportedModelError
from edgeformer.files.gguf.layout import PACKED, PACKED_LAYOUT, PACKED_LAYOUT_KEY
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from edgeformer.models.registry import build_architecture
from edgeformer.quants import TYPES, by_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_models import FEED_FORWARD, MODELS, VOCABULARY, WIDTH, SmallModel, from_golden, llama

TOKENS = [1, 5, 9, 2, 30, 7]
RUNNING = [name.lower() for name in core.WEIGHT_TYPES.values()]


def of_type(model: SmallModel, type: str) -> SmallModel:
    """The model with every matrix of that type whose rows are whole blocks of it."""
    for name, shape in model.shapes.items():
        fits = len(shape) == 2 and shape[-1] % by_name(type).block_size == 0
        model = model.with_type(name, type if fits else "f32")
    return model


def numbers(session: Session) -> np.ndarray:
    """Everything that the model computes of some tokens."""
    if session.features_taken is not None:
        rows = np.random.default_rng(0).standard_normal((6, session.features_taken.width)).astype(np.float32)
        return np.concatenate(session.features([rows, rows[:3]]))
    if session.family == "encoder":
        return session.hidden([TOKENS, TOKENS[:3]])
    if session.family == "decoder":
        return session.forward([(session.new_sequence(), TOKENS)], outputs="all")
    [sequence] = session.encode_source([TOKENS])
    return session.forward([(sequence, TOKENS)], outputs="all")


def ends_aligned(model: SmallModel, name: str) -> bool:
    """Whether what follows a packed matrix in the file begins where the matrix ends."""
    rows, columns = model.shapes[name]
    return -(-rows // 16) * 16 * by_name(model.types[name]).row_bytes(columns) % 64 == 0


def has_vector(model: SmallModel, stack: tuple[str, ...]) -> bool:
    """Whether a matrix of one row is a vector in the file."""
    return any(len(model.shapes[name]) == 1 for name in stack)


def begins_within_tiles(path: Path, stack: tuple[str, ...]) -> bool:
    """Whether a program reads a part of one of these tensors that begins within a tile of rows."""
    with GGUFFile(path) as file:
        recipes = compile_programs(build_architecture(file), file).values()
        parts = [part for recipe in recipes for matrix in recipe.matrices for part in matrix if part.name in stack]
    return any(part.first % 16 for part in parts)


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", MODELS)
def test_a_packed_model_gives_the_same_bits_without_a_copy(tmp_path: Path, name: str, type: str) -> None:
    model, packed = of_type(MODELS[name](), type), tmp_path / "packed.gguf"
    plain = model.write(tmp_path / "a.gguf")
    copied = pack(plain, packed).copied
    for stack in copied:
        fits = all(ends_aligned(model, part) for part in stack[:-1])
        assert not fits or has_vector(model, stack) or begins_within_tiles(plain, stack)
    original, session = Session.open(plain, threads=1), Session.open(packed, threads=2)
    np.testing.assert_array_equal(numbers(session), numbers(original))
    assert session.memory["weights"] == original.memory["weights"]
    assert (session.memory["mapped"] == session.memory["weights"]) == (copied == [])
    assert original.memory["mapped"] == 0
    assert plan_memory(packed) == plan_memory(plain)


def test_stacks_that_cannot_lie_end_to_end_are_copied(tmp_path: Path) -> None:
    """A panel of 32 columns of Q4_0 has 288 bytes, which is no multiple of the alignment."""
    small = llama().with_metadata(llama__attention__head_count_kv=1)
    for layer in range(2):
        for part in "kv":
            small = small.with_shape(f"blk.{layer}.attn_{part}.weight", (WIDTH // 2, WIDTH))
    plain, packed = of_type(small, "q4_0").write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    stack = tuple(f"blk.0.attn_{part}.weight" for part in "qkv")
    assert pack(plain, packed).copied == [stack, tuple(name.replace("0", "1") for name in stack)]
    original, session = Session.open(plain), Session.open(packed)
    np.testing.assert_array_equal(numbers(session), numbers(original))
    assert session.memory["weights"] - session.memory["mapped"] == 2 * (2 + 1 + 1) * 288


def test_rows_that_do_not_begin_with_a_tile_are_copied(tmp_path: Path) -> None:
    """Queries, keys and values of 24 columns lie in one tensor of 72 rows."""
    small = from_golden("gpt2-untied-narrow")
    plain, packed = small.write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    assert pack(plain, packed).copied == [("blk.0.attn_qkv.weight",)]
    original, session = Session.open(plain), Session.open(packed)
    np.testing.assert_array_equal(numbers(session), numbers(original))
    assert session.memory["weights"] - session.memory["mapped"] == 3 * 32 * 24 * 4


def test_tensors_of_several_types_are_packed(tmp_path: Path) -> None:
    model = of_type(llama(), "q4_0").with_type("blk.0.attn_v.weight", "q8_0").with_type("token_embd.weight", "f16")
    plain, packed = model.write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    pack(plain, packed)
    np.testing.assert_array_equal(numbers(Session.open(packed)), numbers(Session.open(plain)))


def test_every_instruction_set_writes_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = of_type(llama(), "q8_0").write(tmp_path / "a.gguf")
    written = set()
    for isa in core.isa_names():
        monkeypatch.setenv("EDGEFORMER_ISA", isa)
        pack(plain, tmp_path / f"{isa}.gguf", threads=2)
        written.add((tmp_path / f"{isa}.gguf").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("type", RUNNING)
def test_packed_rows_take_as_many_bytes_as_rows(type: str) -> None:
    """What the offsets in a packed file rest on."""
    [number] = [number for number, name in core.WEIGHT_TYPES.items() if name.lower() == type]
    assert core.Matrix(number, 40, 512).nbytes == 48 * TYPES[number].row_bytes(512)


def test_everything_else_is_carried_over(tmp_path: Path) -> None:
    plain = of_type(llama(), "q8_0").with_metadata(some__list=[1, 2], some__text="x", some__number=1.5)
    path, packed = plain.write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    result = pack(path, packed)
    with GGUFFile(path) as before, GGUFFile(packed) as after:
        added = {"general.alignment": 64, PACKED_LAYOUT_KEY: PACKED_LAYOUT}
        assert after.metadata == {**before.metadata, **added}
        assert {key: after.encoded(key) for key in before.metadata} == {
            key: before.encoded(key) for key in before.metadata
        }
        shapes = {name: info.shape for name, info in before.tensors.items()}
        assert {name: info.shape for name, info in after.tensors.items()} == shapes
        for name, shape in shapes.items():
            assert after.tensors[name].packed == (len(shape) == 2)
            assert after.tensors[name].offset % 64 == 0
            if len(shape) == 1:
                np.testing.assert_array_equal(after.dequantize(name), before.dequantize(name))
        assert result.num_packed == sum(len(shape) == 2 for shape in shapes.values())
        assert result.nbytes == packed.stat().st_size


def test_packing_again_gives_the_same_bytes_and_reports_progress(tmp_path: Path) -> None:
    plain = of_type(llama(), "q8_0").write(tmp_path / "a.gguf")
    seen: list[tuple[int, int]] = []
    edgeformer.pack(plain, tmp_path / "one.gguf", threads=1, progress=lambda done, total: seen.append((done, total)))
    edgeformer.pack(plain, tmp_path / "two.gguf", threads=2)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    assert seen[-1][0] == seen[-1][1]


def test_a_loaded_file_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    wide = llama().with_metadata(llama__feed_forward_length=64 * FEED_FORWARD)
    for layer in range(2):
        for name, shape in {"ffn_gate": (64 * FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, 64 * FEED_FORWARD)}.items():
            wide = wide.with_shape(f"blk.{layer}.{name}.weight", shape)
        wide = wide.with_shape(f"blk.{layer}.ffn_up.weight", (64 * FEED_FORWARD, WIDTH))
    packed = tmp_path / "packed.gguf"
    pack(wide.write(tmp_path / "a.gguf"), packed)
    session = Session.open(packed)
    numbers(session)
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("this system has no /proc/self/smaps")
    section = maps.read_text().split(str(packed), 1)[1].split("VmFlags", 1)[0]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in section.splitlines() if line.endswith(" kB")}
    assert sizes["Rss"] > 1000
    assert (sizes["Private_Dirty"], sizes["Anonymous"]) == (0, 0)
    session.close()
    del session
    assert str(packed) not in maps.read_text()


def test_a_file_that_cannot_be_mapped_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = llama().write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    pack(plain, packed)

    def refuse(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(core, "MappedFile", refuse)
    session = Session.open(packed)
    assert session.memory["mapped"] == 0
    np.testing.assert_array_equal(numbers(session), numbers(Session.open(plain)))


# -- what is refused ------------------------------------------------------------------------------------------------


def test_other_readers_refuse_a_packed_file(tmp_path: Path) -> None:
    pack(llama().write(tmp_path / "a.gguf"), tmp_path / "packed.gguf")
    with pytest.raises(ValueError, match=str(PACKED)):
        gguf.GGUFReader(tmp_path / "packed.gguf")


def test_packed_weights_cannot_be_read_as_numbers(tmp_path: Path) -> None:
    packed = tmp_path / "packed.gguf"
    pack(llama().write(tmp_path / "a.gguf"), packed)
    with GGUFFile(packed) as file, pytest.raises(UnsupportedModelError, match="use the file that was packed"):
        file.dequantize("token_embd.weight")
    with pytest.raises(UnsupportedModelError, match="packed already"):
        pack(packed, tmp_path / "again.gguf")
    assert not (tmp_path / "again.gguf").exists()


def test_the_original_is_not_written_over(tmp_path: Path) -> None:
    plain = llama().write(tmp_path / "a.gguf")
    before = plain.read_bytes()
    with pytest.raises(OutputError, match="being read"):
        pack(plain, plain)
    assert plain.read_bytes() == before
    with pytest.raises(OutputError, match="is not a path"):
        pack(plain, "a\0b")


def packed_file(path: Path, *, alignment: int = 64, layout: object = PACKED_LAYOUT, rows: int = 32) -> Path:
    """A file with one packed tensor, "w" of F32 [rows, 32]."""
    with GGUFWriter(path, "llama", alignment=alignment) as writer:
        if layout is not None:
            writer.add(PACKED_LAYOUT_KEY, layout)
        writer.declare("w", (rows, 32), 0, packed=True)
        writer.write("w", np.zeros(-(-rows // 16) * 16 * 32, np.float32))
    return path


@pytest.mark.parametrize(("layout", "error", "message"), [
    (None, ModelFormatError, "must be an integer"),
    ("1", ModelFormatError, "must be an integer"),
    (PACKED_LAYOUT + 1, UnsupportedModelError, "pack the original file again"),
])  # fmt: skip
def test_another_layout_is_refused(tmp_path: Path, layout: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GGUFFile(packed_file(tmp_path / "a.gguf", layout=layout))


@pytest.mark.parametrize(("entry", "message"), [
    (struct.pack("<IQQIQ", 2, 32, 32, PACKED | 31, 0), "no known type"),
    (struct.pack("<IQQIQ", 2, 32, 32, PACKED << 1, 0), "no known type"),
    (struct.pack("<IQQIQ", 2, 32, 32, PACKED | PACKED << 1, 0), "no known type"),
    (struct.pack("<IQIQ", 1, 32, PACKED, 0), "packed tensors have two or three axes"),
    (struct.pack("<IQQQQIQ", 4, 32, 16, 1, 2, PACKED, 0), "packed tensors have two or three axes"),
    (struct.pack("<IQQQIQ", 3, 32, 16, 1, PACKED, 0), "bytes follow the last tensor"),
    (struct.pack("<IQQIQ", 2, 32, 33, PACKED, 0), "cut short"),
    (struct.pack("<IQQIQ", 2, 32, 16, PACKED, 0), "bytes follow the last tensor"),
    (struct.pack("<IQQIQ", 2, 33, 32, PACKED | 8, 0), "not whole q8_0 blocks"),
    (struct.pack("<IQQIQ", 2, 32, 2**61, PACKED, 0), "too many"),
    (struct.pack("<IQQIQ", 2, 1, 2**62, PACKED, 0), "cut short"),
    (struct.pack("<IQQIQ", 2, 32, 32, PACKED, 32), "not a multiple of 64"),
    (struct.pack("<IQQIQ", 2, 32, 32, PACKED, 2**63), "cut short"),
])  # fmt: skip
def test_wrong_packed_tensors_are_named(tmp_path: Path, entry: bytes, message: str) -> None:
    path = packed_file(tmp_path / "a.gguf")
    raw, genuine = path.read_bytes(), struct.pack("<IQQIQ", 2, 32, 32, PACKED, 0)
    assert raw.count(genuine) == 1
    path.write_bytes(raw.replace(genuine, entry))
    with pytest.raises(ModelFormatError, match=message):
        GGUFFile(path)


def test_packed_weights_must_be_aligned_in_the_file(tmp_path: Path) -> None:
    path = packed_file(tmp_path / "a.gguf")
    key = b"general.alignment" + struct.pack("<II", 4, 64)
    raw = path.read_bytes().replace(key, key[:-4] + struct.pack("<I", 32))
    start = raw.index(struct.pack("<IQQIQ", 2, 32, 32, PACKED, 0)) + 24
    raw = raw[:start] + struct.pack("<Q", 32) + raw[start + 8 :] + bytes(32)
    path.write_bytes(raw)
    with pytest.raises(ModelFormatError, match="packed weights need a multiple of 64"):
        GGUFFile(path)


def test_the_writer_takes_packed_tensors_of_two_or_three_axes_only(tmp_path: Path) -> None:
    for alignment, shape in ((64, (32,)), (64, (1, 1, 2, 32)), (32, (16, 32))):
        writer = GGUFWriter(tmp_path / "a.gguf", "llama", alignment=alignment)
        with pytest.raises(edgeformer.InvalidInputError, match="packed"):
            writer.declare("w", shape, 0, packed=True)


@pytest.fixture(scope="module")
def packed_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("packed")
    pack(of_type(llama(), "q4_0").write(folder / "a.gguf"), folder / "packed.gguf")
    return (folder / "packed.gguf").read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
def test_a_damaged_packed_file_works_or_is_refused(
    tmp_path: Path, packed_bytes: bytes, where: float, flip: int, cut: bool
) -> None:
    """Flipped bytes of the head, and cuts anywhere."""
    head = packed_bytes.index(b"tokenizer.ggml.token_type") if flip % 2 else len(packed_bytes) // 2
    place = int(where * (len(packed_bytes) if cut else head))
    damaged = bytearray(packed_bytes)
    damaged[place] ^= flip
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged[:place] if cut else damaged)
    with contextlib.suppress(EdgeformerError):
        session = Session.open(path, threads=1)
        with contextlib.suppress(EdgeformerError):
            session.forward([(session.new_sequence(), [1, 2])])


def test_the_vocabulary_is_not_cut_to_whole_tiles(tmp_path: Path) -> None:
    """Rows past the last are zeros in the file and no tokens of the model."""
    small = llama().with_shape("token_embd.weight", (VOCABULARY + 3, WIDTH))
    small = small.with_metadata(llama__vocab_size=VOCABULARY + 3)
    plain, packed = of_type(small, "q8_0").write(tmp_path / "a.gguf"), tmp_path / "packed.gguf"
    pack(plain, packed)
    session = Session.open(packed)
    assert session.vocab_size == VOCABULARY + 3
    np.testing.assert_array_equal(numbers(session), numbers(Session.open(plain)))


# Of the panels of twenty rows of 512 columns whose bytes count up in steps of 7: what PACKED_LAYOUT 1 stands for.
LAYOUT_DIGESTS = {
    "f32": "312da932962efdb4",
    "f16": "ddc7e9268c2dcfd2",
    "bf16": "ddc7e9268c2dcfd2",
    "q4_0": "125c8a3b28bbdd03",
    "q4_1": "73904cec6bf18eb2",
    "q5_0": "a1c5fcdbf69c0c72",
    "q5_1": "30e7a145271e6f68",
    "q8_0": "17f2d4dc8c0ef195",
    "iq4_nl": "125c8a3b28bbdd03",
    "mxfp4": "06d9a1d8a34de2a9",
    "q2_k": "a9b2014756cf2c55",
    "q3_k": "e5dffddf4f178663",
    "q4_k": "803d17a9bf785aa0",
    "q5_k": "dd48219000b97e3d",
    "q6_k": "6ca86b4429154526",
    "iq4_xs": "0ff004ee49d32885",
    "tq1_0": "1063f3c1ba76d07d",
    "tq2_0": "798de0fd7aa0979f",
    "i8_row": "e13fb8e317a7299d",
}


@pytest.mark.parametrize("type", RUNNING)
def test_the_tiles_are_those_of_the_layouts_number(type: str) -> None:
    """Tiles that change need another PACKED_LAYOUT, so that files packed before are refused instead of misread."""
    [number] = [number for number, name in core.WEIGHT_TYPES.items() if name.lower() == type]
    row_bytes = TYPES[number].row_bytes(512)
    matrix = core.Matrix(number, 20, 512)
    matrix.pack((np.arange(20 * row_bytes) * 7 % 251).astype(np.uint8), 0, 20)
    assert hashlib.sha256(matrix.panels()).hexdigest()[:16] == LAYOUT_DIGESTS.get(type)


def test_an_encoder_is_cancelled(tmp_path: Path) -> None:
    session = Session.open(MODELS["transformer"]().write(tmp_path / "a.gguf"))
    flag = core.CancelFlag()
    flag.set()
    with pytest.raises(edgeformer.GenerationCancelled):
        session.encode_source([TOKENS], flag)
    flag.clear()
    assert len(session.encode_source([TOKENS], flag)) == 1
