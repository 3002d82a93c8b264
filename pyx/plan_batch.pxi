# The rows of one run, checked.

@cython.final
cdef class Batch:
    """ef_batch over Python's arrays, which it keeps alive."""

    cdef ef_batch native
    cdef list views
    cdef int32_t table_sizes[4]
    cdef int num_caches

    def __cinit__(self, tokens, positions, token_types, output_rows, segments, page_tables):
        self.views = []
        self.native.num_rows = -1
        self.native.tokens = self.row_ids(tokens, "tokens")
        self.native.positions = self.row_ids(positions, "positions")
        self.native.token_types = self.row_ids(token_types, "token_types")
        cdef View view = self.keep(output_rows, "output_rows", 1)
        self.native.output_rows, self.native.num_outputs = <const int32_t *>view.buffer.buf, view.size()
        if len(segments) > EF_MAX_CACHES or len(page_tables) > len(segments):
            raise InvalidInputError("segments and page tables are one for each cache of the plan")
        self.num_caches = len(segments)
        cdef int i
        for i in range(self.num_caches):
            view = self.keep(segments[i], "segments", 2)
            if view.size(1) * sizeof(int32_t) != sizeof(ef_segment) or i and view.size() != self.native.num_segments:
                raise InvalidInputError("segments must have 6 columns, and for every cache the same number of rows")
            self.native.segments[i], self.native.num_segments = <const ef_segment *>view.buffer.buf, view.size()
            if i < len(page_tables):
                view = self.keep(page_tables[i], "page_tables", 1)
                self.native.page_table[i], self.table_sizes[i] = <const int32_t *>view.buffer.buf, view.size()

    cdef View keep(self, object array, str name, int ndim):
        cdef View view = view_of(array, name, "i", ndim)
        if view.buffer.len > INT32_MAX:
            raise InvalidInputError(f"{name}: {view.buffer.len} bytes are too many")
        self.views.append(view)
        return view

    cdef const int32_t *row_ids(self, object array, str name) except? NULL:
        if array is None:
            return NULL
        cdef View view = self.keep(array, name, 1)
        if self.native.num_rows >= 0 and view.size() != self.native.num_rows:
            raise InvalidInputError(f"{name}: {view.size()} elements for {self.native.num_rows} rows")
        self.native.num_rows = view.size()
        return <const int32_t *>view.buffer.buf


cdef int check_ids(const int32_t *ids, int32_t count, int32_t limit, str name) except -1:
    """Every id is within [0, limit)."""
    cdef int32_t i
    for i in range(count):
        if not 0 <= ids[i] < limit:
            raise InvalidInputError(f"{name}[{i}] is {ids[i]}; it must be 0 to {limit - 1}")
    return 0


cdef int check_batch(Plan plan, Batch batch) except -1:
    """The batch fits the plan: nothing that a kernel reads or writes for it lies outside of its memory."""
    cdef ef_batch *native = &batch.native
    cdef int i
    if native.num_rows < 1:
        raise InvalidInputError("a run needs at least one row, given by tokens or positions")
    counts = (native.num_rows, native.num_outputs, native.num_segments)
    if any(count > capacity for count, capacity in zip(counts, plan.capacities)):
        raise InvalidInputError(f"{counts} rows, outputs and segments are more than the capacities {plan.capacities}")
    check_ids(native.output_rows, native.num_outputs, native.num_rows, "output_rows")
    check_source(native.tokens, native.num_rows, plan.id_limits[EF_TOKENS], "tokens")
    check_source(native.positions, native.num_rows, plan.id_limits[EF_POSITIONS], "positions")
    if native.token_types != NULL:
        check_source(native.token_types, native.num_rows, plan.id_limits[EF_TOKEN_TYPES], "token_types")
    if plan.reads_positions and native.positions == NULL:
        raise InvalidInputError("the plan reads positions, but there are none")
    if batch.num_caches < len(plan.cache_objects) or plan.reads_segments and batch.num_caches == 0:
        raise InvalidInputError(f"segments are needed for each of {max(1, len(plan.cache_objects))} caches")
    for i in range(batch.num_caches):
        check_segments(plan, batch, i)
    return 0


cdef int check_source(const int32_t *ids, int32_t count, int32_t limit, str name) except -1:
    """Ids that a table of `limit` rows is looked up with; no table where it is negative."""
    if limit < 0:
        return 0
    if ids == NULL:
        raise InvalidInputError(f"the plan reads {name}, but there are none")
    return check_ids(ids, count, limit, name)


cdef int check_segments(Plan plan, Batch batch, int cache) except -1:
    """Segments cover the rows in order, and all the positions they touch lie on pages of the cache."""
    cdef int64_t row = 0, length
    cdef int32_t i, num_pages = 0
    cdef const ef_segment *segment
    cdef bint in_plan = cache < len(plan.cache_objects)
    if in_plan:
        num_pages = (<Cache>plan.cache_objects[cache]).num_pages
    for i in range(batch.native.num_segments):
        segment = &batch.native.segments[cache][i]
        if segment.first_row != row or segment.num_rows < 1:
            raise InvalidInputError(f"segment {i} of cache {cache} has {segment.num_rows} rows from {segment.first_row}, not from {row}")
        row += segment.num_rows
        if segment.position < 0 or segment.kv_length < 0 or segment.first_page < 0:
            raise InvalidInputError(f"segment {i} of cache {cache} has a negative position, length or page")
        if not in_plan:
            continue
        length = 0
        if plan.stores[cache] or plan.looks_back[cache]:
            length = <int64_t>segment.position + segment.num_rows
        if plan.looks_at_all[cache]:
            length = max(length, segment.kv_length)
            if segment.kv_length == 0:
                raise InvalidInputError(f"segment {i} of cache {cache} sees no positions")
        check_pages(batch, cache, i, segment.first_page, (length + EF_TILE - 1) // EF_TILE, num_pages)
    if row != batch.native.num_rows:
        raise InvalidInputError(f"segments of cache {cache} cover {row} of {batch.native.num_rows} rows")
    return 0


cdef int check_pages(Batch batch, int cache, int32_t segment, int64_t first, int64_t count, int32_t num_pages) except -1:
    if first + count > batch.table_sizes[cache]:
        raise InvalidInputError(f"segment {segment} needs {count} pages from {first} of a table of {batch.table_sizes[cache]} (cache {cache})")
    cdef const int32_t *pages = batch.native.page_table[cache] + first
    cdef int64_t i
    for i in range(count):
        if not 0 <= pages[i] < num_pages:
            raise InvalidInputError(f"page {pages[i]} of segment {segment} is not one of the {num_pages} of cache {cache}")
    return 0
