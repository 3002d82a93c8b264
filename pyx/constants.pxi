# The names of the C enums, for Python.

globals().update(
    EF_F32=EF_F32, EF_F16=EF_F16, EF_BF16=EF_BF16, EF_Q8_0=EF_Q8_0, EF_Q4_0=EF_Q4_0, EF_I8_ROW=EF_I8_ROW,
    EF_MAX_CACHES=EF_MAX_CACHES, EF_MAX_DOMAINS=EF_MAX_DOMAINS, EF_MAX_INPUTS=EF_MAX_INPUTS,
    EF_MAX_EXPERTS=EF_MAX_EXPERTS, ROUTE_COLUMNS=EF_ROUTE_COLUMNS,
)


cdef tuple names_of(const char *const *names, Py_ssize_t count):
    """The names of a list in C, in its order: an index is the number of the enum."""
    return tuple(names[i].decode() for i in range(count))


KERNELS = names_of(ef_kernel_names, EF_KERNEL_COUNT)
ROW_FUNCTIONS = names_of(ef_row_function_names, EF_ROW_FUNCTION_COUNT)
ACTIVATIONS = names_of(ef_activation_names, EF_ACT_COUNT)
PAIRINGS = names_of(ef_pairing_names, EF_PAIR_COUNT)
POOLINGS = names_of(ef_pooling_names, EF_POOL_COUNT)
for prefix, names in (("ACT", ACTIVATIONS), ("PAIR", PAIRINGS), ("POOL", POOLINGS)):
    globals().update({f"{prefix}_{name.upper()}": number for number, name in enumerate(names)})

ALIGNMENT, TILE, PAGE, WEIGHT_CHUNK = EF_ALIGNMENT, EF_TILE, EF_PAGE, EF_WEIGHT_CHUNK
SPAN = EF_ATTENTION_SPAN
BLOCK_COLUMNS, BLOCK_BYTES, ROW_TOTAL_BYTES = EF_BLOCK, sizeof(ef_block_activation), sizeof(int32_t)


cdef list weight_traits():
    """Of the types that there are kernels for."""
    cdef size_t i
    return [ef_traits(ef_type_ids[i]) for i in range(sizeof(ef_type_ids) // sizeof(ef_type_ids[0]))]


WEIGHT_TYPES = {traits["id"]: (<bytes>traits["name"]).decode() for traits in weight_traits()}
WEIGHT_BLOCKS = {traits["id"]: (traits["block_columns"], traits["block_bytes"]) for traits in weight_traits()}
cdef object INT32_MAX = 2**31 - 1
