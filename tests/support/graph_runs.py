"""Graphs without a file: random weights, compiled and bound, or interpreted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from edgeformer._kernels import core
from edgeformer.engine.program import Batch, Program
from edgeformer.engine.programs import compile_program
from edgeformer.engine.weights import Weights, supported_type
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import Domain, as_grids
from edgeformer.graph.graph import Graph
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.graph.recipe import Recipe, Stack, VectorSpec, padded

Lengths = Mapping[Domain, Sequence[int] | np.ndarray]


@dataclass
class ArrayWeights:
    """What `Program` asks of weights, from arrays of float32."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    def matrix(self, stack: Stack) -> core.Matrix:
        """The parts stacked, each from a whole tile on."""
        tensors = [self.tensors[part.name] for part in stack]
        flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
        parts = [rows[part.first : part.first + part.rows] for rows, part in zip(flat, stack, strict=True)]
        rows = [np.pad(part, ((0, padded(len(part)) - len(part)), (0, 0))) for part in parts[:-1]]
        stacked = np.concatenate([*rows, parts[-1]]).astype(np.float32)
        matrix = core.Matrix(core.EF_F32, *stacked.shape)
        matrix.pack(stacked.tobytes(), 0, len(stacked))
        return matrix

    def vector(self, spec: VectorSpec) -> np.ndarray:
        """A vector of the plan."""
        if spec.constant is not None:
            return spec.constant
        parts = [np.zeros(padded(part.width), np.float32) for part in spec.parts]
        for part, (name, width, first) in zip(parts, spec.parts, strict=True):
            part[:width] = 0 if name is None else self.tensors[name].reshape(-1)[first : first + width]
        return np.concatenate(parts)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers of these shapes."""
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def run_graph(
    graph: Graph,
    tensors: dict[str, np.ndarray],
    lengths: Lengths,
    inputs: Mapping[str, np.ndarray],
    *,
    isa: str | None = None,
    threads: int = 1,
    pages: int = 64,
) -> dict[str, np.ndarray]:
    """All outputs of a graph, by the compiled program."""
    recipe = compile_graph(graph, tuple(graph.outputs), lambda name: False, lambda name: core.EF_F32)
    caches = {
        spec.name: core.Cache(pages, spec.num_layers, spec.num_heads, spec.key_dim, spec.value_dim, core.EF_F32)
        for spec in recipe.caches
    }
    program = Program(recipe, ArrayWeights(tensors), caches, isa=isa)  # type: ignore[arg-type]
    floats = {name: array for name, array in inputs.items() if array.dtype == np.float32}
    indices = {name: array for name, array in inputs.items() if name not in floats}
    results = program.run(core.Pool(threads), Batch(lengths, indices, {}, {}, floats))
    return {name: array for name, (array, _) in results.items()}


def interpret_graph(
    graph: Graph, tensors: dict[str, np.ndarray], lengths: Lengths, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All outputs of a graph, by the interpreter."""
    grids = {domain: as_grids(some) for domain, some in lengths.items()}
    return interpret(graph, tensors, inputs, grids, {})


def run_file(graph: Graph, path: Path, ids: list[int]) -> tuple[Recipe, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The recipe of a graph without caches over a file's tensors, and its outputs: compiled, and interpreted."""
    inputs, grids = text_inputs(ids)
    with GGUFFile(path) as file:
        recipe, pool = compile_program(graph, tuple(graph.outputs), partial(supported_type, file)), core.Pool(1)
        program = Program(recipe, Weights(file, pool, set(recipe.matrices)), {})
        tensors = {name: file.dequantize(name).astype(np.float64) for name in file.tensors}
    indices = {name: numbers.astype(np.int32) for name, numbers in inputs.items()}
    ran = program.run(pool, Batch({domain: [len(ids)] for domain in grids}, indices, {}, {}))
    pool.close()
    return recipe, {name: rows for name, (rows, _) in ran.items()}, interpret(graph, tensors, inputs, grids, {})
