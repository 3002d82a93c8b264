"""Machine code of the norms on disk: found again without Numba and LLVM, never trusted blindly, never needed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from edgeformer.errors import InvalidOptionError
from edgeformer.jit import compiler, norms, store
from edgeformer.jit.functions import NativeFunctions
from edgeformer.jit.lanes import callback
from support.row_functions import Row, at_address

numba = pytest.importorskip("numba")
llvm = pytest.importorskip("llvmlite.binding")

NAMES = list(norms.ROW_FUNCTIONS)
ROW = np.arange(-30, 47, dtype=np.float32)
pytestmark = pytest.mark.skipif(
    not hasattr(llvm, "create_pass_builder"), reason="llvmlite before 0.44 has no passes for the whole module"
)
SCRIPT = """
import sys
import numpy as np
from edgeformer.jit import norms
from support.row_functions import at_address
row = np.arange(-30, 47, dtype=np.float32)
for name in norms.ROW_FUNCTIONS:
    print(at_address(norms.row_function(name, use_numba=True))(row, row, None).tobytes().hex())
print("numba" in sys.modules, "llvmlite" in sys.modules)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("EDGEFORMER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def row_functions() -> NativeFunctions:
    """The norms as a new process has them, but for Numba, which compiles each only once."""
    return NativeFunctions(NAMES, norms.ROW_ARGUMENTS, norms._compiled, norms.SOURCES)


def never_compiled(name: str) -> None:
    pytest.fail(f"{name} was compiled")


def from_cache() -> NativeFunctions:
    return NativeFunctions(NAMES, norms.ROW_ARGUMENTS, never_compiled, norms.SOURCES)


def results(functions: NativeFunctions) -> list[Row]:
    return [at_address(functions.address(name))(ROW, ROW, None) for name in NAMES]


def assert_right(functions: NativeFunctions) -> None:
    for name, result in zip(NAMES, results(functions), strict=True):
        assert (result == at_address(norms._compiled(name).address)(ROW, ROW, None)).all(), name


def assert_fallback(functions: NativeFunctions) -> None:
    """Numba's own functions serve."""
    assert [functions.address(name) for name in NAMES] == [norms._compiled(name).address for name in NAMES]
    assert functions.code is None


def start_process() -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> tuple[list[str], list[str]]:
    """What the norms gave, in hex, and whether Numba and llvmlite were imported."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == ""
    *values, numba_imported, llvmlite_imported = output.split()
    return values, [numba_imported, llvmlite_imported]


def test_later_processes_do_without_numba_and_llvm(folder: Path) -> None:
    racing = [start_process(), start_process()]
    (first, imported), (second, _) = [finish(process) for process in racing]
    assert imported == ["True", "True"]
    [file] = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    values, imported = finish(start_process())
    assert imported == ["False", "False"]
    assert values == first == second


def test_object_equals_callbacks_and_is_found_again(folder: Path) -> None:
    assert_right(row_functions())
    assert len(list(folder.iterdir())) == 1
    assert_right(from_cache())


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "of another name"])
def test_damaged_files_are_replaced(folder: Path, damage: str) -> None:
    results(row_functions())
    [file] = folder.iterdir()
    good = file.read_bytes()
    code = good[store.CHECKSUM_BYTES :]
    bad = {
        "cut": good[:-100],
        "empty": b"",
        "changed": good[:300] + b"\xcc" * 64 + good[364:],
        "of another name": store._checksum("norms-of-another-machine.jit", code) + code,
    }
    file.write_bytes(bad[damage])
    functions = row_functions()
    assert_right(functions)
    assert functions.code is not None
    assert file.read_bytes() == good and list(folder.iterdir()) == [file]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_files_others_may_write_are_replaced(folder: Path, mode: int) -> None:
    results(row_functions())
    [file] = folder.iterdir()
    file.chmod(mode)
    assert_right(row_functions())
    assert file.stat().st_mode & 0o777 == 0o600


def test_works_where_nothing_can_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_bytes(b"a file, no folder")
    assert_fallback(row_functions())
    monkeypatch.setenv("EDGEFORMER_CACHE_DIR", "/dev/null/cache")
    assert_fallback(row_functions())


def test_works_on_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert_right(row_functions())
    assert not list(folder.iterdir())


def test_works_with_an_llvmlite_that_lacks_a_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(llvm, "create_pass_builder")
    assert_fallback(row_functions())


def test_faults_of_our_own_are_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*arguments: object) -> None:
        raise AttributeError("a name that is spelled wrong")

    monkeypatch.setattr(compiler, "_entries", faulty)
    with pytest.raises(AttributeError, match="spelled wrong"):
        row_functions().address(NAMES[0])


def test_a_numba_that_cannot_be_imported_leaves_the_twins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise ImportError("Numba needs another NumPy")

    functions = NativeFunctions(NAMES, norms.ROW_ARGUMENTS, broken, norms.SOURCES)
    assert functions.address(NAMES[0]) is None
    assert "Numba needs another NumPy" in caplog.text
    with pytest.raises(InvalidOptionError, match="Numba needs another NumPy"):
        functions.address(NAMES[0], use_numba=True)


def test_another_cpu_source_or_function_has_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "functions.py"
    source.write_text("a = 1\n")
    first = compiler.key(NAMES, [source])
    assert compiler.key(NAMES, [source]) == first
    source.write_text("a = 2\n")
    second = compiler.key(NAMES, [source])
    monkeypatch.setattr(compiler, "features", lambda: "+more")
    assert len({first, second, compiler.key(NAMES, [source]), compiler.key(NAMES[:1], [source])}) == 4


def test_code_that_needs_a_library_is_refused() -> None:
    def with_error_function(output, row, weight, bias, n, epsilon):  # type: ignore[no-untyped-def]
        output[0] = math.erf(row[0])

    compiled = callback(with_error_function, norms.ROW_ARGUMENTS, [])
    with pytest.raises(RuntimeError, match="erf"):
        compiler.standalone_module({"with_error_function": compiled}, norms.ROW_ARGUMENTS)


def test_code_of_another_type_is_refused() -> None:
    compiled = numba.cfunc("void(int64)")(lambda n: None)
    with pytest.raises(RuntimeError, match="not as expected"):
        compiler.standalone_module({"of_a_number": compiled}, norms.ROW_ARGUMENTS)


def test_threads_share_one_image(folder: Path) -> None:
    functions = row_functions()
    addresses: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: addresses.append([functions.address(name) for name in NAMES])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(addresses) == 4 and len({tuple(found) for found in addresses}) == 1
    assert functions.code is not None
