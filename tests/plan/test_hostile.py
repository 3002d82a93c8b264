"""What Python can pass besides wrong numbers: arrays that change, numbers and sequences that lie, endless chains."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from edgeformer.graph.row_ops import REDUCTIONS
from support.kernel_inputs import matrix, same_bits
from support.plan_models import Builder

WIDTH = 64


def _copies() -> tuple[core.Plan, Builder]:
    """A plan that copies one buffer to another, without its buffers."""
    plan = core.Plan()
    builder = Builder(plan)
    source, target = builder.floats(WIDTH), builder.floats(WIDTH)
    plan.add_op("activate", input=((source, 0),), output=(target, 0), width=WIDTH)
    return plan, builder


def test_a_run_computes_with_what_was_checked_whoever_writes_to_the_arrays() -> None:
    """A signal's handler writes to the ids while products before the look-up run."""
    plan, packed = core.Plan("scalar"), matrix(core.EF_F32, WIDTH, WIDTH)[0]
    builder = Builder(plan)
    a, b, found = (builder.floats(WIDTH) for _ in range(3))
    weight, ids, written = plan.add_matrix(packed), np.full(64, 1, np.int32), []
    for _ in range(1000):
        plan.add_op("linear", input=((a, 0),), output=(b, 0), weight=weight, width=WIDTH)
    plan.add_op("embed", output=(found, 0), weight=weight, width=WIDTH, source=0, scale=1.0)
    builder.place(64)
    before = signal.signal(signal.SIGALRM, lambda *_: (written.append(1), ids.fill(2)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        plan.run(core.Pool(1), [64, 0, 0], [ids], [], {}, [])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert written
    assert same_bits(plan.read(found, 0, WIDTH, 64), np.tile(packed.row(1), (64, 1)))


def test_ctrl_c_ends_an_op_of_hours_on_several_threads() -> None:
    """Its chunks are as many as it takes to look up in time, not a number for each thread."""
    side, columns = 512, 16
    plan = core.Plan()
    builder = Builder(plan)
    source, target = builder.floats(columns), builder.floats(columns)
    plan.add_op(
        "window", input=((source, 0),), output=(target, 0), width=columns, reduction=REDUCTIONS.index("max"), rows=0,
        kernel_height=2 * side, kernel_width=2 * side, stride_height=1, stride_width=1, padding_top=side,
        padding_left=side, dilation_height=1, dilation_width=1,
    )  # fmt: skip
    builder.place(side * side)
    grid = np.array([0, side * side], np.int32), np.array([side], np.int32)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            plan.run(core.Pool(2), [grid, 0, 0], [], [], {}, [])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_segments_of_two_caches_in_one_domain_are_equally_many() -> None:
    plan = core.Plan()
    builder = Builder(plan)
    queries, output = builder.floats(16, 1), builder.floats(16, 1)
    for cache in range(2):
        plan.add_cache(core.Cache(1, 1, 1, 8, 8, core.EF_F32))
        plan.add_op("attention", domain=1, input=((queries, 0),), output=(output, 0), cache=cache, num_heads=1, width=8)
    builder.place(8)
    many = np.array([[row, 1, 0, 1, 0, 0] for row in range(3)], np.int32)
    page = np.zeros(1, np.int32)
    for first, second in ((many[:0], many), (many, many[:0])):
        with pytest.raises(InvalidInputError, match="segments of cache 1 in a domain of"):
            plan.run(core.Pool(1), [1, 3, 0], [], [], {(0, 1): first, (1, 1): second}, [page, page])


class Liar(int):
    """Within every bound, as it says."""

    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __lt__ = __gt__ = __le__

    def __add__(self, other: object) -> int:
        return 64

    __radd__ = __mul__ = __rmul__ = __mod__ = __add__  # type: ignore[assignment]


@pytest.mark.parametrize("what", ["domain", "buffer", "rows", "arena", "capacity", "type", "offset"])
def test_numbers_that_compare_as_they_like_are_compared_as_numbers(what: str) -> None:
    plan, builder = _copies()
    if what != "arena":
        builder.place(4)
    offsets, sizes, domains = np.array([0, 2**40]), np.full(2, 4 * WIDTH), np.zeros(2, np.int32)
    calls: dict[str, Any] = {
        "domain": lambda: plan.add_op("activate", domain=Liar(2**20), width=1),
        "buffer": lambda: plan.read(Liar(2**20), 0, 1, 1),
        "rows": lambda: plan.read(0, 0, 1, Liar(2**30)),
        "arena": lambda: plan.set_buffers(offsets, sizes, domains, Liar(2**20), (4,)),
        "capacity": lambda: plan.set_buffers(offsets[:1], sizes[:1], domains[:1], 2**20, (Liar(2**30),)),
        "type": lambda: core.Cache(1, 1, 1, 8, 8, Liar(99)),
        "offset": lambda: core.Matrix(core.EF_F32, 16, 16, core.WeightMemory(1024), Liar(2**40)),
    }
    with pytest.raises(InvalidInputError):
        calls[what]()


class Growing(list[Any]):
    """Longer each time somebody asks."""

    asked = 0

    def __len__(self) -> int:
        self.asked += 1
        return super().__len__() if self.asked == 1 else 100_000

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(0)

    def __iter__(self) -> Any:
        return iter([super().__getitem__(0)] * 100_000)


def test_sequences_that_grow_are_taken_at_their_first_length() -> None:
    plan, _ = _copies()
    plan.add_op("activate", input=((0, 0),), output=(1, 0), width=WIDTH, vector=Growing([-1]))
    plan.set_buffers(np.array([0, 1024]), np.full(2, 4 * WIDTH), np.zeros(2, np.int32), 2048, (4,))
    plan.run(core.Pool(1), Growing([4]), [], [], {}, [])


@pytest.mark.parametrize("value", ["1", None, 10**400])
def test_fields_that_are_no_floats_are_named(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="scale"):
        core.Plan().add_op("rotary", output=(0, 0), width=8, scale=value)


def test_a_chain_of_flags_of_any_length_is_freed() -> None:
    first = flag = core.CancelFlag()
    for _ in range(300_000):
        flag = core.CancelFlag(flag)
    first.set()
    assert flag.is_set()
    del flag
    assert first.is_set()
