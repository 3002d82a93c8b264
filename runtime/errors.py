"""The one tree of errors. Everything that edgeformer raises on purpose is an `EdgeformerError`.

Where Python has a built-in exception of the same meaning (`ValueError`, `MemoryError`, `OSError`, `ImportError`), the
error is that as well, so a caller who knows nothing of edgeformer still catches it. Every message says what was wrong
and, where there is something to do about it, what to do. All of them pickle with their fields, so they cross process
boundaries.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "ChatTemplateError",
    "CheckpointFormatError",
    "ContextOverflowError",
    "ConversionError",
    "EdgeformerError",
    "GenerationCancelled",
    "GraphError",
    "InvalidInputError",
    "InvalidOptionError",
    "MissingDependencyError",
    "ModelFileChangedError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NotEnoughMemoryError",
    "NumericError",
    "OutputError",
    "UnsupportedCPUError",
    "UnsupportedInterpreterError",
    "UnsupportedModelError",
    "quote",
]

PathLike = str | os.PathLike[str]


def quote(text: object, limit: int = 80) -> str:
    """Text from a file or a user, safe to put into a message: quoted, escaped, and cut to `limit` characters."""
    if isinstance(text, (str, bytes)) and len(text) > limit:
        return f"{text[:limit]!r}... ({len(text)} long)"
    try:
        quoted = repr(text)
    except ValueError:  # Python does not spell integers of more than 4,300 digits
        quoted = f"<{type(text).__name__} too long to spell>"
    return quoted if len(quoted) <= 2 * limit else f"{quoted[: 2 * limit]}..."


def _rebuild(cls: type[EdgeformerError], args: tuple[Any, ...], fields: dict[str, Any]) -> EdgeformerError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


class EdgeformerError(Exception):
    """Base of every error that edgeformer raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which is the message alone here, not what the constructors take.
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        # OSError and ImportError print themselves in ways of their own; here the message is always the message.
        return str(self.args[0]) if self.args else ""


class ModelNotFoundError(EdgeformerError, FileNotFoundError):
    """There is no readable model file at the path: it is missing, a folder, a device, or may not be opened.

    Attributes
    ----------
    path : str
    """

    def __init__(self, path: PathLike, what: str) -> None:
        self.path = os.fspath(path)
        super().__init__(f"{self.path}: {what}")


class ModelFormatError(EdgeformerError):
    """A file's bytes break the rules of its format: it is damaged, cut short, hostile, or of another format.

    Attributes
    ----------
    path : str
    offset : int or None
        Byte position in the file of the field that is wrong, where there is one.
    field : str
        What the bytes there should have been, e.g. ``"tensor count"`` or ``"llama.block_count"``.
    what : str
        What is wrong with it.
    """

    def __init__(self, path: PathLike, offset: int | None, field: str, what: str) -> None:
        self.path = os.fspath(path)
        self.offset = offset
        self.field = field
        self.what = what
        where = field if offset is None else f"{field} at byte {offset}"
        super().__init__(f"{self.path}: {where}: {what}")


class CheckpointFormatError(ModelFormatError):
    """A checkpoint to convert from (torch, safetensors, JSON beside them) breaks the rules of its format."""


class ModelFileChangedError(EdgeformerError):
    """A model file was truncated, rewritten or replaced while it was open.

    Attributes
    ----------
    path : str
    """

    def __init__(self, path: PathLike, what: str) -> None:
        self.path = os.fspath(path)
        super().__init__(f"{self.path}: {what}; the file changed while it was in use: load the model again")


class UnsupportedModelError(EdgeformerError):
    """The file is well-formed, but asks for something that edgeformer does not run."""


class GraphError(EdgeformerError):
    """A program of a model contradicts itself. The file that builds it has to be mended, not the model's.

    Attributes
    ----------
    path : str
        Of the model for which it was built.
    program : str
    """

    def __init__(self, path: str, program: str, what: str) -> None:
        super().__init__(f"{path}: program {program}: {what}")
        self.path, self.program = path, program


class UnsupportedCPUError(EdgeformerError):
    """The instruction set that was asked for is unknown, not compiled in, or absent from this CPU."""


