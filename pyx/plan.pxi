# The plan: ops, buffers, and running them.

@cython.final
cdef class Array:
    """A growing C array of plain structs."""

    cdef char *items
    cdef Py_ssize_t count, item_bytes

    def __cinit__(self, Py_ssize_t item_bytes):
        self.item_bytes = item_bytes

    def __dealloc__(self):
        free(self.items)

    cdef int append(self, const void *item) except -1:
        cdef char *items = self.items
        if self.count & (self.count - 1) == 0:  # full: the capacity is the power of two at or above the count
            items = <char *>realloc(items, max(2 * self.count, 1) * self.item_bytes)
            if items == NULL:
                raise NotEnoughMemoryError("the ops of a plan", 2 * self.count * self.item_bytes)
            self.items = items
        memcpy(items + self.count * self.item_bytes, item, self.item_bytes)
        self.count += 1
        return 0


cdef struct Polled:
    void *plan  # the Plan that handles signals; NULL where they are not this thread's
    ef_mapping *mapping  # that the plan reads, or NULL


cdef int poll_run(void *context) noexcept nogil:
    """Called from the thread that runs a plan, with a Polled: 1 ends the run. The GIL is taken only for signals."""
    cdef Polled *polled = <Polled *>context
    if atomic_load(&exiting) or polled.mapping != NULL and atomic_load(&polled.mapping.failed):
        return 1
    if polled.plan == NULL:
        return 0
    with gil:
        return (<Plan>polled.plan).poll()


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1


cdef enum:
    COPY_FLOATS = 2048  # copied, and looked at while they are in the nearest cache


