# Single kernels for tests and benches, which alone use them. Arrays in, new arrays out; floats are in the mode of a plan.

cdef int activation_of(object name) except -1:
    if name not in ACTIVATIONS:
        raise InvalidInputError(f"no activation is called {name!r}; there are: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS.index(name)


cdef tuple range_of(object pair, str name, int limit):
    """(begin, end) within [0, limit]; all of it for None."""
    if pair is None:
        return 0, limit
    end = checked(pair[1], f"end of {name}", 0, limit)
    return checked(pair[0], f"begin of {name}", 0, end), end


cdef Rows quantized_rows(const ef_kernels *kernels, Rows x, bint row_scale):
    """Rows whose memory holds ef_block_activation, and a row's total after them if `row_scale`."""
    if x.num_columns % EF_BLOCK:
        raise InvalidInputError(f"{x.num_columns} columns are not a multiple of {EF_BLOCK}")
    cdef Rows blocks = Rows(x.num_rows, x.num_columns // EF_BLOCK * sizeof(ef_block_activation) // sizeof(float) + row_scale)
    cdef Py_ssize_t i
    for i in range(x.num_rows):
        (kernels.quantize_row if row_scale else kernels.quantize)(<ef_block_activation *>blocks.row(i), x.row(i), x.num_columns)
    return blocks


def kernel_matmul(isa, Matrix matrix not None, x, bias=None, residual=None, activation="none", rows=None, panels=None):
    """x times the transposed matrix, with bias, activation and residual as in OP_LINEAR.

    Parameters
    ----------
    x : float32 [n, K]
        Quantized first where the weights are.
    bias, residual : float32 [N], [n, N], optional
    activation : str
    rows, panels : (int, int), optional
        Only these rows and panels of sixteen outputs; the rest of the result is 0.

    Returns
    -------
    float32 [n, N]
    """
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows input = rows_of(x, "x", matrix.num_columns)
    cdef Rows output = Rows(input.num_rows, matrix.num_rows), bias_row = None, residual_rows = None
    cdef ef_matmul args
    cdef int32_t row_begin, row_end, panel_begin, panel_end
    row_begin, row_end = range_of(rows, "rows", input.num_rows)
    panel_begin, panel_end = range_of(panels, "panels", (matrix.native.num_rows + EF_TILE - 1) // EF_TILE)
    if ef_type_is_quantized(matrix.native.type):
        input = quantized_rows(kernels, input, matrix.native.type == EF_I8_ROW)
    memset(&args, 0, sizeof(args))
    args.weight, args.activation = matrix.native, activation_of(activation)
    cdef Rows scratch = Rows(1, ef_matmul_scratch(&matrix.native) // sizeof(float))
    args.scratch = <uint8_t *>scratch.data
    args.input, args.input_stride = input.data, input.stride * sizeof(float)
    args.output, args.output_stride = output.data, output.stride * sizeof(float)
    if bias is not None:
        bias_row = vector_of(bias, "bias", matrix.num_rows)
        args.bias = bias_row.data
    if residual is not None:
        residual_rows = rows_of(residual, "residual", matrix.num_rows)
        if residual_rows.num_rows != output.num_rows:
            raise InvalidInputError(f"residual: {output.num_rows} rows are needed, not {residual_rows.num_rows}")
        args.residual, args.residual_stride = residual_rows.data, residual_rows.stride * sizeof(float)
    cdef Reading reading = Reading(matrix.file)
    if row_begin < row_end and panel_begin < panel_end:
        with nogil:
            kernels.matmul(&args, row_begin, row_end, panel_begin, panel_end)
    reading.end()
    return output.array()


def kernel_embed(isa, Matrix matrix not None, ids, scale=1.0, add=None):
    """Rows `ids` (int32 [n]) of the matrix times `scale`, plus `add` (float32 [n, K]); float32 [n, K]."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef View index = view_of(ids, "ids", "i", 1)
    check_ids(<const int32_t *>index.buffer.buf, index.size(), 0, matrix.native.num_rows, "ids")
    cdef Rows output = Rows(index.size(), matrix.num_columns), add_rows = None
    if add is not None:
        add_rows = rows_of(add, "add", matrix.num_columns)
        if add_rows.num_rows != output.num_rows:
            raise InvalidInputError(f"add: {output.num_rows} rows are needed, not {add_rows.num_rows}")
    cdef Py_ssize_t i
    cdef Reading reading = Reading(matrix.file)
    for i in range(output.num_rows):
        kernels.embed(output.row(i), &matrix.native, (<const int32_t *>index.buffer.buf)[i], scale,
                      NULL if add_rows is None else add_rows.row(i))
    reading.end()
    return output.array()


BLOCK_FIELDS = numpy.dtype([("scale", "f4"), ("scaled_sum", "f4"), ("sum", "i2"), ("low_sum", "i2"), ("q", "i1", 32)])


def kernel_quantize(isa, x):
    """Rows as blocks of 32, a structured array [n, K / 32]: scale, scaled_sum (float32), sum, low_sum (int16), q (int8 [32])."""
    cdef FloatMode mode = FloatMode()
    return quantized_rows(kernels_of(isa), rows_of(x, "x"), False).array().view(BLOCK_FIELDS)


def kernel_quantize_row(isa, x):
    """The same with one scale a row, and the sum of each row's q, int32 [n]."""
    cdef FloatMode mode = FloatMode()
    words = quantized_rows(kernels_of(isa), rows_of(x, "x"), True).array()
    return numpy.ascontiguousarray(words[:, :-1]).view(BLOCK_FIELDS), words[:, -1].view(numpy.int32)


def kernel_unary(isa, name, x):
    """Activation `name`, one of `ACTIVATIONS`, of float32 [n, K]."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows input = rows_of(x, "x"), output = Rows(input.num_rows, input.num_columns)
    cdef int activation = activation_of(name)
    cdef Py_ssize_t i
    for i in range(input.num_rows):
        kernels.activate(output.row(i), input.row(i), input.num_columns, activation)
    return output.array()


cdef Rows same_shape(object source, str name, Rows other):
    cdef Rows rows = rows_of(source, name, other.num_columns)
    if rows.num_rows != other.num_rows:
        raise InvalidInputError(f"{name}: {other.num_rows} rows are needed, not {rows.num_rows}")
    return rows


def kernel_gate(isa, name, gate, up):
    """activation(gate) * up of float32 [n, K]."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows first = rows_of(gate, "gate"), second = same_shape(up, "up", first), output = Rows(first.num_rows, first.num_columns)
    cdef int activation = activation_of(name)
    cdef Py_ssize_t i
    for i in range(first.num_rows):
        kernels.gate(output.row(i), first.row(i), second.row(i), first.num_columns, activation)
    return output.array()


def kernel_gate_limited(isa, name, gate, up, float limit, float offset):
    """activation(gate, at most limit) * (up, between -limit and limit, + offset) of float32 [n, K]; limit > 0."""
    if not limit > 0:
        raise InvalidInputError(f"limit must be above 0, not {limit:g}")
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows first = rows_of(gate, "gate"), second = same_shape(up, "up", first), output = Rows(first.num_rows, first.num_columns)
    cdef int activation = activation_of(name)
    cdef Py_ssize_t i
    for i in range(first.num_rows):
        kernels.gate_limited(output.row(i), first.row(i), second.row(i), first.num_columns, activation, limit, offset)
    return output.array()


def kernel_add(isa, a, b):
    """a + b of float32 [n, K]."""
    return of_two(kernels_of(isa).add, a, b)


def kernel_maximum(isa, a, b):
    """The greater of a and b of float32 [n, K]."""
    return of_two(kernels_of(isa).maximum, a, b)


cdef object of_two(ef_of_two function, object a, object b):
    cdef FloatMode mode = FloatMode()
    cdef Rows first = rows_of(a, "a"), second = same_shape(b, "b", first), output = Rows(first.num_rows, first.num_columns)
    cdef Py_ssize_t i
    for i in range(first.num_rows):
        function(output.row(i), first.row(i), second.row(i), first.num_columns)
    return output.array()


def kernel_row_function(isa, name, x, weight=None, bias=None, number=1e-5):
    """Row function `name`, one of `ROW_FUNCTIONS`, of float32 [n, K] with weight and bias float32 [K]."""
    cdef ef_row_function function = row_function_of(kernels_of(isa), name)
    cdef FloatMode mode = FloatMode()
    cdef Rows input = rows_of(x, "x"), output = Rows(input.num_rows, input.num_columns), weight_row = None, bias_row = None
    if weight is not None:
        weight_row = vector_of(weight, "weight", input.num_columns)
    if bias is not None:
        bias_row = vector_of(bias, "bias", input.num_columns)
    cdef Py_ssize_t i
    for i in range(input.num_rows):
        function(output.row(i), input.row(i), NULL if weight_row is None else weight_row.data,
                 NULL if bias_row is None else bias_row.data, input.num_columns, number)
    return output.array()


def kernel_rotary(isa, positions, frequency, scale=1.0):
    """Cosines, then sines, of position * frequency: float32 [n, 2 * len(frequency)] for int32 positions [n]."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef View position = view_of(positions, "positions", "i", 1)
    cdef Rows frequencies = vector_of(frequency, "frequency"), output = Rows(position.size(), 2 * frequencies.num_columns)
    cdef Py_ssize_t i
    for i in range(output.num_rows):
        kernels.rotary(output.row(i), (<const int32_t *>position.buffer.buf)[i], frequencies.data, frequencies.num_columns, scale)
    return output.array()


def kernel_rope(isa, x, cos_sin, num_heads, pairing=EF_PAIR_HALVES):
    """Heads of float32 [n, num_heads * head_dim] rotated by cos_sin float32 [n, 2 * half]; pairing: PAIR_..."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows rows = rows_of(x, "x"), angles = rows_of(cos_sin, "cos_sin")
    cdef int32_t heads = checked(num_heads, "num_heads", 1, rows.num_columns), pairs = checked(pairing, "pairing", 0, EF_PAIR_COUNT - 1)
    cdef int32_t head_dim = rows.num_columns // heads, half = angles.num_columns // 2
    if rows.num_columns % heads or angles.num_columns % 2 or 2 * half > head_dim or angles.num_rows != rows.num_rows:
        raise InvalidInputError(f"{heads} heads in {rows.num_columns} columns cannot be rotated by {angles.num_columns} columns")
    cdef Py_ssize_t i
    for i in range(rows.num_rows):
        kernels.rope(rows.row(i), angles.row(i), heads, head_dim, half, pairs)
    return rows.array()


def kernel_pool(isa, x, kind=EF_POOL_MEAN):
    """One row, float32 [K], out of float32 [n, K]; kind: POOL_..."""
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Rows input = rows_of(x, "x"), output = Rows(1, input.num_columns)
    cdef int32_t which = checked(kind, "kind", 0, EF_POOL_COUNT - 1)
    if input.num_rows == 0:
        raise InvalidInputError("x: there are no rows")
    kernels.pool(output.data, input.data, input.stride * sizeof(float), input.num_rows, input.num_columns, which)
    return output.array()[0]
