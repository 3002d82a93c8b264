"""Every tensor type by its number, and by its name."""

from __future__ import annotations

from importlib import import_module

from ..errors import InvalidOptionError, quote
from . import blocks32, codebooks, floats, k_quants, rows, ternary
from .types import OWN, Bytes, Encoder, Float32, QuantizationType, StoredType


def _later(family: str, name: str) -> Encoder:
    """The encoder `name` of `encode/<family>.py`, imported when it is first used: running a model needs none."""

    def encode(blocks: Float32, importance: Float32 | None) -> Bytes:
        encoder: Encoder = getattr(import_module(f"{__package__}.encode.{family}"), f"encode_{name}")
        return encoder(blocks, importance)

    return encode


I8_ROW = OWN + 1
"""Number of edgeformer's own type."""

TYPES: dict[int, QuantizationType] = {
    stored_type.id: stored_type
    for stored_type in (
        QuantizationType(0, "f32", 1, 4, decode=floats.decode_f32, encode=floats.encode_f32),
        QuantizationType(1, "f16", 1, 2, decode=floats.decode_f16, encode=floats.encode_f16),
        QuantizationType(2, "q4_0", 32, 18, decode=blocks32.decode_q4_0, encode=_later("blocks32", "q4_0")),
        QuantizationType(3, "q4_1", 32, 20, decode=blocks32.decode_q4_1, encode=_later("blocks32", "q4_1")),
        QuantizationType(6, "q5_0", 32, 22, decode=blocks32.decode_q5_0, encode=_later("blocks32", "q5_0")),
        QuantizationType(7, "q5_1", 32, 24, decode=blocks32.decode_q5_1, encode=_later("blocks32", "q5_1")),
        QuantizationType(8, "q8_0", 32, 34, decode=blocks32.decode_q8_0, encode=blocks32.encode_q8_0),
        QuantizationType(10, "q2_k", 256, 84, decode=k_quants.decode_q2_k, encode=_later("k_quants", "q2_k")),
        QuantizationType(11, "q3_k", 256, 110, decode=k_quants.decode_q3_k, encode=_later("k_quants", "q3_k")),
        QuantizationType(12, "q4_k", 256, 144, decode=k_quants.decode_q4_k, encode=_later("k_quants", "q4_k")),
        QuantizationType(13, "q5_k", 256, 176, decode=k_quants.decode_q5_k, encode=_later("k_quants", "q5_k")),
        QuantizationType(14, "q6_k", 256, 210, decode=k_quants.decode_q6_k, encode=_later("k_quants", "q6_k")),
        QuantizationType(20, "iq4_nl", 32, 18, decode=codebooks.decode_iq4_nl, encode=_later("codebooks", "iq4_nl")),
        QuantizationType(23, "iq4_xs", 256, 136, decode=codebooks.decode_iq4_xs, encode=_later("codebooks", "iq4_xs")),
        QuantizationType(30, "bf16", 1, 2, decode=floats.decode_bf16, encode=floats.encode_bf16),
        QuantizationType(34, "tq1_0", 256, 54, decode=ternary.decode_tq1_0, encode=_later("ternary", "tq1_0")),
        QuantizationType(35, "tq2_0", 256, 66, decode=ternary.decode_tq2_0, encode=_later("ternary", "tq2_0")),
        QuantizationType(39, "mxfp4", 32, 17, decode=codebooks.decode_mxfp4, encode=_later("codebooks", "mxfp4")),
        QuantizationType(
            I8_ROW, "i8_row", 32, 32, row_header=rows.HEADER, decode=rows.decode_i8_row, encode=rows.encode_i8_row
        ),
    )
}
"""The types that edgeformer reads, by id. Those its kernels run are `core.WEIGHT_TYPES`."""

_NOT_READ = (
    StoredType(9, "q8_1", 32, 36),
    StoredType(15, "q8_k", 256, 292),
    StoredType(16, "iq2_xxs", 256, 66),
    StoredType(17, "iq2_xs", 256, 74),
    StoredType(18, "iq3_xxs", 256, 98),
    StoredType(19, "iq1_s", 256, 50),
    StoredType(21, "iq3_s", 256, 110),
    StoredType(22, "iq2_s", 256, 82),
    StoredType(24, "i8", 1, 1),
    StoredType(25, "i16", 1, 2),
    StoredType(26, "i32", 1, 4),
    StoredType(27, "i64", 1, 8),
    StoredType(28, "f64", 1, 8),
    StoredType(29, "iq1_m", 256, 56),
    StoredType(40, "nvfp4", 64, 36),
    StoredType(41, "q1_0", 128, 18),
)

STORED_TYPES: dict[int, StoredType] = {stored_type.id: stored_type for stored_type in _NOT_READ} | TYPES
"""Every type whose size is known, so a file that holds it can be checked and listed, by id."""


def by_name(name: str) -> QuantizationType:
    """The type of that name, e.g. ``"q8_0"``; upper case is the same.

    Raises
    ------
    InvalidOptionError
        There is no such type; the message lists those there are.
    """
    for quantization_type in TYPES.values():
        if quantization_type.name == name.lower():
            return quantization_type
    known = ", ".join(t.name for t in TYPES.values())
    raise InvalidOptionError(f"unknown weight type {quote(name)}: choose one of {known}")
