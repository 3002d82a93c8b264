"""Machine code of jitted functions, kept on disk so that a later process needs neither Numba nor llvmlite.

Importing Numba and running its compiler costs a process about a second and a hundred megabytes, even when Numba finds
the result in a cache of its own; LLVM alone takes half of the memory. So what Numba compiled once is made into one
image (`machine_code.py`): the native functions behind Numba's callbacks, each called by a C function of ours, without
the callbacks' own code, which needs Numba and Python to report exceptions.

The file lies in the first of ``$EDGEFORMER_CACHE_DIR``, ``$NUMBA_CACHE_DIR``, ``$XDG_CACHE_HOME/edgeformer`` and
``~/.cache/edgeformer``. Its name is a hash of all that the code depends on. Folders and files that another user may
write are not used; then, and wherever an object cannot be made, Numba's functions, compiled in this process, serve.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._kernels import core
from ..host.forks import fork_safe_lock
from .machine_code import link

__all__ = ["NativeFunctions", "cache_folder", "numba_wanted", "signature"]

CHECKSUM_BYTES = 8
PREFIX = "edgeformer_"
# A part of llvmlite is missing or has another name in its version; a file cannot be had; LLVM or we refuse the code.
EXPECTED_ERRORS = (ImportError, AttributeError, OSError, RuntimeError)
# What code for this CPU may use, as LLVM spells it: what the kernels of its instruction set use (cpu.h); what the
# architecture always has, for the others. To ask LLVM for all that the CPU has would be to load LLVM.
AVX2_FEATURES = "+avx2,+fma,+f16c"
FEATURES = {
    "avx512vnni": AVX2_FEATURES + ",+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512vnni",
    "avxvnni": AVX2_FEATURES,
    "avx2": AVX2_FEATURES,
}


def numba_wanted() -> bool:
    """Whether Numba is installed and the environment does not say EDGEFORMER_NUMBA=0."""
    return importlib.util.find_spec("numba") is not None and os.environ.get("EDGEFORMER_NUMBA") != "0"


def cache_folder() -> Path:
    """The folder for machine code; it need not exist."""
    named = os.environ.get("EDGEFORMER_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "edgeformer"


def _only_ours(status: os.stat_result) -> bool:
    """Whether no other user (but the superuser) can write a file or folder."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _checksum(name: str, code: bytes) -> bytes:
    """Against damage and mistakes; not against those who may write the file, and could write this program, too."""
    return importlib.util.source_hash(name.encode() + code)


def _read(path: Path) -> bytes | None:
    """The object in a cache file; None where there is none, or it is damaged, or may be another user's."""
    try:
        with open(path, "rb") as file:
            data = file.read() if _only_ours(os.fstat(file.fileno())) else b""
    except OSError:
        return None
    code = data[CHECKSUM_BYTES:]
    return code if data[:CHECKSUM_BYTES] == _checksum(path.name, code) else None


def _write(path: Path, code: bytes) -> None:
    """Puts an object into a cache file, whole or not at all. Raises OSError."""
    partial = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(_checksum(path.name, code) + code)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _features() -> str:
    """The features of this CPU that compiled code may use, as LLVM spells them."""
    return FEATURES.get(core.isa_names()[0], "")


def signature(arguments: str) -> Any:
    """Numba's signature of a function that returns nothing.

    Parameters
    ----------
    arguments : str
        A letter for each argument: p a pointer to float32, i an int64, f a float32.
    """
    from numba import types

    letters = {"p": types.CPointer(types.float32), "i": types.int64, "f": types.float32}
    return types.void(*(letters[letter] for letter in arguments))


def _version_file(package: str) -> Path:
    """What changes with a package's version: to read its metadata would take longer than all else."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ImportError(f"{package} is not installed")
    return Path(found.origin).with_name("_version.py")


def _key(names: Iterable[str], sources: Iterable[Path]) -> str:
    """Hash of everything that the machine code of functions in `sources` depends on."""
    ours = (Path(__file__), Path(__file__).with_name("machine_code.py"))
    files = [*sources, *ours, *map(_version_file, ("numba", "llvmlite"))]
    hashes = [importlib.util.source_hash(path.read_bytes()).hex() for path in files]
    parts = [sys.platform, os.uname().machine, _features(), *names, *hashes]
    return importlib.util.source_hash("\n".join(parts).encode()).hex()


def _target_machine() -> Any:
    """What makes machine code for this CPU that runs wherever it lies."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine("", _features(), 3, "pic", "small")


