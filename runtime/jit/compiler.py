"""What Numba and LLVM are asked for: callbacks of Python functions, and object files that need nothing else."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._kernels import core

__all__ = ["PREFIX", "features", "key", "object_file", "signature", "standalone_module"]

PREFIX = "edgeformer_"
# What code for this CPU may use, as LLVM spells it: what the kernels of its instruction set use (cpu.h); what the
# architecture always has, for the others. To ask LLVM for all that the CPU has would be to load LLVM.
AVX2_FEATURES = "+avx2,+fma,+f16c"
FEATURES = {
    "avx512vnni": AVX2_FEATURES + ",+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512vnni",
    "avxvnni": AVX2_FEATURES,
    "avx2": AVX2_FEATURES,
}


def features() -> str:
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
        raise FileNotFoundError(f"{package} is not installed")
    return Path(found.origin).with_name("_version.py")


def key(names: Iterable[str], sources: Iterable[Path]) -> str:
    """Hash of everything that the machine code of functions in `sources` depends on.

    Raises
    ------
    OSError
        A file is not there.
    """
    ours = [Path(__file__).with_name(name) for name in ("compiler.py", "functions.py", "machine_code.py")]
    files = [*sources, *ours, *map(_version_file, ("numba", "llvmlite"))]
    hashes = [importlib.util.source_hash(path.read_bytes()).hex() for path in files]
    parts = [sys.platform, os.uname().machine, features(), *names, *hashes]
    return importlib.util.source_hash("\n".join(parts).encode()).hex()


def _target_machine() -> Any:
    """What makes machine code for this CPU that runs wherever it lies."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine("", features(), 3, "pic", "small")


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


def standalone_module(compiled: Mapping[str, Any], arguments: str) -> Any:
    """The entries and the native functions that they need; RuntimeError where these need anything else."""
    import llvmlite.binding as llvm

    if not hasattr(llvm, "create_pass_builder"):
        raise RuntimeError("llvmlite before 0.44 has no passes for a whole module")
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


def object_file(compiled: Mapping[str, Any], arguments: str) -> bytes:
    """An object file with a C function for each Numba callback, called `PREFIX` and its name.

    Raises
    ------
    RuntimeError
        LLVM refuses the code, or it needs anything else.
    """
    data: bytes = _target_machine().emit_object(standalone_module(compiled, arguments))
    return data
