"""A hand-made graph of one cache, run as a model's program is: through a file, the compiler and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from edgeformer._kernels import core
from edgeformer.engine.program import Batch, Program
from edgeformer.engine.weights import Weights
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.files.gguf.writer import GGUFWriter
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import ROWS
from edgeformer.graph.graph import Graph

from support.kernel_inputs import Floats

PAGE = core.PAGE


class GraphProgram:
    """The output "y" of a graph over float32 tensors; every sequence has `pages` pages of its own."""

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, Floats],
        folder: Path,
        *,
        threads: int = 1,
        isa: str | None = None,
        kv_type: int = core.EF_F32,
        sequences: int = 4,
        pages: int = 24,
    ) -> None:
        path = folder / "graph.gguf"
        with GGUFWriter(path, "graph") as writer:
            for name, array in tensors.items():
                writer.declare(name, array.shape, core.EF_F32)
            for name, array in tensors.items():
                writer.write(name, array)
        recipe = compile_graph(graph, ["y"], lambda name: False, lambda name: core.EF_F32)
        (spec,) = recipe.caches
        self.pool, self.pages = core.Pool(threads), pages
        cache = core.Cache(sequences * pages, 1, spec.num_heads, spec.key_dim, spec.value_dim, kv_type)
        with GGUFFile(path) as file:
            weights = Weights(file, self.pool, recipe.matrices)
            self.program = Program(recipe, weights, {spec.name: cache}, isa=isa)
        self.cache_name = spec.name

    def run(self, feeds: list[tuple[int, int, list[int]]], prefix: int = 0) -> Floats:
        """Rows of "y" for feeds of (sequence, position of the first id, ids)."""
        lengths, positions = [len(ids) for *_, ids in feeds], [position for _, position, _ in feeds]
        tables = [list(range(self.pages * number, self.pages * (number + 1))) for number, *_ in feeds]
        ends = [position + length for position, length in zip(positions, lengths, strict=True)]
        segments, table = core.segment_rows(tables, lengths, positions, ends, [prefix] * len(feeds))
        tokens = np.array([token for *_, ids in feeds for token in ids], np.int32)
        indices = {"tokens": tokens, "positions": core.row_positions(positions, lengths)}
        batch = Batch({ROWS: lengths}, indices, {(self.cache_name, ROWS): segments}, {self.cache_name: table})
        return self.program.run(self.pool, batch)["y"][0]
