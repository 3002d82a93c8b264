"""Packing rows of weights, and reading them back."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError, NotEnoughMemoryError
from support.kernel_inputs import bad_numbers, matrix, raw_weights, rows, same_bits, walks

TYPES = sorted(core.WEIGHT_TYPES)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("num_rows", [1, 15, 16, 17, 100])
def test_a_row_is_what_was_packed(isa: str, kind: int, num_rows: int) -> None:
    raw, _ = raw_weights(kind, num_rows, 512)
    packed, values = matrix(kind, num_rows, 512)
    assert packed.nbytes == len(raw) // num_rows * -(-num_rows // 16) * 16  # not a byte wider than in the file
    for i in {0, num_rows // 2, num_rows - 1}:
        assert np.array_equal(packed.row(i, isa), values[i].astype(np.float32))


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@walks("pack")
def test_every_instruction_set_packs_the_same_bytes(other_isa: str, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = {}
    for name in (other_isa, "scalar"):
        monkeypatch.setenv("EDGEFORMER_ISA", name)
        packed[name] = matrix(kind, 37, 768)[0].panels()
    assert np.array_equal(packed[other_isa], packed["scalar"])


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@walks("panels_finite")
def test_numbers_that_are_not_finite_are_found(isa: str, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFORMER_ISA", isa)
    raw, _ = raw_weights(kind, 37, 768)
    packed = core.Matrix(kind, 37, 768)
    assert packed.pack(raw, 0, 37) and packed.is_finite()
    for bad in bad_numbers(kind, raw, 768):
        assert not packed.pack(bad, 0, 37) and not packed.is_finite()
    assert packed.pack(raw, 0, 37) and packed.is_finite()


def test_scales_too_large_for_float32_are_not_finite() -> None:
    row, mxfp4 = core.Matrix(core.EF_I8_ROW, 1, 32), core.Matrix(39, 1, 32)
    assert row.pack(np.float32(2e36).tobytes() + bytes(32), 0, 1)
    assert not row.pack(np.float32(3e36).tobytes() + bytes(32), 0, 1)
    assert mxfp4.pack(bytes([252, *[0x77] * 16]), 0, 1) and np.isfinite(mxfp4.row(0)).all()
    assert not mxfp4.pack(bytes([253, *[0x77] * 16]), 0, 1) and not np.isfinite(mxfp4.row(0)).all()


def test_rows_at_an_odd_address_are_refused() -> None:
    raw, _ = raw_weights(core.EF_Q4_0, 1, 32)
    packed = core.Matrix(core.EF_Q4_0, 1, 32)
    with pytest.raises(InvalidInputError, match="even address"):
        packed.pack(memoryview(b"." + raw)[1:], 0, 1)
    packed.pack(memoryview(b".." + raw)[2:], 0, 1)


@pytest.mark.parametrize("kind", [core.EF_F32, core.EF_F16, core.EF_BF16], ids=core.WEIGHT_TYPES.get)
def test_float_matrices_have_any_number_of_columns(isa: str, kind: int) -> None:
    for num_columns in range(1, 40):
        packed, values = matrix(kind, 18, num_columns)
        assert np.array_equal(packed.row(17, isa), values[17].astype(np.float32))


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_packing_in_parts_and_in_threads_changes_nothing(pool: core.Pool, kind: int) -> None:
    raw, _ = raw_weights(kind, 300, 256)
    whole, parts, threaded = (core.Matrix(kind, 300, 256) for _ in range(3))
    whole.pack(raw, 0, 300)
    threaded.pack(raw, 0, 300, pool)
    row_bytes = len(raw) // 300
    for begin, end in ((208, 300), (0, 16), (16, 208)):
        parts.pack(memoryview(raw)[begin * row_bytes : end * row_bytes], begin, end - begin, pool)
    x = rows(1, 3, 256)
    wanted = core.kernel_matmul("scalar", whole, x)
    assert same_bits(core.kernel_matmul("scalar", parts, x), wanted)
    assert same_bits(core.kernel_matmul("scalar", threaded, x), wanted)


def test_rows_behind_the_last_are_zero() -> None:
    packed = core.Matrix(core.EF_F32, 32, 8)
    packed.pack(np.ones((32, 8), np.float32).tobytes(), 0, 32)
    packed.pack(np.full((3, 8), 2, np.float32).tobytes(), 0, 3)
    assert packed.row(2)[0] == 2 and not packed.row(3).any() and not packed.row(15).any() and packed.row(16)[0] == 1


@walks("embed")
def test_embed_scales_and_adds(isa: str) -> None:
    packed, values = matrix(core.EF_Q8_0, 40, 64)
    ids = np.array([0, 39, 7, 7], np.int32)
    add = rows(2, 4, 64)
    result = core.kernel_embed(isa, packed, ids, 3.5, add)
    assert np.allclose(result, values[ids] * 3.5 + add, rtol=1e-6, atol=1e-6)
    assert same_bits(result, core.kernel_embed("scalar", packed, ids, 3.5, add))


def test_wrong_matrices_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="type 5"):
        core.Matrix(5, 16, 32)
    with pytest.raises(InvalidInputError, match="num_columns is 33"):
        core.Matrix(core.EF_Q4_0, 16, 33)
    with pytest.raises(InvalidInputError, match="num_rows is 0"):
        core.Matrix(core.EF_F32, 0, 32)
    with pytest.raises(NotEnoughMemoryError, match="bytes are needed"):
        core.Matrix(core.EF_F32, 2**30, 2**30)


def test_wrong_rows_are_refused() -> None:
    packed = core.Matrix(core.EF_F32, 20, 8)
    with pytest.raises(InvalidInputError, match="first_row is 8"):
        packed.pack(bytes(32), 8, 1)
    with pytest.raises(InvalidInputError, match="num_rows is 5"):
        packed.pack(bytes(160), 16, 5)
    with pytest.raises(InvalidInputError, match="128 bytes are needed for 4 rows, not 127"):
        packed.pack(bytes(127), 16, 4)
    with pytest.raises(InvalidInputError, match="row is 20"):
        packed.row(20)
    with pytest.raises(InvalidInputError, match="array is needed"):
        packed.pack("text", 0, 1)  # not bytes
    with pytest.raises(InvalidInputError, match=r"ids\[1\] is 20"):
        core.kernel_embed("scalar", packed, np.array([0, 20], np.int32))


def test_cache_pages_are_copied_and_checked() -> None:
    cache = core.Cache(4, 2, 2, 8, 8, core.EF_F16)
    assert cache.nbytes == 4 * cache.page_bytes and cache.num_pages == 4
    cache.copy_page(0, 3)
    for source, target in ((4, 0), (0, -1)):
        with pytest.raises(InvalidInputError, match="page is"):
            cache.copy_page(source, target)
    with pytest.raises(InvalidInputError, match="cache type"):
        core.Cache(4, 2, 2, 8, 8, core.EF_BF16)
    with pytest.raises(NotEnoughMemoryError):
        core.Cache(2**31 - 1, 2**16, 2**16, 2**16, 2**16, core.EF_F32)
