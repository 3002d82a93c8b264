"""Mechanical rules of the source tree: what must not be in it, and what importing the package must not bring in."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import edgeformer
import pytest
from edgeformer._kernels import core

ROOT = Path(__file__).resolve().parents[1]
IN_TREE = (ROOT / "include").is_dir()
needs_tree = pytest.mark.skipif(not IN_TREE, reason="the C sources are not beside the tests")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
FORBIDDEN_CALLS = re.compile(r"\b(assert|abort|exit|_Exit|printf|fprintf|puts|perror|fopen|open|read|write)\s*\(")
FORBIDDEN_SYMBOLS = {"abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail", "printf", "puts", "perror"}
HEAVY_MODULES = ("numba", "torch", "tokenizers", "typer", "transformers")


def headers() -> list[Path]:
    return sorted((ROOT / "include").rglob("*.[ch]"))


@needs_tree
@pytest.mark.parametrize("path", headers(), ids=lambda path: path.name)
def test_headers_neither_end_the_process_nor_do_io(path: Path) -> None:
    code = COMMENT.sub("", path.read_text())
    assert not FORBIDDEN_CALLS.findall(code)
    assert "Python.h" not in code and "stdio.h" not in code and "assert.h" not in code


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


@needs_tree
def test_file_lengths_are_known(record_property: Callable[[str, object], None]) -> None:
    patterns = ("include/**/*.[ch]", "pyx/*.p*", "runtime/**/*.py", "converters/*.py", "tests/*.py", "bench/*.py")
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines())
               for pattern in patterns for path in ROOT.glob(pattern)}
    assert lengths
    for name, length in sorted(lengths.items(), key=lambda item: -item[1])[:10]:
        record_property(name, length)
        print(f"{length:5} {name}")
