"""Times edgeformer's quantizers against ggml's `ggml_quantize_chunk`, and compares their errors.

    PYTHONPATH=tests python -m bench.quantizers [TYPE ...] [--rounds 5]

needs gguf and llama-cpp-python, or LLAMA_CPP_LIB, the folder of its ggml library. The tensor is [1024, 2048], Student's
t with five degrees of freedom, whose tails are about as heavy as those of trained matrices. Rates are float32 bytes per
second of CPU time, all threads together, so they are those of one core, however busy the machine. In turns; the best
round counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import gguf
import numpy as np
from edgeformer.quants import TYPES, by_name
from support.ggml_quantizer import GgmlQuantizer, library_path
from support.quantizer_tensors import COMPARED, weighted_rmse

SHAPE = (1024, 2048)


def seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, in all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(ggml: GgmlQuantizer, name: str, weighted: bool, rounds: int) -> str:
    """A type's line: MB/s of float32 of both, their ratio, the ratio of the errors."""
    random = np.random.default_rng(0)
    weights = (random.standard_t(5, SHAPE) * 0.02).astype(np.float32)
    importance = random.lognormal(size=SHAPE[1]).astype(np.float32) if weighted else None
    quantization = by_name(name)

    def ours() -> np.ndarray:
        return quantization.quantize(weights, importance)

    def theirs() -> np.ndarray:
        return ggml.quantize(quantization.id, weights, importance)

    errors = []
    for encoded in (ours(), theirs()):
        decoded = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(quantization.id))
        errors.append(weighted_rmse(weights, decoded, importance))
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    rates = [weights.nbytes / 1e6 / min(column) for column in zip(*times, strict=True)]
    given = "importance" if weighted else "plain"
    return f"{name:8}{given:12}{rates[0]:8.0f}{rates[1]:8.0f}{rates[0] / rates[1]:8.2f}{errors[0] / errors[1]:10.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [kind.name for kind in COMPARED]
    parser.add_argument("types", nargs="*", default=names, help=", ".join(t.name for t in TYPES.values()))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    path = library_path()
    if path is None:
        raise SystemExit("no ggml here: pip install llama-cpp-python, or set LLAMA_CPP_LIB")
    ggml = GgmlQuantizer(path)
    print(f"{path.name}; MB/s of float32 a core; ratios above 1 are faster, below 1 more exact")
    print(f"{'type':8}{'':12}{'ours':>8}{'ggml':>8}{'faster':>8}{'error':>10}")
    for name in arguments.types:
        for weighted in (False, True):
            print(row(ggml, name, weighted, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
