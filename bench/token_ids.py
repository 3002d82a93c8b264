"""What every runtime is given, and how a call is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

FIRST_TOKEN, TOKEN_STEP, TOKEN_RANGE = 1, 7919, 30000


def token_ids(count: int, start: int = 0) -> list[int]:
    """Ids scattered over the embedding, the same for every runtime."""
    return [FIRST_TOKEN + (start + i) * TOKEN_STEP % TOKEN_RANGE for i in range(count)]


def seconds(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes; with `time.thread_time`, how long this thread computes, others' turns left out."""
    start = clock()
    function()
    return clock() - start
