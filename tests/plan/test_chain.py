"""Chains: row-wise ops that follow each other run range by range of rows, and nothing shows it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from edgeformer._kernels import core
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_inputs import Floats, matrix, rows, same_bits
from support.plan_models import POSITIONS, TOKENS, Builder, run_rows
from support.small_graphs import compiled

WIDTH, HEADS, HEAD_DIM = 64, 2, 32
MOST = 600


class Chain:
    """Lookups, their sum's norm, rotation and store in one chain, and attention over what was stored."""

    def __init__(self) -> None:
        self.plan = core.Plan()
        make, add = Builder(self.plan), self.plan.add_op
        self.plan.add_cache(core.Cache(-(-MOST // 16), 1, HEADS, HEAD_DIM, HEAD_DIM, core.EF_F32))
        self.x, self.angles, self.normed, self.blocks, self.attended = (
            make.floats(WIDTH),
            make.floats(HEAD_DIM),
            make.floats(WIDTH),
            make.blocks(WIDTH),
            make.floats(WIDTH),
        )
        tables = [matrix(core.EF_F32, MOST, WIDTH, seed) for seed in (1, 2)]
        self.sums: Floats = (tables[0][1] + tables[1][1]).astype(np.float32)
        for source, (table, _) in zip((TOKENS, POSITIONS), tables, strict=True):
            given = {"input": ((self.x, 0),)} if source else {}
            weight = self.plan.add_matrix(table)
            add("embed", output=(self.x, 0), weight=weight, width=WIDTH, source=source, scale=1.0, **given)
        frequency = self.plan.add_vector(rows(3, HEAD_DIM // 2))
        add("rotary", output=(self.angles, 0), vector=(frequency,), width=HEAD_DIM, source=POSITIONS, scale=1.0)
        norm = {"groups": 1, "number": 1e-5, "function": core.row_function_pointer(None, "layer_norm")}
        add(
            "row_function",
            input=((self.x, 0),),
            output=(self.normed, 0),
            quantized=(self.blocks, 0),
            width=WIDTH,
            **norm,
        )
        turned = (self.normed, 0)
        pairing = {"num_heads": HEADS, "head_dim": HEAD_DIM, "half": HEAD_DIM // 2, "pairing": core.PAIR_HALVES}
        add("rope", input=(turned, (self.angles, 0)), output=turned, width=WIDTH, **pairing)
        add("store_kv", input=(turned, (self.x, 0)), cache=0, layer=0, width=WIDTH)
        seeing = {"num_heads": HEADS, "causal": 1, "scale": 0.2}
        add("attention", input=(turned,), output=(self.attended, 0), width=WIDTH, **seeing)
        make.place(MOST)
        self.block_floats = make.sizes[self.blocks][0] // 4

    def run(self, count: int, threads: int) -> list[Floats]:
        ids = np.arange(count, dtype=np.int32)
        segments, pages = np.array([[0, count, 0, count, 0, 0]], np.int32), np.arange(-(-count // 16), dtype=np.int32)
        run_rows(self.plan, core.Pool(threads), ids, ids, segments=segments, pages=pages)
        sizes = {self.x: WIDTH, self.normed: WIDTH, self.attended: WIDTH, self.blocks: self.block_floats}
        return [self.plan.read(buffer, 0, size, count) for buffer, size in sizes.items()]


CHAIN = Chain()


@settings(max_examples=25)
@given(st.integers(1, MOST), st.integers(2, 5))
def test_any_rows_and_threads_give_the_bits_of_one_thread(count: int, threads: int) -> None:
    alone, together = CHAIN.run(count, 1), CHAIN.run(count, threads)
    assert same_bits(alone[0], CHAIN.sums[:count])
    assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))


def test_what_a_chain_touches_shares_no_bytes() -> None:
    recipe = compiled(layers=3)
    offsets, _ = recipe.layout(recipe.capacities(40, 40, 3))
    chains: list[list[int]] = [[0]]
    for position, (before, op) in enumerate(pairwise(recipe.ops), 1):
        if before.domain == op.domain and {before.kind, op.kind} <= core.ROW_WISE_OPS:
            chains[-1].append(position)
        else:
            chains.append([position])
    assert max(map(len, chains)) == 3  # rotations and the store
    for chain in chains:
        ops = [recipe.ops[position] for position in chain]
        operands = [o for op in ops for o in (*op.inputs, op.output, op.quantized) if o is not None]
        touched = sorted({operand.buffer for operand in operands}, key=lambda index: offsets[index])
        for a, b in pairwise(touched):
            assert offsets[a] + recipe.buffers[a].row_bytes * 40 <= offsets[b]
