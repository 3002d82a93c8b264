"""Mechanical rules of the source tree: what must not be in it, and what importing the package must not bring in."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import edgeformer
import pytest
from edgeformer._kernels import core
from edgeformer.models.registry import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]
IN_TREE = (ROOT / "include").is_dir()
needs_tree = pytest.mark.skipif(not IN_TREE, reason="the C sources are not beside the tests")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
FORBIDDEN_CALLS = re.compile(r"\b(assert|abort|exit|_Exit|printf|fprintf|puts|perror|fopen|open|read|write)\s*\(")
FORBIDDEN_SYMBOLS = {"abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail", "printf", "puts", "perror"}
MOST_LINES = 400
SOURCE_SUFFIXES = {".c", ".h", ".py", ".pyi", ".pyx", ".pxi", ".pxd"}
HEAVY_MODULES = ("numba", "torch", "tokenizers", "typer", "transformers")


def headers() -> list[Path]:
    return sorted((ROOT / "include").rglob("*.[ch]"))


@needs_tree
@pytest.mark.parametrize("path", headers(), ids=lambda path: path.name)
def test_headers_neither_end_the_process_nor_do_io(path: Path) -> None:
    code = COMMENT.sub("", path.read_text())
    assert not FORBIDDEN_CALLS.findall(code)
    assert "Python.h" not in code and "stdio.h" not in code and "assert.h" not in code


@needs_tree
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_big_endian_builds_are_refused() -> None:
    big = ["-U__BYTE_ORDER__", "-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__"]
    for options in ([], big):
        done = subprocess.run(
            ["cc", "-fsyntax-only", *options, f"-I{ROOT / 'include'}", "-xc", "-"],
            input='#include "edgeformer/kernels/kernels.h"\n', capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == bool(options)
        assert ("little-endian" in done.stderr) == bool(options)


@needs_tree
def test_arrays_over_caches_are_as_long_as_there_can_be_caches() -> None:
    sources = [*(ROOT / "pyx").glob("*.pxi"), ROOT / "pyx" / "native.pxd"]
    assert not [path.name for path in sources if re.search(r"\w\[4\]", path.read_text())]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_module_imports_nothing_that_ends_the_process() -> None:
    listed = subprocess.run(["nm", "-D", "--undefined-only", core.__file__], capture_output=True, text=True, check=True)
    symbols = {line.split()[-1].split("@")[0] for line in listed.stdout.splitlines() if line.strip()}
    if "__asan_init" in symbols or "__tsan_init" in symbols:
        pytest.skip("a sanitizer's own calls are in this build")
    assert not symbols & FORBIDDEN_SYMBOLS


def test_import_is_light() -> None:
    code = f"import sys, edgeformer; print([m for m in {HEAVY_MODULES} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_every_public_name_has_a_docstring() -> None:
    bare = [name for name in edgeformer.__all__ if not (getattr(edgeformer, name).__doc__ or "").strip()]
    assert not bare


# Each floor imports only floors before it. The face is what `import edgeformer` gives: `__init__` and `model`.
FLOORS = (
    "errors", "host", "jit", "quants", "files", "text", "features", "graph", "models", "engine", "generation", "tasks",
    "face", "tools", "serve", "cli", "__main__",
)  # fmt: skip
# `converters` stands beside `models`: what it may use, and who may use it.
BELOW_CONVERTERS = {"errors", "host", "quants", "files", "text", "models", "_kernels"}
ABOVE_CONVERTERS = {"tools", "cli"}


def floor_of(parts: tuple[str, ...]) -> str:
    """The floor of a module or package of edgeformer, by its path below the package."""
    return "face" if not parts or parts[0] in ("__init__", "model") else parts[0]


def imported_modules(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module of `package` imports from edgeformer, at its top or later, as paths below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "edgeformer" for alias in node.names), f"{path}: not relative"
        elif isinstance(node, ast.ImportFrom):
            assert node.level or (node.module or "").split(".")[0] != "edgeformer", f"{path}: not relative"
            if node.level:
                base = (*package[: len(package) - (node.level - 1)], *(node.module.split(".") if node.module else ()))
                yield from [base] if base else [(alias.name,) for alias in node.names]


def source_modules() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every Python file of the package, and its path below it."""
    for root, prefix in (("runtime", ()), ("converters", ("converters",))):
        for path in sorted((ROOT / root).rglob("*.py")):
            yield path, (*prefix, *path.relative_to(ROOT / root).with_suffix("").parts)


@needs_tree
def test_no_import_goes_up() -> None:
    wrong = []
    for path, parts in source_modules():
        mine = floor_of(parts)
        for target in imported_modules(path, parts[:-1]):
            theirs = floor_of(target) if target[0] in FLOORS or target[0] in ("converters", "_kernels") else "face"
            if mine == "converters":
                allowed = theirs in BELOW_CONVERTERS | {"converters"}
            elif theirs == "converters":
                allowed = mine in ABOVE_CONVERTERS
            else:
                allowed = theirs == "_kernels" or FLOORS.index(theirs) <= FLOORS.index(mine)
            if not allowed:
                wrong.append(f"{'.'.join(parts)} imports {'.'.join(target)}")
    assert not wrong


@needs_tree
def test_architectures_share_through_their_parts_alone() -> None:
    """No model's file, and no converter's, imports from another's."""
    names = {row.module for row in ARCHITECTURES}
    folders = {"runtime/models": ("models",), "converters/architectures": ("converters", "architectures")}
    for folder, package in folders.items():
        for name in names:
            imported = imported_modules(ROOT / folder / f"{name}.py", package)
            assert not [parts for parts in imported if parts[: len(package)] == package and parts[-1] in names], name


@needs_tree
def test_numba_stays_behind_its_fence() -> None:
    named = re.compile(r"^\s*(import|from) (numba|llvmlite)\b", re.MULTILINE)
    assert {parts[0] for path, parts in source_modules() if named.search(path.read_text())} == {"jit"}


@needs_tree
def test_no_file_stands_between_the_floors() -> None:
    loose = {path.name for path in (ROOT / "runtime").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "model.py"}


@needs_tree
def test_files_fit_in_the_head() -> None:
    folders = ("include", "pyx", "runtime", "converters", "tests", "bench")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in paths
        if path.suffix in SOURCE_SUFFIXES and path.name != "core.c"
    }
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}


# Words that decide nothing: what a model does follows from what its programs take and give.
FAMILIES, CACHES, PROGRAMS = {"decoder", "encoder", "encoder-decoder"}, {"self", "cross"}, {"decode"}


@needs_tree
def test_families_caches_and_programs_are_named_by_models_alone() -> None:
    runtime = ROOT / "runtime"
    found = {
        (path.relative_to(runtime).as_posix(), node.value)
        for path in runtime.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in FAMILIES | CACHES | PROGRAMS
    }
    named = {(path, word) for path, word in found if not path.startswith(("models/", "text/"))}  # text: tokenizer.json
    assert named == {("graph/architecture.py", word) for word in FAMILIES}  # for people, in messages
