# The face of attention for tests (and of store_kv, through the cache that it fills).

def kernel_attention(isa, query, key, value, *, scale, causal=True, prefix=0, window=0, soft_cap=0.0, bias=None, behind=0,
                     sinks=None, relative=None, buckets=None, type=EF_F32, rows=None, page_order=None, spans=None):
    """Attention of one sequence through a cache of one layer; what lies past the last position is NaN.

    Parameters
    ----------
    query : float32 [n, num_heads, key_dim]
        The last n of the m positions.
    key, value : float32 [m, num_kv_heads, key_dim], [m, num_kv_heads, value_dim]
    scale : float
    causal : bool
        Row i sees the positions 0 to m - n + i, otherwise all m.
    prefix : int
        Causal: so many first positions see one another both ways.
    window : int
        A row sees no position that is so far or farther from its own; 0: all.
    soft_cap : float
        Scores s become soft_cap * tanh(s / soft_cap); 0: they stay.
    bias : float32 [num_heads, distances] or [num_heads, rows >= m, columns >= m], optional
        Added to the scores: by key position - query position, from -behind on, beyond the ends as at the ends; or by
        query position and key position.
    behind : int
        Of a bias by distance, and of buckets.
    relative : float32 [m, 2, num_heads, num_buckets], optional
        What rows add to the scores, as queries and as keys, by the bucket of the distance; n = m, not causal.
    buckets : float32 [distances], optional
        The buckets of the distances, from -behind on.
    sinks : float32 [num_heads], optional
        Scores that take part in the softmax and have no value.
    type : int
        EF_F32, EF_F16 or EF_Q8_0, of the cache.
    rows : (int, int), optional
        Only these rows; the rest of the result is 0.
    page_order : sequence of int, optional
        Pages of the cache in the order of positions.
    spans : int, optional
        Computes so many spans at a time, the last first, and merges them at the end; all rows.

    Returns
    -------
    float32 [n, num_heads, value_dim]
    """
    shapes = [numpy.shape(array) for array in (query, key, value)]
    if any(len(shape) != 3 or 0 in shape for shape in shapes):
        raise InvalidInputError(f"query, key and value need three dimensions, not {shapes}")
    (n, heads, key_dim), (m, kv_heads, _), (_, _, value_dim) = shapes
    if shapes[1] != (m, kv_heads, key_dim) or shapes[2] != (m, kv_heads, value_dim) or n > m or heads % kv_heads:
        raise InvalidInputError(f"query, key and value do not belong together: {shapes}")
    pages = (m + EF_TILE - 1) // EF_TILE
    order = numpy.ascontiguousarray(range(pages) if page_order is None else page_order, numpy.int32)
    if sorted(order) != list(range(pages)):
        raise InvalidInputError(f"page_order must hold each of the {pages} pages once")
    cdef Rows queries = rows_of(numpy.reshape(query, (n, -1)), "query")
    cdef Cache cache = Cache(pages, 1, kv_heads, key_dim, value_dim, type)
    cdef View table = view_of(order, "page_order", "i", 1)
    cdef const ef_kernels *kernels = kernels_of(isa)
    fill_cache(kernels, cache, <const int32_t *>table.buffer.buf, rows_of(numpy.reshape(key, (m, -1)), "key"),
               rows_of(numpy.reshape(value, (m, -1)), "value"))
    cdef Rows output = Rows(n, heads * value_dim), scratch = Rows(1, ef_attention_scratch(&cache.native))
    cdef ef_segment segment
    segment.first_row, segment.num_rows, segment.position, segment.kv_length = 0, n, m - n, m
    segment.first_page, segment.prefix = 0, checked(prefix, "prefix", 0, m)
    cdef ef_attention args
    cdef ef_bias added
    cdef Rows bias_rows = None, sink_row = None
    args.bias = args.sinks = NULL
    if bias is not None:
        bias_rows = bias_of(bias, checked(behind, "behind", 0, 2**24), heads, m, &added)
        args.bias = &added
    if sinks is not None:
        sink_row = vector_of(sinks, "sinks", heads)
        args.sinks = sink_row.data
    cdef ef_relative rows_add
    cdef Rows relative_rows = None, bucket_row = None
    args.relative = NULL
    if relative is not None:
        if numpy.ndim(relative) != 4 or numpy.shape(relative)[:3] != (m, 2, heads) or n != m or causal:
            raise InvalidInputError(f"relative scores of shape {numpy.shape(relative)} for {n} of {m} rows and {heads} heads")
        relative_rows, bucket_row = rows_of(numpy.reshape(relative, (m, -1)), "relative"), vector_of(buckets, "buckets", numpy.size(buckets))
        rows_add.num_buckets, rows_add.behind = numpy.shape(relative)[3], checked(behind, "behind", 0, numpy.size(buckets) - 1)
        if not all(float(number) in range(rows_add.num_buckets) for number in buckets):
            raise InvalidInputError(f"buckets are numbers below {rows_add.num_buckets}")
        rows_add.scores, rows_add.stride, rows_add.buckets = relative_rows.data, relative_rows.stride * sizeof(float), bucket_row.data
        rows_add.ahead = numpy.size(buckets) - 1 - rows_add.behind
        args.relative = &rows_add
    args.query, args.query_stride = queries.data, queries.stride * sizeof(float)
    args.output, args.output_stride = output.data, output.stride * sizeof(float)
    args.cache, args.page_table, args.layer, args.num_heads = &cache.native, <const int32_t *>table.buffer.buf, 0, heads
    args.causal, args.window, args.scale = bool(causal), checked(window, "window", 0, INT32_MAX), scale
    args.prefix, args.soft_cap = prefix > 0, soft_cap
    if not (soft_cap == 0 or 1e-6 <= soft_cap <= 1e6):
        raise InvalidInputError(f"soft_cap is {soft_cap}; it must be 0 or from 1e-6 to 1e6")
    cdef int32_t begin, end, head
    begin, end = range_of(rows, "rows", n)
    if spans is not None:
        attention_in_parts(kernels, &args, &segment, checked(spans, "spans", 1, 2**16), scratch.data)
        return output.array().reshape(n, heads, value_dim)
    cdef FloatMode mode = FloatMode()
    for head in range(kv_heads if begin < end else 0):
        kernels.attention(&args, &segment, head, begin, end, scratch.data)
    return output.array().reshape(n, heads, value_dim)


