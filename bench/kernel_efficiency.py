"""How near the large products come to the peak of the instruction set, on one thread.

A plan of one product is timed against a plan of several of the same, in turns; the difference is the products alone,
cut for the caches as in every model: no copies, no quantization of activations.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from edgeformer import quants
from edgeformer._kernels import core

from .machine import peak
from .report import Check, Figure, Result, bound_of
from .rows import EXTRA_GROUP, NO_GOAL, Goal, Row, Settings, Work
from .token_ids import seconds

NUM_ROWS, NUM_COLUMNS, NUM_OUTPUTS = 512, 2048, 8192
EXTRA_PRODUCTS = 3
PEAK_TRIES = 4
GOAL = 0.6
TYPES_WITH_GOALS = ("q4_0", "q8_0", "q4_k")
BLOCK_BYTES = 64  # room for 32 quantized activations, whatever their struct
SMALL_BYTES = 0x3C  # random bytes below this are finite halves wherever a block has its scales


def types() -> list[str]:
    """Names of the block types that this build multiplies."""
    known = (core.WEIGHT_TYPES[kind].lower() for kind in sorted(core.WEIGHT_TYPES))
    return [name for name in known if quants.by_name(name).block_size > 1 and not quants.by_name(name).row_header]


def rows() -> list[Row]:
    """A row for every instruction set of this machine with vectors and every block type."""
    found = []
    for isa in core.isa_names():
        for name in types() if isa != "scalar" else []:
            wanted = name in TYPES_WITH_GOALS
            group, goal = ("kernel", GOAL) if wanted else (EXTRA_GROUP, NO_GOAL)
            goals = (Goal("efficiency", goal, "int8 peak"),)
            found.append(Row(f"kernel-{isa}-{name}", group, Work({}, 0, 1, "Gop/s"), goals))
    return found


def random_matrix(type_name: str) -> core.Matrix:
    """Weights of any finite value: time does not depend on them."""
    kind = quants.by_name(type_name)
    nbytes = NUM_OUTPUTS * kind.row_bytes(NUM_COLUMNS)
    raw = np.random.default_rng(0).integers(0, SMALL_BYTES, nbytes, dtype=np.uint8)
    matrix = core.Matrix(kind.id, NUM_OUTPUTS, NUM_COLUMNS)
    matrix.pack(raw, 0, NUM_OUTPUTS, None)
    return matrix


class Products:
    """A plan that quantizes rows and multiplies them by one matrix several times."""

    def __init__(self, isa: str, matrix: core.Matrix, embedding: core.Matrix, count: int) -> None:
        self.plan, self.pool = core.Plan(isa), core.Pool(1)
        add = self.plan.add_op
        weight, table = self.plan.add_matrix(matrix), self.plan.add_matrix(embedding)
        floats, blocks, output = range(3)
        add("embed", output=(floats, 0), weight=table, width=NUM_COLUMNS, scale=1.0)
        add("quantize", input=((floats, 0),), quantized=(blocks, 0), width=NUM_COLUMNS)
        for _ in range(count):
            add("linear", input=((blocks, 0),), output=(output, 0), weight=weight, width=NUM_OUTPUTS)
        strides = np.array([4 * NUM_COLUMNS, NUM_COLUMNS // 32 * BLOCK_BYTES, 4 * NUM_OUTPUTS], np.int64)
        offsets = np.cumsum(np.concatenate([[0], strides[:-1] * NUM_ROWS])).astype(np.int64)
        domains = np.zeros(3, np.int32)
        self.plan.set_buffers(offsets, strides, domains, int(strides.sum()) * NUM_ROWS, (NUM_ROWS,))
        self.plan.finish()

    def run(self) -> float:
        """Seconds of this thread, which runs everything."""
        ids = np.arange(NUM_ROWS, dtype=np.int32) % NUM_OUTPUTS
        return seconds(lambda: self.plan.run(self.pool, [NUM_ROWS], [ids], [], {}, []), time.thread_time)


def run(row: Row, settings: Settings) -> Result:
    """Efficiency of a type on an instruction set; its peaks are measured between the rounds."""
    _, isa, type_name = row.name.split("-", 2)
    matrix, embedding = random_matrix(type_name), core.Matrix(core.EF_F32, NUM_ROWS, NUM_COLUMNS)
    values = np.random.default_rng(1).standard_normal((NUM_ROWS, NUM_COLUMNS), dtype=np.float32)
    embedding.pack(values.view(np.uint8), 0, NUM_ROWS, None)
    one, several = (Products(isa, matrix, embedding, count) for count in (1, 1 + EXTRA_PRODUCTS))
    one.run(), several.run()
    operations = 2.0 * NUM_ROWS * NUM_COLUMNS * NUM_OUTPUTS
    shares: dict[str, list[float]] = {"int8": [], "int4": []}
    speeds: list[float] = []
    for _ in range(settings.rounds):
        alone = min(one.run() for _ in range(2))
        product = (min(several.run() for _ in range(2)) - alone) / EXTRA_PRODUCTS
        speeds.append(operations / product / 1e9)
        for kind, found in shares.items():
            found.append(operations / product / peak(isa, kind, tries=PEAK_TRIES))
    bounds = {"int8": bound_of(row.goals[0].bound), "int4": None}
    checks = [Check("efficiency", f"{kind} peak", median(found), found, bounds[kind]) for kind, found in shares.items()]
    model = f"{NUM_ROWS}x{NUM_COLUMNS}x{NUM_OUTPUTS} {type_name}"
    return Result(row.name, row.group, model, "Gop/s", {isa: Figure(isa, "", speeds)}, checks)