def _entries(natives: Mapping[str, str], arguments: str) -> Any:
    """LLVM's module with a C function for every name, calling its native Numba function."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    module = ir.Module()
    module.triple = llvm.get_process_triple()
    letters = {"p": ir.FloatType().as_pointer(), "i": ir.IntType(64), "f": ir.FloatType()}
    types, unused = [letters[letter] for letter in arguments], ir.IntType(8).as_pointer()
    native_type = ir.FunctionType(ir.IntType(32), [unused.as_pointer(), unused.as_pointer(), *types])
    # A native function first takes where to write a result, here None, and an exception, here never; its status is 0.
    for name, native_name in natives.items():
        native = ir.Function(module, native_type, native_name)
        entry = ir.Function(module, ir.FunctionType(ir.VoidType(), types), PREFIX + name)
        builder = ir.IRBuilder(entry.append_basic_block())
        builder.call(native, [builder.alloca(unused), builder.alloca(unused), *entry.args])
        builder.ret_void()
    return llvm.parse_assembly(str(module))


def _standalone_module(compiled: Mapping[str, Any], arguments: str) -> Any:
    """The entries and the native functions that they need; RuntimeError where these need anything else."""
    import llvmlite.binding as llvm

    natives = {name: callback.native_name.removeprefix("cfunc.") for name, callback in compiled.items()}
    module = _entries(natives, arguments)
    for callback in compiled.values():
        # Both are the correctly rounded square root, but the intrinsic is an instruction and no call into a library.
        module.link_in(llvm.parse_assembly(callback.inspect_llvm().replace("@sqrtf(", "@llvm.sqrt.f32(")))
    for name, native_name in natives.items():
        native, entry = module.get_function(native_name), module.get_function(PREFIX + name)
        types, entry_types = ([str(argument.type) for argument in f.arguments] for f in (native, entry))
        if native.is_declaration or types[2:] != entry_types:
            raise RuntimeError(f"Numba's native function of {name} is not as expected")
    for value in [*module.functions, *module.global_variables]:
        if not value.is_declaration and not value.name.startswith(PREFIX):
            value.linkage = "internal"  # so that what the entries do not need goes
    passes = llvm.create_pass_builder(_target_machine(), llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    declared = [value.name for value in [*module.functions, *module.global_variables] if value.is_declaration]
    foreign = [name for name in declared if not name.startswith("llvm.")]
    if foreign:
        raise RuntimeError(f"the code needs {', '.join(foreign)}")
    return module


class NativeFunctions:
    """Functions of one C type, from the cache or compiled by Numba.

    Parameters
    ----------
    names : iterable of str
    arguments : str
        Types of their arguments, as `signature` spells them.
    compile_function : callable
        Gives the Numba callback (``numba.cfunc``) of a name, compiled in this process and the same at every call.
    sources : sequence of Path
        The Python files that the functions are compiled from; the cache's file is called after the first.
    """

    def __init__(
        self, names: Iterable[str], arguments: str, compile_function: Callable[[str], Any], sources: Sequence[Path]
    ) -> None:
        self._names, self._arguments = tuple(names), arguments
        self._compile, self._sources = compile_function, tuple(sources)
        self._lock = fork_safe_lock()
        self._tried = False
        self._offsets: dict[str, int] = {}
        self.code: core.MachineCode | None = None  # None before the first use, and where Numba's callbacks serve

    def address(self, name: str) -> int:
        """Address of a function; it stays valid for the life of the process."""
        with self._lock:
            if not self._tried:
                self._tried = True
                with contextlib.suppress(*EXPECTED_ERRORS):
                    self._load()
            if self.code is not None:
                return self.code.address + self._offsets[name]
            return int(self._compile(name).address)

    def _load(self) -> None:
        """Takes the code from the cache, where it is put first if it is missing; takes none without a folder."""
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _only_ours(folder.stat()):
            return
        path = folder / f"{self._sources[0].stem}-{_key(self._names, self._sources)}.jit"
        data = _read(path)
        if data is None:
            compiled = {name: self._compile(name) for name in self._names}
            offsets, image = link(
                _target_machine().emit_object(_standalone_module(compiled, self._arguments)),
                [PREFIX + name for name in self._names],
            )
            data = struct.pack(self._header, *offsets) + image
            _write(path, data)
        self._offsets = dict(zip(self._names, struct.unpack_from(self._header, data), strict=True))
        self.code = core.MachineCode(data[struct.calcsize(self._header) :])

    @property
    def _header(self) -> str:
        """Of the code in a file: where each function begins in the image that follows."""
        return f"<{len(self._names)}Q"