class UnsupportedInterpreterError(EdgeformerError, ImportError):
    """edgeformer was imported in a subinterpreter; it loads in a process's main interpreter only."""


class ContextOverflowError(EdgeformerError):
    """More positions are needed than the context has.

    Attributes
    ----------
    needed, available : int
        Positions (tokens).
    new_tokens : int
        Of those needed, tokens that were to be generated by wish of the caller.
    largest : int or None
        The context that the model was made for, where it could be loaded with more than `available`.
    truncate : str or None
        What the option `truncate` of the call would have to be for the input to be cut, where that would help.
    """

    def __init__(
        self,
        needed: int,
        available: int,
        *,
        new_tokens: int = 0,
        largest: int | None = None,
        truncate: str | None = None,
    ) -> None:
        self.needed = needed
        self.available = available
        self.new_tokens = new_tokens
        self.largest = largest if largest is not None and largest > available else None
        self.truncate = truncate
        super().__init__(self.advise(f"truncate={truncate!r}", "n_ctx"))

    def advise(self, truncation: str, context: str) -> str:
        """The message, where `truncation` asks for the input to be cut, and `context` sets the context's size."""
        ways = ["shorten the input"]
        if self.new_tokens > 1:
            ways.append("ask for fewer new tokens")
        if self.truncate is not None:
            ways.append(f"have it cut ({truncation})")
        if self.largest is not None:
            ways.append(f"load the model with a larger context ({context}, up to {self.largest})")
        listed = " or ".join([", ".join(ways[:-1]), ways[-1]] if len(ways) > 1 else ways)
        return f"{self.needed} positions are needed and the context has {self.available}: {listed}"


class NotEnoughMemoryError(MemoryError, EdgeformerError):
    """Memory was refused by the system, or would exceed the limit that was set.

    Attributes
    ----------
    needed : int or None
        Bytes, where known.
    available : int or None
        Bytes, where known.
    """

    def __init__(self, what: str, needed: int | None = None, available: int | None = None) -> None:
        self.needed = needed
        self.available = available
        wanted = "" if needed is None else f": {needed} bytes are needed"
        limit = "" if available is None else f" and {available} are available"
        super().__init__(f"{what}{wanted}{limit}")


class InvalidInputError(EdgeformerError, ValueError):
    """An input to the model cannot be used: empty, of the wrong type or shape, a token out of range, invalid text."""


class InvalidOptionError(EdgeformerError, ValueError):
    """An option is unknown, out of range, unsupported by this model, or contradicts another."""


class ChatTemplateError(EdgeformerError, ValueError):
    """A chat template is damaged, refuses the messages, fails at them, or does what a template may not."""


class GenerationCancelled(EdgeformerError):
    """The caller cancelled a run. The model stays usable."""

    def __init__(self, message: str = "the run was cancelled") -> None:
        super().__init__(message)


class NumericError(EdgeformerError):
    """NaN or infinity where numbers are needed; the message names the layer or tensor."""


class MissingDependencyError(EdgeformerError, ImportError):
    """A package that is needed here is not installed.

    Attributes
    ----------
    package : str
        Name on the package index.
    extra : str or None
        The extra of edgeformer that installs it; None where edgeformer itself does.
    """

    def __init__(self, package: str, extra: str | None = None) -> None:
        self.package = package
        self.extra = extra
        what = package if extra is None else f"'edgeformer[{extra}]'"
        super().__init__(f"{package} is not installed: pip install {what}")


class ConversionError(EdgeformerError):
    """A checkpoint was read but cannot be converted; the message names the tensor or key and why."""


class OutputError(EdgeformerError, OSError):
    """A file could not be written. Nothing is left at its path, nor beside it.

    Attributes
    ----------
    path : str
    needed : int or None
        Size of the whole file in bytes, where known.
    """

    def __init__(self, path: PathLike, what: str, needed: int | None = None) -> None:
        self.path = os.fspath(path)
        self.needed = needed
        size = "" if needed is None else f" ({needed} bytes are needed)"
        super().__init__(f"{self.path}: {what}{size}")
