"""Locks that a fork never copies in the middle of something; see pyx/locks.pxi."""

from __future__ import annotations

from .._kernels.core import ForkSafeLock

__all__ = ["ForkSafeLock", "fork_safe_lock"]

fork_safe_lock = ForkSafeLock
