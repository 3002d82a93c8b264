"""The one list of kernels, and the other lists that C and Python share."""

from __future__ import annotations

import ast
from pathlib import Path

from edgeformer._kernels import core
from edgeformer.files.gguf import layout
from edgeformer.graph import interpreter
from edgeformer.graph.interpreter import ACTIVATIONS
from edgeformer.quants import TYPES

TESTS = Path(__file__).parents[1]


def walked(path: Path) -> set[str]:
    """Kernels that the tests of a file hold on every instruction set: those named by `walks` where a test takes `isa`
    or `other_isa`, or goes over `core.isa_names()` or `other_isas()`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        taken, code = {argument.arg for argument in node.args.args}, ast.dump(node)
        all_sets = bool(taken & {"isa", "other_isa"}) or "isa_names" in code or "other_isas" in code
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "walks":
                assert all_sets, f"{path.name}: {node.name} runs on one instruction set"
                names |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    return names


def test_every_kernel_has_a_test_that_walks_the_instruction_sets() -> None:
    tested = set().union(*(walked(path) for path in TESTS.rglob("test_*.py")))
    assert set(core.KERNELS) - tested == set()


def test_the_interpreter_knows_every_activation() -> None:
    assert set(ACTIVATIONS) == set(core.ACTIVATIONS)


def test_the_interpreter_knows_every_op() -> None:
    """Those of a graph: a compiler alone quantizes."""
    known = {name.removeprefix("_") for name in vars(interpreter._Run)}
    assert set(core.OPS) - known == {"quantize"}


def test_blocks_are_as_large_for_the_kernels_as_for_the_files() -> None:
    for kind, (columns, nbytes) in core.WEIGHT_BLOCKS.items():
        assert (TYPES[kind].block_size, TYPES[kind].type_size) == (columns, nbytes), core.WEIGHT_TYPES[kind]
    assert {TYPES[kind].name: kind for kind in core.WEIGHT_TYPES} == {v: k for k, v in core.WEIGHT_TYPES.items()}


def test_a_packed_file_has_the_tiles_that_the_kernels_read() -> None:
    kind = core.EF_Q8_0
    one, more = core.Matrix(kind, 1, 32), core.Matrix(kind, layout.PACKED_ROWS, 32)
    assert one.nbytes == more.nbytes < core.Matrix(kind, layout.PACKED_ROWS + 1, 32).nbytes