cdef class Plan:
    """A list of ops over rows in an arena, run from token ids to results without the GIL (plan.h).

    Add matrices, vectors, caches and ops, then set the buffers; `finish` (or the first run) checks that everything fits.
    One run at a time: other threads wait.

    Parameters
    ----------
    isa : str or None
        Instruction set of the kernels; None: `best_isa`.
    """

    cdef ef_plan native
    cdef Array ops, matrices, vectors, buffers
    cdef list references, matrix_objects, cache_objects, vector_sizes
    cdef object domains, capacities
    cdef size_t arena_bytes, scratch_bytes
    cdef uint8_t *scratch
    cdef Guard guard
    cdef object error
    cdef MappedFile file
    cdef bint checked
    # What a batch must have (plan_checks.pxi): (index input, its domain, limit, domains whose rows it numbers, optional),
    # (float input, domain, width), domains of equally many segments, (domain, domain, rows for each of its rows);
    # and by (cache, domain) what is done, flags of CacheUse, and the positions that a dense bias is for.
    cdef list index_uses, feature_uses, same_segments, row_counts
    cdef dict cache_uses, bias_sizes

    def __cinit__(self, isa=None):
        self.native.kernels = kernels_of(isa)
        self.ops, self.matrices = Array(sizeof(ef_op)), Array(sizeof(ef_matrix))
        self.vectors, self.buffers = Array(sizeof(float *)), Array(sizeof(ef_buffer))
        self.references, self.matrix_objects, self.cache_objects, self.vector_sizes = [], [], [], []
        self.domains, self.capacities = [], ()
        self.guard = Guard()

    def __dealloc__(self):
        ef_memory_unmap(self.native.arena, self.arena_bytes)
        ef_memory_unmap(self.scratch, self.scratch_bytes)
        ef_memory_unmap(self.native.parts, sizeof(ef_parts))

    @property
    def isa(self):
        """Name of the instruction set."""
        return self.native.kernels.isa.decode()

    @property
    def nbytes(self):
        """Bytes of the arena and the scratch so far, without matrices, vectors and caches."""
        return self.arena_bytes + self.scratch_bytes + (sizeof(ef_parts) if self.native.parts != NULL else 0)

    def add_matrix(self, Matrix matrix not None):
        """Adds a packed matrix and returns its index. Matrices in mapped files must all be in the same one."""
        with self.guard:
            if matrix.file is not None:
                if self.file not in (None, matrix.file):
                    raise InvalidInputError("a plan reads from one mapped file")
                self.file = matrix.file
            self.matrices.append(&matrix.native)
            self.matrix_objects.append(matrix)
            self.checked = False
            return self.matrices.count - 1

    def add_vector(self, vector):
        """Adds a copy of a float32 vector and returns its index."""
        cdef Rows rows = vector_of(numpy.ascontiguousarray(vector, numpy.float32), "vector")
        with self.guard:
            self.vectors.append(&rows.data)
            self.vector_sizes.append(rows.num_columns)
            self.references.append(rows)
            self.checked = False
            return self.vectors.count - 1

    def add_cache(self, Cache cache not None):
        """Adds a cache and returns its index."""
        with self.guard:
            if len(self.cache_objects) == EF_MAX_CACHES:
                raise InvalidInputError(f"a plan has at most {EF_MAX_CACHES} caches")
            self.native.caches[len(self.cache_objects)] = cache.native
            self.cache_objects.append(cache)
            self.checked = False
            return len(self.cache_objects) - 1

    def add_op(self, kind, *, domain=0, input=(), output=None, quantized=None, row_scale=False, weight=-1, vector=(), width,
               function=0, **fields):
        """Adds an op (ef_op in plan.h) and returns its index.

        Parameters
        ----------
        kind : str
            One of `OPS`.
        domain : int
            Whose rows the op runs over.
        input, output, quantized : operands
            (buffer, first column); None or a negative buffer where there is none.
        row_scale : bool
            Quantized rows have one scale each, as EF_I8_ROW wants them, instead of one a block.
        weight, vector : int, tuple of int
            Indices of a matrix and of vectors. A row function without a vector has ones, or zeros for its bias.
        width : int
            Columns of the result, of one group for a row function.
        function : int
            Address of an ef_row_function, for a row function. Trusted.
        **fields : int or float
            Those of the kind (`OPS`); what is not named is 0.
        """
        cdef ef_op op
        memset(&op, 0, sizeof(op))
        op.kind = kind_number(kind)
        op.domain = checked(domain, "domain", 0, EF_MAX_DOMAINS - 1)
        op.width = checked(width, "width", 1, 2**24)
        op.weight = checked(weight, "weight", -1, INT32_MAX)
        if len(input) > 2 or len(vector) > 2:
            raise InvalidInputError("an op has at most 2 inputs and 2 vectors")
        op.output, op.quantized = operand_of(output), operand_of(quantized)
        op.row_scale = bool(row_scale)
        cdef int i
        for i in range(2):
            op.input[i] = operand_of(input[i] if i < len(input) else None)
            op.vector[i] = checked(vector[i] if i < len(vector) else -1, "vector", -1, INT32_MAX)
        set_fields(&op, fields)
        op.function = <ef_row_function><size_t>function
        with self.guard:
            self.ops.append(&op)
            self.checked = False
            return self.ops.count - 1

    def set_buffers(self, offsets, strides, domains, arena_bytes, capacities):
        """Places the buffers in a new arena; what the old one held is gone.

        Parameters
        ----------
        offsets, strides : int64 arrays [buffers]
            Bytes into the arena and from row to row, multiples of 64.
        domains : int32 array [buffers]
            Whose rows a buffer has.
        arena_bytes : int
        capacities : tuple of int
            The most rows that a run may have of each domain.
        """
        cdef View offset = view_of(offsets, "offsets", "q", 1), stride = view_of(strides, "strides", "q", 1)
        cdef View domain = view_of(domains, "domains", "i", 1)
        cdef Array buffers = Array(sizeof(ef_buffer))
        cdef ef_buffer buffer
        cdef Py_ssize_t i
        if not offset.size() == stride.size() == domain.size():
            raise InvalidInputError("offsets, strides and domains are of different lengths")
        limits = tuple(checked(value, "capacity", 0, EF_MAX_ROWS) for value in capacities)
        cdef object nbytes = checked(arena_bytes, "arena_bytes", 0, 2**62)
        if not 1 <= len(limits) <= EF_MAX_DOMAINS:
            raise InvalidInputError(f"there are 1 to {EF_MAX_DOMAINS} domains, not {len(limits)}")
        kinds = []
        for i in range(offset.size()):
            buffer.offset, buffer.stride = (<int64_t *>offset.buffer.buf)[i], (<int64_t *>stride.buffer.buf)[i]
            kinds.append(checked((<int32_t *>domain.buffer.buf)[i], f"domain of buffer {i}", 0, len(limits) - 1))
            if buffer.offset < 0 or buffer.stride <= 0 or buffer.offset % 64 or buffer.stride % 64:
                raise InvalidInputError(f"buffer {i}: offset {buffer.offset} and stride {buffer.stride} must be multiples of 64")
            if <object>buffer.offset + <object>buffer.stride * limits[kinds[i]] > nbytes:
                raise InvalidInputError(f"buffer {i} ends past the arena of {nbytes} bytes")
            buffers.append(&buffer)
        with self.guard:
            self.replace_arena(nbytes + 64)  # operands that start inside a tile are read up to one tile past their end
            self.buffers, self.domains, self.capacities, self.checked = buffers, kinds, limits, False

    cdef int replace_arena(self, size_t nbytes) except -1:
        """A new arena, after the old one is given back: the two need not fit side by side."""
        if nbytes <= self.arena_bytes:
            return 0
        ef_memory_unmap(self.native.arena, self.arena_bytes)
        self.native.arena, self.arena_bytes = NULL, 0
        self.buffers, self.domains, self.capacities = Array(sizeof(ef_buffer)), [], ()
        self.checked = False
        self.native.arena = <uint8_t *>allocate(nbytes, True, "the arena of a plan")
        self.arena_bytes = nbytes
        return 0

    cdef int replace_scratch(self, size_t nbytes) except -1:
        if nbytes <= self.scratch_bytes:
            return 0
        ef_memory_unmap(self.scratch, self.scratch_bytes)
        self.scratch, self.scratch_bytes = NULL, 0
        self.scratch = <uint8_t *>allocate(nbytes, False, "the scratch of a plan")
        self.scratch_bytes = nbytes
        return 0

    def finish(self):
        """Checks every op against the matrices, vectors, caches and buffers; the first run does so if nobody else did."""
        with self.guard:
            self.check()

    cdef int check(self) except -1:
        if self.checked:
            return 0
        self.native.ops, self.native.num_ops = <const ef_op *>self.ops.items, self.ops.count
        self.native.matrices = <const ef_matrix *>self.matrices.items
        self.native.vectors = <const float *const *>self.vectors.items
        self.native.buffers = <const ef_buffer *>self.buffers.items
        check_ops(self)
        if self.native.parts == NULL and any([looks & LOOKS_BACK for looks in self.cache_uses.values()]):
            self.native.parts = <ef_parts *>allocate(sizeof(ef_parts), False, "the parts of attention")
        self.checked = True
        return 0

    def run(self, Pool pool not None, domains, indices, features, segments, page_tables, CancelFlag should_cancel=None):
        """Runs all ops over a batch. The GIL is released; Ctrl-C and `should_cancel` end the run within one op.

        Parameters
        ----------
        pool : Pool
        domains : list of int or (starts, widths)
            For each domain its rows; or, where ops ask for its segments, the first row of each and then the number of
            rows, int32 [segments + 1], and the widths of their grids, int32 [segments] (None: 1).
        indices : list of int32 arrays or None
            The index inputs, a number for every row of their domain; None: all 0, for tables that are looked up.
        features : list of float32 arrays [rows, width]
            The float inputs.
        segments : dict of (cache, domain) to int32 array [segments, 6]
            The fields of ef_segment.
        page_tables : list of int32 arrays
            For each cache, the pages that segments refer to.
        should_cancel : CancelFlag, optional

        Raises
        ------
        InvalidInputError
            The batch is larger than the buffers, or something in it is out of range.
        GenerationCancelled, KeyboardInterrupt
        ModelFileChangedError
            A mapped file that holds matrices is not what it was; what the run computed is worth nothing.
        """
        cdef Reading reading
        cdef Batch batch = Batch(domains, indices, features, segments, page_tables)
        cdef ef_cancel *cancel = NULL if should_cancel is None else &should_cancel.native
        cdef int status = EF_RUN_DONE
        with self.guard:
            self.check()
            check_batch(self, batch)
            with pool.guard:
                reading = Reading(self.file)
                status = self.run_batch(pool, batch, cancel)
            error, self.error = self.error, None
        if error is not None:
            raise error
        reading.end()
        if status == EF_RUN_POLLED:
            leave_at_exit()
        if status == EF_RUN_CANCELLED:
            raise GenerationCancelled()

    cdef int run_batch(self, Pool pool, Batch batch, ef_cancel *cancel) except -1:
        """Runs a checked batch; returns an ef_run_status. Both locks are held."""
        cdef int status
        cdef Polled polled
        polled.plan = <void *>self if on_main_thread() else NULL
        polled.mapping = NULL if self.file is None else self.file.watched
        cdef ef_pool *native_pool = pool.native
        if atomic_load(&exiting):
            return EF_RUN_POLLED
        self.replace_scratch(pool.threads * ef_plan_scratch_bytes(&self.native))
        with nogil:
            status = ef_plan_run(&self.native, &batch.native, native_pool, self.scratch, cancel, poll_run, &polled)
        return status

    cdef int poll(self) noexcept:
        """Runs Python's signal handlers; keeps what they raise and returns 1 then."""
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.error = error
            return 1
        return 0

    def read(self, buffer, column, width, domain_rows):
        """A float32 copy [domain_rows, width] of the first rows of a buffer, from `column` on."""
        return self.read_checked(buffer, column, width, domain_rows)[0]

    def read_checked(self, buffer, column, width, domain_rows, out=None):
        """What `read` gives, and whether it holds neither infinity nor NaN. With `out`, float32 [domain_rows, width], it
        is written there."""
        with self.guard:
            self.check()
            index = checked(buffer, "buffer", 0, self.buffers.count - 1)
            rows = checked(domain_rows, "domain_rows", 0, self.capacities[self.domains[index]])
            return self.copy(index, checked(column, "column", 0, INT32_MAX), checked(width, "width", 1, INT32_MAX), rows, out)

    cdef object copy(self, int32_t index, int64_t column, int64_t width, int64_t rows, object out):
        cdef const ef_buffer *buffer = &self.native.buffers[index]
        if (column + width) * 4 > buffer.stride:
            raise InvalidInputError(f"columns {column} to {column + width} are past the {buffer.stride // 4} of buffer {index}")
        result = numpy.empty((rows, width), numpy.float32) if out is None else out
        cdef View view = view_of(result, "out", "f", 2)
        if view.size() != rows or view.size(1) != width or view.buffer.readonly:
            raise InvalidInputError(f"out: an array of {rows} rows of {width} that may be written is needed")
        cdef int64_t row, begin, count, num_rows = rows
        cdef float *target = <float *>view.buffer.buf
        cdef const float *source
        cdef bint finite = True
        cdef FloatMode mode = FloatMode()
        with nogil:
            for row in range(num_rows):
                source = <const float *>(self.native.arena + buffer.offset + row * buffer.stride) + column
                begin = 0
                while begin < width:
                    count = min(width - begin, <int64_t>COPY_FLOATS)
                    memcpy(target, source + begin, count * sizeof(float))
                    finite &= self.native.kernels.is_finite(target, count) != 0
                    target, begin = target + count, begin + count
        return result, finite


cdef ef_operand operand_of(object pair) except *:
    """(buffer, column), or absent for None and negative buffers."""
    cdef ef_operand operand
    operand.buffer, operand.column = -1, 0
    if pair is not None:
        buffer, column = pair
        operand.buffer = checked(buffer, "buffer", -1, INT32_MAX)
        operand.column = checked(column, "column", 0, 2**24)
    return operand


include "plan_batch.pxi"
include "plan_checks.pxi"
