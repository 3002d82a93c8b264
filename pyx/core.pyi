"""Packed weights, caches, plans and the pool of threads that runs them. See the docstrings of the module itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int32]
_Operand = tuple[int, int] | None

EF_F32: Final[int]
EF_F16: Final[int]
EF_BF16: Final[int]
EF_Q8_0: Final[int]
EF_Q4_0: Final[int]
EF_I8_ROW: Final[int]
EF_MAX_CACHES: Final[int]
EF_MAX_DOMAINS: Final[int]
EF_MAX_INPUTS: Final[int]
EF_MAX_EXPERTS: Final[int]
ROUTE_COLUMNS: Final[int]
ACT_NONE: Final[int]
ACT_RELU: Final[int]
ACT_GELU: Final[int]
ACT_GELU_TANH: Final[int]
ACT_SILU: Final[int]
ACT_QUICK_GELU: Final[int]
ACT_RELU_SQUARED: Final[int]
ACT_SIGMOID: Final[int]
ACT_TANH: Final[int]
PAIR_HALVES: Final[int]
PAIR_NEIGHBOURS: Final[int]
POOL_MEAN: Final[int]
POOL_FIRST: Final[int]
POOL_LAST: Final[int]
WEIGHT_CHUNK: Final[int]
ALIGNMENT: Final[int]
TILE: Final[int]
SPAN: Final[int]
PAGE: Final[int]
BLOCK_COLUMNS: Final[int]
BLOCK_BYTES: Final[int]
ROW_TOTAL_BYTES: Final[int]
WEIGHT_TYPES: Final[dict[int, str]]
WEIGHT_BLOCKS: Final[dict[int, tuple[int, int]]]
KERNELS: Final[tuple[str, ...]]
ROW_FUNCTIONS: Final[tuple[str, ...]]
ACTIVATIONS: Final[tuple[str, ...]]
PAIRINGS: Final[tuple[str, ...]]
POOLINGS: Final[tuple[str, ...]]
COUNT_KINDS: Final[tuple[str, ...]]
MAX_THREADS: Final[int]

def compiler() -> str: ...
def compiled_isa_names() -> list[str]: ...
def isa_names() -> list[str]: ...
def best_isa() -> str: ...
def row_function_pointer(isa: str | None, name: str) -> int: ...

class ForkSafeLock:
    def __init__(self) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *exception: object) -> None: ...

class MachineCode:
    def __init__(self, image: Any) -> None: ...
    @property
    def address(self) -> int: ...

class Pool:
    threads: Final[int]
    def __init__(self, threads: int) -> None: ...
    @property
    def running(self) -> int: ...
    def close(self) -> None: ...

class CancelFlag:
    def __init__(self, parent: CancelFlag | None = None) -> None: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...

class WeightMemory:
    nbytes: Final[int]
    def __init__(self, nbytes: int) -> None: ...

class MappedFile:
    nbytes: Final[int]
    def __init__(self, descriptor: int, path: str) -> None: ...

class Matrix:
    def __init__(
        self,
        type: int,
        num_rows: int,
        num_columns: int,
        place: WeightMemory | MappedFile | None = None,
        offset: int = 0,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def num_columns(self) -> int: ...
    def pack(self, source: Any, first_row: int, num_rows: int, pool: Pool | None = None) -> bool: ...
    def read(
        self,
        descriptor: int,
        offset: int,
        first_row: int,
        num_rows: int,
        packed: bool = False,
        pool: Pool | None = None,
    ) -> bool: ...
    def is_finite(self, pool: Pool | None = None) -> bool: ...
    def panels(self) -> NDArray[np.uint8]: ...
    def row(self, i: int, isa: str | None = None) -> _Floats: ...

def run_scratch_bytes(threads: int, num_heads: int, key_dim: int, value_dim: int, type: int, parts: bool) -> int: ...
def trim_heap() -> None: ...
def cache_page_bytes(num_layers: int, num_heads: int, key_dim: int, value_dim: int, type: int) -> int: ...

class Cache:
    num_pages: Final[int]
    def __init__(
        self, num_pages: int, num_layers: int, num_heads: int, key_dim: int, value_dim: int, type: int
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def page_bytes(self) -> int: ...
    def copy_page(self, source: int, target: int) -> None: ...

OPS: Final[Mapping[str, tuple[str, ...]]]
ROW_WISE_OPS: Final[frozenset[str]]
WHOLE_ROW_OPS: Final[frozenset[str]]

class Plan:
    def __init__(self, isa: str | None = None) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def add_matrix(self, matrix: Matrix) -> int: ...
    def add_vector(self, vector: NDArray[Any]) -> int: ...
    def add_cache(self, cache: Cache) -> int: ...
    def add_op(
        self,
        kind: str,
        *,
        domain: int = 0,
        input: Sequence[_Operand] = (),
        output: _Operand = None,
        quantized: _Operand = None,
        row_scale: bool = False,
        weight: int = -1,
        vector: Sequence[int] = (),
        width: int,
        function: int = 0,
        **fields: float,
    ) -> int: ...
    def set_buffers(
        self,
        offsets: NDArray[np.int64],
        strides: NDArray[np.int64],
        domains: _Integers,
        arena_bytes: int,
        capacities: Sequence[int],
    ) -> None: ...
    def finish(self) -> None: ...
    def run(
        self,
        pool: Pool,
        domains: Sequence[int | tuple[_Integers, _Integers | None]],
        indices: Sequence[_Integers | None],
        features: Sequence[_Floats],
        segments: Mapping[tuple[int, int], _Integers],
        page_tables: Sequence[_Integers],
        should_cancel: CancelFlag | None = None,
    ) -> None: ...
    def read(self, buffer: int, column: int, width: int, domain_rows: int) -> _Floats: ...
    def read_checked(
        self, buffer: int, column: int, width: int, domain_rows: int, out: _Floats | None = None
    ) -> tuple[_Floats, bool]: ...

def token_ids(ids: Sequence[int] | _Integers, limit: int) -> _Integers: ...
def row_positions(starts: list[int], lengths: list[int]) -> _Integers: ...
def segment_rows(
    tables: list[list[int]],
    lengths: list[int],
    positions: list[int],
    kv_lengths: list[int],
    prefixes: list[int] | None = None,
) -> tuple[_Integers, _Integers]: ...
def is_finite(values: _Floats, isa: str | None = None) -> bool: ...
def top(values: _Floats, count: int, isa: str | None = None) -> _Integers: ...
def top_log_probs(
    rows: _Floats, count: int, isa: str | None = None, pool: Pool | None = None
) -> tuple[_Integers, _Floats]: ...
def log_sum_exp(values: _Floats, isa: str | None = None) -> tuple[np.float32, np.float32]: ...
def weigh(
    values: _Floats, largest: float, temperature: float, least: float = 0.0, isa: str | None = None
) -> tuple[_Floats, NDArray[np.float64]]: ...
def weigh_likely(
    values: _Floats,
    largest: float,
    temperature: float,
    least: float = 0.0,
    enough: float = ...,
    capacity: int = 1,
    isa: str | None = None,
) -> tuple[NDArray[np.float64], _Integers | None, _Floats | None]: ...
def reach(values: _Floats, target: float, start: float = 0.0) -> tuple[int, float]: ...
def kernel_matmul(
    isa: str | None,
    matrix: Matrix,
    x: _Floats,
    bias: _Floats | None = None,
    residual: _Floats | None = None,
    activation: str = "none",
    rows: tuple[int, int] | None = None,
    panels: tuple[int, int] | None = None,
) -> _Floats: ...
def kernel_embed(
    isa: str | None, matrix: Matrix, ids: _Integers, scale: float = 1.0, add: _Floats | None = None
) -> _Floats: ...
def kernel_quantize(isa: str | None, x: _Floats) -> NDArray[np.void]: ...
def kernel_quantize_row(isa: str | None, x: _Floats) -> tuple[NDArray[np.void], _Integers]: ...
def kernel_unary(isa: str | None, name: str, x: _Floats) -> _Floats: ...
def kernel_gate(isa: str | None, name: str, gate: _Floats, up: _Floats) -> _Floats: ...
def kernel_gate_limited(
    isa: str | None, name: str, gate: _Floats, up: _Floats, limit: float, offset: float
) -> _Floats: ...
def kernel_add(isa: str | None, a: _Floats, b: _Floats) -> _Floats: ...
def kernel_maximum(isa: str | None, a: _Floats, b: _Floats) -> _Floats: ...
def kernel_row_function(
    isa: str | None,
    name: str,
    x: _Floats,
    weight: _Floats | None = None,
    bias: _Floats | None = None,
    number: float = 1e-5,
) -> _Floats: ...
def kernel_rotary(isa: str | None, positions: _Integers, frequency: _Floats, scale: float = 1.0) -> _Floats: ...
def kernel_rope(isa: str | None, x: _Floats, cos_sin: _Floats, num_heads: int, pairing: int = 0) -> _Floats: ...
def kernel_pool(isa: str | None, x: _Floats, kind: int = 0) -> _Floats: ...
def kernel_attention(
    isa: str | None,
    query: _Floats,
    key: _Floats,
    value: _Floats,
    *,
    scale: float,
    causal: bool = True,
    prefix: int = 0,
    window: int = 0,
    soft_cap: float = 0.0,
    bias: _Floats | None = None,
    behind: int = 0,
    sinks: _Floats | None = None,
    relative: _Floats | None = None,
    buckets: _Floats | None = None,
    type: int = 0,
    rows: tuple[int, int] | None = None,
    page_order: Sequence[int] | None = None,
    spans: int | None = None,
) -> _Floats: ...
def count_products(isa: str | None, kind: str, rounds: int, chunks: int = 1, pool: Pool | None = None) -> int: ...

class ReadBuffer:
    def __init__(self, nbytes: int) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def checksum(self, isa: str | None = None, pool: Pool | None = None) -> int: ...
