"""Text files beside a checkpoint."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConversionError
from ...files.storage import InputFile

__all__ = ["read_text"]

TEXT_LIMIT = 1 << 28  # bytes; the largest published vocabularies have some millions


def read_text(path: Path) -> str:
    """A file of UTF-8, with line ends as Unix has them.

    Raises
    ------
    ConversionError
        It is not UTF-8, or unreasonably large.
    """
    with InputFile(path) as file:
        if file.size > TEXT_LIMIT:
            raise ConversionError(f"{path}: more than the {TEXT_LIMIT} bytes that are read")
        data = bytes(file.read(0, file.size))
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConversionError(f"{path}: not UTF-8 at byte {error.start}: {error.reason}") from None
