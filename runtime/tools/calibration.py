"""Which columns of the matrices matter for a kind of text: the model is run over some and its activations are watched.

Quantizers that know it spend the rounding errors where they hurt least (`converters/importance.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..converters.types.importance import Activations
from ..errors import InvalidInputError, PathLike, UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..text.tokenizer import Tokenizer
from .reference import ReferenceModel

__all__ = ["measure_activations"]

CHUNK_TOKENS = 512
MAX_TOKENS = 1 << 15  # more hardly change the sums; a 135M model takes about two minutes for them


def measure_activations(
    path: PathLike,
    text: str,
    *,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Activations]:
    """Run a model over a text and sum up what its matrices are multiplied with.

    The weights are held in float32, four bytes each.

    Parameters
    ----------
    path : path-like
        A GGUF file of a decoder or an encoder, best unquantized.
    text : str
        Of the kind that the model is for. A decoder takes it in pieces of 512 tokens, an encoder line by line.
    max_tokens : int
        The rest is left out.
    progress : callable, optional
        Called with the sequences done and how many there are.

    Returns
    -------
    dict of str to Activations
        By the name of the matrix.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        There is no such model, or its file is damaged.
    UnsupportedModelError
        The model is an encoder-decoder, which needs pairs of texts, or has no tokenizer.
    InvalidInputError
        The text has no tokens, or none may be used.
    """
    if max_tokens < 1:
        raise InvalidInputError(f"max_tokens is {max_tokens}: at least one token is needed")
    with GGUFFile(path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata, path=file.path)
    if tokenizer is None:
        raise UnsupportedModelError(f"{file.path}: the file carries no tokenizer, so no text can be run")
    seen: dict[str, Activations] = {}

    def observe(name: str, x: np.ndarray) -> None:
        total = seen.setdefault(name, Activations(np.zeros(x.shape[1]), 0))
        total.sums += np.square(x, dtype=np.float64).sum(axis=0)
        total.count += len(x)

    model = ReferenceModel(path, np.float32, observe)
    if model.architecture.stepper and model.architecture.reader:
        raise UnsupportedModelError(f"{file.path}: the model needs pairs of texts, and one text was given")
    longest = min(CHUNK_TOKENS, model.architecture.context_length)
    cut, run = (_pieces, model.logits) if model.architecture.stepper else (_lines, model.hidden)
    sequences = _at_most(cut(tokenizer, text, longest), max_tokens)
    for done, ids in enumerate(sequences):
        if progress is not None:
            progress(done, len(sequences))
        run(ids)
    return seen


def _pieces(tokenizer: Tokenizer, text: str, longest: int) -> list[list[int]]:
    """The text as one, cut; every piece starts as a text does."""
    start = tokenizer.encode("")[:1]
    ids = tokenizer.encode(text, add_special_tokens=False)
    step = max(longest - len(start), 1)
    return [(start + ids[first : first + step])[:longest] for first in range(0, len(ids), step)]


def _lines(tokenizer: Tokenizer, text: str, longest: int) -> list[list[int]]:
    """Every line that is not empty, as far as the model can read it."""
    return [tokenizer.encode(line)[:longest] for line in text.splitlines() if line.strip()]


def _at_most(sequences: list[list[int]], max_tokens: int) -> list[list[int]]:
    """The first sequences that together have no more tokens, the last of them cut."""
    if not sequences:
        raise InvalidInputError("the text to calibrate with has no tokens")
    kept = []
    for ids in sequences:
        kept.append(ids[:max_tokens])
        max_tokens -= len(kept[-1])
        if max_tokens == 0:
            break
    return kept
