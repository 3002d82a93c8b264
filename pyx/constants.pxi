# The names of the C enums, for Python.

globals().update(
    EF_F32=EF_F32, EF_F16=EF_F16, EF_BF16=EF_BF16, EF_Q8_0=EF_Q8_0, EF_Q4_0=EF_Q4_0, EF_I8_ROW=EF_I8_ROW,
    EF_ROWS=EF_ROWS, EF_OUTPUTS=EF_OUTPUTS, EF_SEGMENTS=EF_SEGMENTS,
    EF_TOKENS=EF_TOKENS, EF_POSITIONS=EF_POSITIONS, EF_TOKEN_TYPES=EF_TOKEN_TYPES, EF_MAX_CACHES=EF_MAX_CACHES,
)

ACT_NONE, ACT_RELU, ACT_GELU, ACT_GELU_TANH, ACT_SILU = EF_ACT_NONE, EF_ACT_RELU, EF_ACT_GELU, EF_ACT_GELU_TANH, EF_ACT_SILU
PAIR_HALVES, PAIR_NEIGHBOURS = EF_PAIR_HALVES, EF_PAIR_NEIGHBOURS
WEIGHT_CHUNK = EF_WEIGHT_CHUNK
POOL_MEAN, POOL_FIRST, POOL_LAST = EF_POOL_MEAN, EF_POOL_FIRST, EF_POOL_LAST


cdef dict weight_types():
    """Names of the types that there are kernels for, by id."""
    cdef size_t i
    ids = [ef_type_ids[i] for i in range(sizeof(ef_type_ids) // sizeof(ef_type_ids[0]))]
    return {type_id: (<bytes>ef_traits(type_id).name).decode() for type_id in ids}


WEIGHT_TYPES = weight_types()
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu")
cdef object INT32_MAX = 2**31 - 1
