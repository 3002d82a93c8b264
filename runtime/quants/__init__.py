"""Tensor types of GGUF: their blocks, and the way between float32 and bytes.

One file for each family of types; `table.py` lists them all. Decoded weights are those of llama.cpp and of gguf-py, to
the bit.
"""

from .table import I8_ROW, STORED_TYPES, TYPES, by_name
from .types import QuantizationType, StoredType

__all__ = ["I8_ROW", "STORED_TYPES", "TYPES", "QuantizationType", "StoredType", "by_name"]
