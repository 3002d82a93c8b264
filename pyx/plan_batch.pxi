# The rows of one run, checked.

# Made once: a run that is sound needs no message.
cdef tuple DOMAIN_NAMES = tuple([f"rows of domain {i}" for i in range(EF_MAX_DOMAINS)])
cdef tuple INDEX_NAMES = tuple([f"index input {i}" for i in range(EF_MAX_INPUTS)])

@cython.final
cdef class Batch:
    """ef_batch over Python's arrays, which it keeps alive."""

    cdef ef_batch native
    cdef list kept
    cdef ef_rows domains[EF_MAX_DOMAINS]
    cdef const int32_t *indices[EF_MAX_INPUTS]
    cdef Py_ssize_t index_sizes[EF_MAX_INPUTS]
    cdef const float *features[EF_MAX_INPUTS]
    cdef Py_ssize_t feature_rows[EF_MAX_INPUTS]
    cdef Py_ssize_t feature_columns[EF_MAX_INPUTS]
    cdef const ef_segment *segments[EF_MAX_CACHES * EF_MAX_DOMAINS]
    cdef const int32_t *page_table[EF_MAX_CACHES]
    cdef Py_ssize_t table_sizes[EF_MAX_CACHES]
    cdef int num_indices, num_features, num_caches

    def __cinit__(self, domains, indices, features, segments, page_tables):
        self.kept = []
        self.native.num_domains = checked(len(domains), "the number of domains", 1, EF_MAX_DOMAINS)
        self.num_caches = checked(len(page_tables), "the number of caches", 0, EF_MAX_CACHES)
        cdef int i
        for i in range(self.native.num_domains):
            self.add_domain(i, domains[i])
        self.num_indices = checked(len(indices), "the number of index inputs", 0, EF_MAX_INPUTS)
        for i in range(self.num_indices):
            self.add_index(i, indices[i])
        self.num_features = checked(len(features), "the number of float inputs", 0, EF_MAX_INPUTS)
        for i in range(self.num_features):
            self.add_features(i, features[i])
        for (cache, domain), array in segments.items():
            self.add_segments(cache, domain, array)
        for i in range(self.num_caches):
            self.page_table[i] = self.integers(page_tables[i], "page_tables", &self.table_sizes[i])
        self.native.domains, self.native.indices, self.native.features = self.domains, self.indices, self.features
        self.native.segments, self.native.page_table = self.segments, self.page_table

    cdef View keep(self, object array, str name, str element, int ndim):
        cdef View view = view_of(array, name, element, ndim)
        if view.buffer.len > INT32_MAX:
            raise InvalidInputError(f"{name}: {view.buffer.len} bytes are too many")
        self.kept.append(view)
        return view

    cdef const int32_t *integers(self, object array, str name, Py_ssize_t *count, Py_ssize_t columns=0) except NULL:
        """A copy of int32 [count], or [count, columns]: what is checked is what runs, whoever writes to the array then."""
        cdef View view = self.keep(array, name, "i", 2 if columns else 1)
        if columns and view.size(1) != columns:
            raise InvalidInputError(f"{name} have {columns} columns")
        cdef bytes copied = (<const char *>view.buffer.buf)[:view.buffer.len]
        self.kept.append(copied)
        count[0] = view.size()
        return <const int32_t *><const void *><const char *>copied

    cdef int add_domain(self, int index, object domain) except -1:
        """A number of rows, and -1 segments until those of a cache say how many; or (starts, widths or None) as in ef_rows."""
        cdef ef_rows *rows = &self.domains[index]
        cdef Py_ssize_t count
        if not isinstance(domain, tuple):
            rows.num_rows, rows.num_segments = checked(domain, <str>DOMAIN_NAMES[index], 0, INT32_MAX), -1
            return 0
        if len(domain) != 2:
            raise InvalidInputError(f"domain {index}: (starts, widths or None) are needed, not {len(domain)} things")
        starts, widths = domain
        rows.starts = self.integers(starts, "starts", &count)
        if count < 1:
            raise InvalidInputError(f"domain {index}: starts hold one more element than there are segments")
        rows.num_segments = count - 1
        rows.num_rows = rows.starts[rows.num_segments]
        if widths is not None:
            rows.widths = self.integers(widths, "widths", &count)
            if count != rows.num_segments:
                raise InvalidInputError(f"domain {index}: {count} widths of {rows.num_segments} segments")
        return self.check_domain(index)

    cdef int check_domain(self, int index) except -1:
        """Segments begin at row 0, none begins before the last one ends, and each is a whole grid."""
        cdef ef_rows *rows = &self.domains[index]
        cdef int32_t i, count, width
        if rows.starts[0] != 0:
            raise InvalidInputError(f"domain {index}: the first segment starts at row {rows.starts[0]}")
        for i in range(rows.num_segments):
            count = rows.starts[i + 1] - rows.starts[i]
            width = rows.widths[i] if rows.widths != NULL else 1
            if rows.starts[i] > rows.starts[i + 1] or width < 1 or count % width:
                raise InvalidInputError(f"domain {index}: segment {i} has rows {rows.starts[i]} to {rows.starts[i + 1]} in rows of {width}")
        return 0

    cdef int add_index(self, int index, object array) except -1:
        if array is not None:
            self.indices[index] = self.integers(array, <str>INDEX_NAMES[index], &self.index_sizes[index])
        return 0

    cdef int add_features(self, int index, object array) except -1:
        cdef View view = self.keep(array, f"float input {index}", "f", 2)
        self.features[index] = <const float *>view.buffer.buf
        self.feature_rows[index], self.feature_columns[index] = view.size(), view.size(1)
        return 0

    cdef int add_segments(self, object cache, object domain, object array) except -1:
        """The rows of ef_segment of a cache in a domain, which get their number of segments from it where nobody told."""
        cdef int c = checked(cache, "cache", 0, self.num_caches - 1), d = checked(domain, "domain", 0, self.native.num_domains - 1)
        cdef ef_rows *rows = &self.domains[d]
        cdef Py_ssize_t count
        cdef const int32_t *fields = self.integers(array, "segments", &count, sizeof(ef_segment) // sizeof(int32_t))
        if rows.num_segments < 0:
            rows.num_segments = count
        if count != rows.num_segments:
            raise InvalidInputError(f"{count} segments of cache {c} in a domain of {rows.num_segments}")
        self.segments[c * self.native.num_domains + d] = <const ef_segment *>fields
        return 0


cdef int check_ids(const int32_t *ids, int64_t count, int32_t low, int64_t limit, str name) except -1:
    """Every id is within [low, limit)."""
    cdef int64_t i
    for i in range(count):
        if not low <= ids[i] < limit:
            raise InvalidInputError(f"{name}[{i}] is {ids[i]}; it must be {low} to {limit - 1}")
    return 0


cdef int check_batch(Plan plan, Batch batch) except -1:
    """The batch fits the plan: nothing that a kernel reads or writes for it lies outside of its memory."""
    cdef int d
    if batch.native.num_domains != len(plan.capacities):
        raise InvalidInputError(f"{batch.native.num_domains} domains of rows for a plan of {len(plan.capacities)}")
    for d in range(batch.native.num_domains):
        if batch.domains[d].num_rows > <object>plan.capacities[d]:
            raise InvalidInputError(f"{batch.domains[d].num_rows} rows are more than the capacity {plan.capacities[d]} of domain {d}")
    if batch.domains[0].num_rows < 1:
        raise InvalidInputError("a run needs at least one row")
    for source, domain, limit, domains, optional in plan.index_uses:
        check_index(batch, source, domain, limit, domains, optional)
    for source, domain, width in plan.feature_uses:
        check_features(batch, source, domain, width)
    for domain, other in plan.same_segments:
        check_same_segments(batch, domain, other)
    for domain, other, parts in plan.row_counts:
        check_row_counts(batch, domain, other, parts)
    if batch.num_caches < len(plan.cache_objects):
        raise InvalidInputError(f"page tables are needed for each of {len(plan.cache_objects)} caches")
    for (cache, domain), looks in plan.cache_uses.items():
        check_segments(plan, batch, cache, domain, looks)
    return 0


cdef int check_index(Batch batch, int source, int domain, int64_t limit, tuple domains, bint optional) except -1:
    """An index input for every row of a domain: below `limit`, or rows of `domains` end to end (-1: none)."""
    cdef int32_t low = 0
    if source >= batch.num_indices or batch.indices[source] == NULL:
        if optional:
            return 0
        raise InvalidInputError(f"the plan reads index input {source}, but there is none")
    if batch.index_sizes[source] != batch.domains[domain].num_rows:
        raise InvalidInputError(f"index input {source}: {batch.index_sizes[source]} elements for {batch.domains[domain].num_rows} rows")
    if domains:
        low, limit = -1, sum([batch.domains[<int>d].num_rows for d in domains])
    return check_ids(batch.indices[source], batch.index_sizes[source], low, limit, <str>INDEX_NAMES[source])


cdef int check_features(Batch batch, int source, int domain, int64_t width) except -1:
    if source >= batch.num_features:
        raise InvalidInputError(f"the plan reads float input {source}, but there is none")
    rows, columns = batch.feature_rows[source], batch.feature_columns[source]
    if rows != batch.domains[domain].num_rows or columns != width:
        raise InvalidInputError(f"float input {source}: {rows} rows of {columns}, not {batch.domains[domain].num_rows} of {width}")
    return 0


cdef int check_same_segments(Batch batch, int domain, int other) except -1:
    """Both domains say where their segments are, and have equally many."""
    cdef const ef_rows *a = &batch.domains[domain]
    cdef const ef_rows *b = &batch.domains[other]
    if a.starts == NULL or b.starts == NULL or a.num_segments != b.num_segments:
        raise InvalidInputError(f"domains {domain} and {other} must say where their segments are, as many of one as of the other")
    return 0


cdef int check_row_counts(Batch batch, int domain, int other, int64_t parts) except -1:
    """A domain has `parts` rows for each row of another, or one for each segment of it where parts is 0."""
    cdef const ef_rows *from_rows = &batch.domains[other]
    cdef int64_t wanted = from_rows.num_rows * parts if parts else from_rows.num_segments
    cdef int32_t i
    if parts == 0 and from_rows.starts == NULL:
        raise InvalidInputError(f"domain {other} must say where its segments are")
    for i in range(from_rows.num_segments if parts == 0 else 0):
        if from_rows.starts[i] == from_rows.starts[i + 1]:
            raise InvalidInputError(f"domain {other}: segment {i} has no rows")
    if batch.domains[domain].num_rows != wanted:
        raise InvalidInputError(f"domain {domain} has {batch.domains[domain].num_rows} rows, not {wanted}")
    return 0


cdef int check_segments(Plan plan, Batch batch, int cache, int domain, int looks) except -1:
    """Segments cover the rows in order, and all the positions they touch lie on pages of the cache."""
    cdef int64_t row = 0, length
    cdef int32_t i, num_pages = (<Cache>plan.cache_objects[cache]).num_pages
    cdef const ef_segment *segments = batch.segments[cache * batch.native.num_domains + domain]
    cdef const ef_segment *segment
    cdef tuple sizes = plan.bias_sizes.get((cache, domain))
    if segments == NULL:
        raise InvalidInputError(f"segments of cache {cache} in domain {domain} are needed")
    for i in range(batch.domains[domain].num_segments):
        segment = &segments[i]
        if segment.first_row != row or segment.num_rows < 1:
            raise InvalidInputError(f"segment {i} of cache {cache} has {segment.num_rows} rows from {segment.first_row}, not from {row}")
        row += segment.num_rows
        if segment.position < 0 or segment.kv_length < 0 or segment.first_page < 0:
            raise InvalidInputError(f"segment {i} of cache {cache} has a negative position, length or page")
        length = 0
        if looks & (STORES | LOOKS_BACK):
            length = <int64_t>segment.position + segment.num_rows
        if looks & LOOKS_AT_ALL:
            length = max(length, segment.kv_length)
            if segment.kv_length == 0:
                raise InvalidInputError(f"segment {i} of cache {cache} sees no positions")
        check_positions(segment, looks, length, sizes, i, cache)
        check_pages(batch, cache, i, segment.first_page, (length + EF_TILE - 1) // EF_TILE, num_pages)
    if row != batch.domains[domain].num_rows:
        raise InvalidInputError(f"segments of cache {cache} cover {row} of {batch.domains[domain].num_rows} rows")
    return 0


cdef int check_positions(const ef_segment *segment, int looks, int64_t length, tuple sizes, int32_t index, int cache) except -1:
    """Attention that sees `length` positions can do with those of the segment's rows; sizes: of a dense bias, or None."""
    cdef int64_t last = <int64_t>segment.position + segment.num_rows
    if max(last, length) > EF_MAX_ROWS:
        what = f"{max(last, length)} positions; there can be {EF_MAX_ROWS}"
    elif looks & LOOKS_AROUND and last > segment.kv_length:
        what = f"rows up to position {last}, past the {segment.kv_length} that their windows may see"
    elif segment.prefix < 0 or segment.prefix > (last if looks & TAKES_PREFIX else 0):
        what = f"a prefix of {segment.prefix}, where {last if looks & TAKES_PREFIX else 0} is the most"
    elif looks & SEES_ROWS and (segment.position or length != segment.num_rows):
        what = f"{segment.num_rows} rows from position {segment.position} that see {length}; they must see one another"
    elif sizes is not None and (last > <object>sizes[0] or length > <object>sizes[1]):
        what = f"{last} positions that see {length}, and a bias is for {sizes[0]} that see {sizes[1]}"
    else:
        return 0
    raise InvalidInputError(f"segment {index} of cache {cache} has {what}")


cdef int check_pages(Batch batch, int cache, int32_t segment, int64_t first, int64_t count, int32_t num_pages) except -1:
    if first + count > batch.table_sizes[cache]:
        raise InvalidInputError(f"segment {segment} needs {count} pages from {first} of a table of {batch.table_sizes[cache]} (cache {cache})")
    cdef const int32_t *pages = batch.page_table[cache] + first
    cdef int64_t i
    for i in range(count):
        if not 0 <= pages[i] < num_pages:
            raise InvalidInputError(f"page {pages[i]} of segment {segment} is not one of the {num_pages} of cache {cache}")
    return 0
