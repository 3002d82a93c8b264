"""Object files made into images: they run where they are put, and what cannot be such an image is refused."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from edgeformer.jit import machine_code

llvm = pytest.importorskip("llvmlite.binding")

TABLE = np.arange(1, 301, dtype=np.float32) * np.float32(1.5)
NUMBERS = ", ".join(f"float {value:.1f}" for value in TABLE.tolist())
LOOK_UP = f"""
@more_than_a_page = constant [2000 x float] zeroinitializer
@table = internal constant [{len(TABLE)} x float] [{NUMBERS}]
define float @look_up(i64 %i) {{
  %element = getelementptr inbounds float, ptr @table, i64 %i
  %value = load float, ptr %element
  ret float %value
}}
define float @twice(i64 %i) noinline {{
  %value = call float @look_up(i64 %i)
  %sum = fadd float %value, %value
  ret float %sum
}}
"""


def object_file(ir: str, triple: str | None = None) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(ir)
    module.triple = triple or llvm.get_process_triple()
    try:
        target = llvm.Target.from_triple(module.triple)
    except RuntimeError:
        pytest.skip(f"this LLVM has no code generator for {triple}")
    emitted: bytes = target.create_target_machine("", "", 3, "pic", "small").emit_object(module)
    return emitted


def linked_here(ir: str, *names: str) -> tuple[list[int], bytes]:
    data = object_file(ir)
    if data[:4] != b"\x7fELF":
        pytest.skip("object files are no ELF here")
    return machine_code.link(data, names)


def test_image_runs_where_it_is_put() -> None:
    (look_up, twice), image = linked_here(LOOK_UP, "look_up", "twice")
    places = [core.MachineCode(image) for _ in range(2)]
    assert places[0].address != places[1].address
    for code in places:
        for offset, factor in ((look_up, 1), (twice, 2)):
            function = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(code.address + offset)
            found = [function(i) for i in range(len(TABLE))]
            assert (np.array(found, np.float32) == factor * TABLE).all()


def test_aarch64_addresses_by_page_and_calls() -> None:
    """Decoded as the Arm Architecture Reference Manual says: ADRP, ADD (immediate), BL."""
    (look_up, twice), image = machine_code.link(object_file(LOOK_UP, "aarch64-linux-gnu"), ["look_up", "twice"])
    words = struct.unpack_from("<32I", image)
    [page] = [i for i, word in enumerate(words) if word & 0x9F000000 == 0x90000000]
    distance = (words[page] >> 5 & 0x7FFFF) << 2 | words[page] >> 29 & 3
    assert words[page + 1] & 0xFFC00000 == 0x91000000
    address = (page * 4 // 4096 + distance) * 4096 + (words[page + 1] >> 10 & 0xFFF)
    assert address > 4096 and image[address : address + TABLE.nbytes] == TABLE.tobytes()
    [call] = [i for i, word in enumerate(words) if word & 0xFC000000 == 0x94000000]
    assert call * 4 > twice
    assert (call * 4 + (words[call] & 0x3FFFFFF) * 4) % (1 << 28) == look_up


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        ("declare void @elsewhere()\ndefine void @f() { call void @elsewhere()\n ret void }", "needs elsewhere"),
        ("@state = global i32 7\ndefine void @f() { store i32 1, ptr @state\n ret void }", "data"),
        ("@state = global i32 0\ndefine void @f() { store i32 1, ptr @state\n ret void }", "bss"),
        ("define void @g() { ret void }", "has no f"),
    ],
)
def test_code_that_is_not_complete_is_refused(ir: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        linked_here(ir, "f")


def test_other_object_files_are_refused() -> None:
    ir = "define void @f() { ret void }"
    for triple, message in (("riscv64-linux-gnu", "machine 243"), ("armv7-linux-gnueabihf", "64-bit")):
        with pytest.raises(RuntimeError, match=message):
            machine_code.link(object_file(ir, triple), ["f"])
    with pytest.raises(RuntimeError, match="64-bit"):
        machine_code.link(b"", ["f"])


def test_no_code_at_all_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no code"):
        core.MachineCode(b"")