cdef Rows bias_of(object bias, int32_t behind, int32_t heads, int32_t positions, ef_bias *added):
    """The table of a bias in a row of its own, which `added` describes."""
    cdef int32_t rows, columns = numpy.shape(bias)[-1]
    cdef Rows table
    if numpy.ndim(bias) == 2 and len(bias) == heads and behind < columns:
        table = vector_of(numpy.pad(bias, ((0, 0), (EF_TILE - 1, EF_TILE - 1)), mode="edge").reshape(-1), "bias")
        added[0] = ef_bias_by_distance(table.data, behind, columns - 1 - behind)
    elif numpy.ndim(bias) == 3 and len(bias) == heads and min(numpy.shape(bias)[1:]) >= positions:
        rows = numpy.shape(bias)[1]
        table = vector_of(numpy.pad(bias, ((0, 0), (0, 0), (0, -columns % EF_TILE))).reshape(-1), "bias")
        added[0] = ef_bias_dense(table.data, rows, columns)
    else:
        raise InvalidInputError(f"a bias of shape {numpy.shape(bias)} is not one of {heads} heads, {behind} positions behind and {positions} positions")
    return table


cdef int attention_in_parts(const ef_kernels *kernels, const ef_attention *args, const ef_segment *segment, int32_t spans,
                            float *scratch) except -1:
    """Every head of the segment from parts of `spans` spans, the last of them first."""
    cdef int32_t count = ef_attention_spans(segment.kv_length), begin, head
    cdef int32_t tiles = ef_attention_tiles(segment.num_rows * (args.num_heads // args.cache.num_heads))
    cdef Rows parts = Rows(1, ef_attention_part(args.cache) * tiles * count)
    cdef FloatMode mode = FloatMode()
    for head in range(args.cache.num_heads):
        for begin in range((count - 1) // spans * spans, -1, -spans):
            kernels.attention_split(args, segment, head, begin, min(begin + spans, count), parts.data, scratch)
        kernels.attention_join(args, segment, head, count, parts.data, scratch)
    return 0


cdef int fill_cache(const ef_kernels *kernels, Cache cache, const int32_t *pages, Rows keys, Rows values) except -1:
    """Stores rows from position 0 on, page by page, and NaN in what is left of the last page."""
    cdef Rows no_key = rows_of(numpy.full((1, keys.num_columns), numpy.nan, numpy.float32), "key")
    cdef Rows no_value = rows_of(numpy.full((1, values.num_columns), numpy.nan, numpy.float32), "value")
    cdef FloatMode mode = FloatMode()
    cdef int64_t key_stride = keys.stride * sizeof(float), value_stride = values.stride * sizeof(float)
    cdef Py_ssize_t i
    cdef int32_t count
    for i in range(0, keys.num_rows, EF_TILE):
        count = min(keys.num_rows - i, EF_TILE)
        kernels.store_kv(&cache.native, pages[i // EF_TILE], 0, 0, count, keys.row(i), key_stride, values.row(i), value_stride)
        for slot in range(count, EF_TILE):
            kernels.store_kv(&cache.native, pages[i // EF_TILE], 0, slot, 1, no_key.data, 0, no_value.data, 0)
    return 0
