"""The measurements of the machine: what they count is what was done."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from support.kernel_inputs import walks

KINDS = ("int8", "int4", "float32")


@pytest.mark.parametrize("isa", core.isa_names())
@pytest.mark.parametrize("kind", KINDS)
@walks("count_int8", "count_int4", "count_float")
def test_multiply_adds_count_themselves(isa: str, kind: str) -> None:
    a_round = core.count_products(isa, kind, 1)
    assert a_round > 0
    assert core.count_products(isa, kind, 0) == 0
    assert core.count_products(isa, kind, 1000) == 1000 * a_round
    assert core.count_products(isa, kind, 10, 7, core.Pool(3)) == 70 * a_round


@pytest.mark.parametrize("nbytes", [256, 1 << 20, (3 << 20) + 512])
@walks("checksum")
def test_reading_reads_every_word(nbytes: int) -> None:
    words = np.arange(nbytes // 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = int(np.bitwise_xor.reduce(words))
    memory = core.ReadBuffer(nbytes)
    assert memory.nbytes == nbytes
    for isa in core.isa_names():
        assert memory.checksum(isa) == memory.checksum(isa, core.Pool(2)) == expected


def test_impossible_measurements_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="int7"):
        core.count_products(None, "int7", 1)
    with pytest.raises(InvalidInputError, match="rounds"):
        core.count_products(None, "int8", -1)
    with pytest.raises(InvalidInputError, match="multiple of 256"):
        core.ReadBuffer(1000)


def test_memory_of_more_than_two_gigabytes_is_asked_for() -> None:
    """And refused by the system here, which has set a limit."""
    script = """
        import resource
        from edgeformer._kernels import core
        from edgeformer.errors import NotEnoughMemoryError
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        try:
            core.ReadBuffer(2**33)
        except NotEnoughMemoryError as error:
            print(error.needed)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{2**33}\n", "")
