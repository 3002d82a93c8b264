"""ggml's own quantizer, called in the library of an installed llama-cpp-python (LLAMA_CPP_LIB names its folder)."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def library_path() -> Path | None:
    """libggml-base of the folder in LLAMA_CPP_LIB or of llama-cpp-python, by its longest name; None without."""
    folder = os.environ.get("LLAMA_CPP_LIB")
    if folder is None:
        package = importlib.util.find_spec("llama_cpp")
        if package is None or package.origin is None:
            return None
        folder = str(Path(package.origin).parent / "lib")
    return max(Path(folder).glob("libggml-base.*"), default=None)


class GgmlQuantizer:
    """`ggml_quantize_chunk` of a library."""

    def __init__(self, path: Path) -> None:
        self._function = ctypes.CDLL(str(path)).ggml_quantize_chunk
        self._function.restype = ctypes.c_size_t
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._function.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]

    def quantize(self, type_id: int, weights: Float32, importance: Float32 | None) -> NDArray[np.uint8]:
        """Quantize float32 [N, K], C-contiguous, with column weights float32 [K] or none: uint8 [N, bytes of a row]."""
        block_size, type_size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type_id)]
        num_rows, num_columns = weights.shape
        encoded = np.empty((num_rows, num_columns // block_size * type_size), dtype=np.uint8)
        column_weights = None if importance is None else importance.ctypes.data
        written = self._function(
            type_id, weights.ctypes.data, encoded.ctypes.data, 0, num_rows, num_columns, column_weights
        )
        assert written == encoded.nbytes
        return encoded
