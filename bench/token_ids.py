"""What every runtime is given, and how a call is timed."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

FIRST_TOKEN, TOKEN_STEP, TOKEN_RANGE = 1, 7919, 30000


def token_ids(count: int, start: int = 0) -> list[int]:
    """Ids scattered over the embedding, the same for every runtime."""
    return [FIRST_TOKEN + (start + i) * TOKEN_STEP % TOKEN_RANGE for i in range(count)]


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
