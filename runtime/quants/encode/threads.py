"""Blocks are encoded by themselves, so threads may share them; the bytes are the same however many there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...host.limits import default_threads
from ..types import Bytes, Encoder, Float32

SLICE_ELEMENTS = 1 << 16
MOST_THREADS = 16


def num_threads() -> int:
    """As many as a model uses by default, and not more than sixteen."""
    return min(default_threads(), MOST_THREADS)


def in_threads(encode: Encoder) -> Encoder:
    """The encoder, at work on slices of the blocks in threads that end with the call, so a fork finds none of them."""

    def encode_in_threads(blocks: Float32, importance: Float32 | None) -> Bytes:
        step = max(1, SLICE_ELEMENTS // blocks.shape[1])

        def encode_slice(first: int) -> Bytes:
            part = slice(first, first + step)
            return encode(blocks[part], None if importance is None else importance[part])

        firsts = range(0, len(blocks), step)
        if len(firsts) < 2:
            return encode(blocks, importance)
        with ThreadPoolExecutor(num_threads()) as threads:
            return np.concatenate(list(threads.map(encode_slice, firsts)))

    return encode_in_threads
