"""GPT-2's alphabet of bytes."""

from __future__ import annotations

__all__ = ["BYTE_ALPHABET"]


def _byte_alphabet() -> dict[str, int]:
    """The printable Latin-1 characters stand for themselves, the other bytes from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


BYTE_ALPHABET = _byte_alphabet()
