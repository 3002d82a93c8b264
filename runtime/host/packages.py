"""Packages that a part of edgeformer needs and that may be absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingDependencyError


@contextmanager
def required(package: str, extra: str | None = None) -> Iterator[None]:
    """Around the import of `package`: its absence is a `MissingDependencyError`, which says how to install it: by an
    `extra` of edgeformer if it is in one.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # something that the package itself lacks
        raise MissingDependencyError(package, extra) from error
