"""What a session is given, checked before it runs: token ids, their types, float rows, the rows that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._kernels import core
from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError
from ..graph.domains import OUTPUTS, ROWS, Features
from ..graph.recipe import Recipe

Context = tuple[int, int]  # the positions that a session has, and the most that its model could have


def check_ids(ids: Sequence[int], vocab_size: int, context: Context) -> np.ndarray:
    """Token ids of one sequence, int32. Raises `InvalidInputError` and `ContextOverflowError`."""
    array = core.token_ids(ids, vocab_size)
    if len(array) > context[0]:
        raise ContextOverflowError(len(array), context[0], largest=context[1])
    return array


def check_token_types(token_types: Sequence[Sequence[int]], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The token types of sequences of these lengths. Raises `InvalidInputError`."""
    types = [core.token_ids(t, 1 << 31) for t in token_types]
    if [len(t) for t in types] != [len(a) for a in arrays]:
        raise InvalidInputError("token_types must have the lengths of token_ids")
    return types


def check_rows(sample: np.ndarray, index: int, taken: Features, context: Context) -> np.ndarray:
    """The float rows of one sample. Raises `InvalidInputError` and `ContextOverflowError`."""
    try:
        array = np.ascontiguousarray(sample, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"samples[{index}]: not an array of numbers: {error}") from None
    if array.ndim not in (2, 3) or array.shape[-1] != taken.width or array.size == 0:
        wanted = f"rows of {taken.width} numbers ({taken.name})"
        raise InvalidInputError(f"samples[{index}]: {wanted} are needed, not an array {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"samples[{index}]: there are NaN or infinity in it")
    rows = array.size // taken.width
    if rows > context[0]:
        raise ContextOverflowError(rows, context[0], largest=context[1])
    return array


def hidden_output(pooled: bool, normalize: bool | None, normalized: bool, layers: bool) -> str:
    """The output that gives hidden states; `normalized`: whether pooled ones have length 1 unless told.

    Raises
    ------
    InvalidOptionError
        The options contradict each other.
    """
    if not pooled:
        if normalize is not None:
            raise InvalidOptionError("normalize: pooled vectors have a length; ask for them with pooled=True")
        return "hidden"
    if layers:
        raise InvalidOptionError("layers: rows are pooled after the last layer; leave pooled out")
    return "normalized" if (normalized if normalize is None else normalize) else "pooled"


def shifted(arrays: list[np.ndarray], start: int | None) -> list[np.ndarray]:
    """Each sequence after the token `start` and without its last, as a decoder reads its own source."""
    first = np.array([] if start is None else [start], np.int32)
    return [np.concatenate([first, array])[: len(array)] for array in arrays]


def check_asked(rows: Sequence[Sequence[int]] | None, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The rows of each sequence that results are asked of, int32; all unless told. Raises `InvalidInputError`."""
    if rows is None:
        return [np.arange(len(array), dtype=np.int32) for array in arrays]
    if len(rows) != len(arrays):
        raise InvalidInputError(f"rows: {len(rows)} for {len(arrays)} sequences")
    asked = [np.asarray(some, np.int32) for some in rows]
    for some, array in zip(asked, arrays, strict=True):
        if (np.diff(some, prepend=-1) <= 0).any() or (some >= len(array)).any():
            raise InvalidInputError(f"rows: {some.tolist()} of {len(array)} are not ascending rows of the sequence")
    return asked


def result_rows(recipe: Recipe, output: str, arrays: list[np.ndarray], asked: list[np.ndarray] | None) -> list[int]:
    """How many rows of an output each sequence has; without `asked`, its last row alone is asked for."""
    domain = recipe.outputs[output][2]
    if domain == ROWS:
        return [len(array) for array in arrays]
    if domain == OUTPUTS and asked is not None:
        return [len(some) for some in asked]
    return [1] * len(arrays)
