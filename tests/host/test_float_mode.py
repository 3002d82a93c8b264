"""Whatever rounding and traps the host has set for floats, results are the same and the host finds its own again."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from edgeformer._kernels import core
from support.kernel_inputs import matrix, rows, same_bits
from support.plan_models import Decoder

UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}.get(platform.machine())
pytestmark = pytest.mark.skipif(UPWARD is None, reason="the number of FE_UPWARD is not known for this CPU")


@contextlib.contextmanager
def rounding_upward() -> Iterator[None]:
    """The host's floats round towards infinity; checks that they still do at the end."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    assert libm.fesetround(UPWARD) == 0
    try:
        yield
        assert libm.fegetround() == UPWARD
    finally:
        libm.fesetround(0)


def decoded(threads: int) -> Callable[[], np.ndarray]:
    decoder, pool = Decoder(), core.Pool(threads)
    return lambda: decoder.run(pool, [(list(range(40)), 0, [0, 1, 2])])


def product(kind: int) -> Callable[[], np.ndarray]:
    packed, x = matrix(kind, 40, 256)[0], rows(0, 7, 256)
    return lambda: core.kernel_matmul(None, packed, x)


VALUES = rows(3, 5000, scale=4)
WORK: dict[str, Callable[[], np.ndarray]] = {
    "one thread": decoded(1),
    "three threads": decoded(3),
    "floats": product(core.EF_F32),
    "quantized": product(core.EF_Q4_0),
    "a row": lambda: matrix(core.EF_Q4_0, 3, 256)[0].row(1),
    "log_sum_exp": lambda: np.array(core.log_sum_exp(VALUES)),
    "weigh": lambda: core.weigh(VALUES, VALUES.max(), 0.7)[0],
    "top_log_probs": lambda: core.top_log_probs(VALUES[None], 5)[1],
}


@pytest.mark.parametrize("name", WORK)
def test_the_hosts_rounding_changes_no_bit(name: str) -> None:
    wanted = WORK[name]()
    with rounding_upward():
        found = WORK[name]()
    assert same_bits(found, wanted)


def test_threads_that_start_while_the_host_rounds_upward_do_not() -> None:
    wanted = decoded(3)()
    run = decoded(3)
    with rounding_upward():
        found = run()
    assert same_bits(found, wanted)


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="traps need glibc and x86")
def test_the_hosts_traps_are_not_sprung() -> None:
    """NaN, infinities and overflow in the work of a host that wants SIGFPE for its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import ctypes, ctypes.util, numpy
            from edgeformer._kernels import core
            from support.plan_models import Decoder
            libm = ctypes.CDLL(ctypes.util.find_library("m"))
            if not hasattr(libm, "feenableexcept"):
                print("no feenableexcept")
                raise SystemExit
            bad = numpy.array([[numpy.nan, numpy.inf, -numpy.inf, 3e38] * 16], numpy.float32)
            packed = core.Matrix(core.EF_F16, 16, 64)
            decoder, pool = Decoder(), core.Pool(2)
            names = [*core.ACTIVATIONS]
            halves = numpy.full((16, 64), numpy.nan, numpy.float16).tobytes()
            libm.feenableexcept(0x1 | 0x4 | 0x8)  # invalid, division by zero, overflow
            core.is_finite(bad)
            core.top(bad[0], 3)
            core.kernel_quantize(None, bad)
            for name in names:
                core.kernel_unary(None, name, bad)
            packed.pack(halves, 0, 16)
            core.kernel_matmul(None, packed, bad)
            decoder.run(pool, [(list(range(40)), 0, [0, 1, 2])])
            libm.fedisableexcept(0x1 | 0x4 | 0x8)
            print("done")
        """),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.stdout == "no feenableexcept\n":
        pytest.skip("this C library has no feenableexcept")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
