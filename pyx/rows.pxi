# From Python's lists of token ids and pages to the arrays of a run: made for every token, so without a dozen calls of NumPy.

def token_ids(ids, limit):
    """Token ids as int32 [n].

    Parameters
    ----------
    ids : sequence of int, or array of integers
    limit : int
        Ids are below it.

    Raises
    ------
    InvalidInputError
        If there are none, or one is no integer or out of range.
    """
    cdef tuple items
    try:
        items = tuple(ids.tolist() if isinstance(ids, numpy.ndarray) else ids)
    except TypeError:
        raise InvalidInputError(f"token ids must be integers in a list, not {type(ids).__name__}") from None
    if len(items) == 0:
        raise InvalidInputError("no token ids: an empty prompt cannot be run; give at least one token")
    result = numpy.empty(len(items), numpy.int32)
    cdef View view = view_of(result, "ids", "i", 1)
    cdef int32_t *output = <int32_t *>view.buffer.buf
    cdef int64_t token, end = limit
    cdef Py_ssize_t i = 0
    for item in items:
        try:
            token = PyNumber_Index(item)
        except (TypeError, OverflowError):
            raise InvalidInputError(f"token ids must be integers of 64 bits, and {str(item)[:40]!r} is not") from None
        if not 0 <= token < end:
            raise InvalidInputError(f"token id {token} is outside the vocabulary 0..{end - 1}")
        output[i] = token
        i += 1
    return result


def row_positions(list starts, list lengths):
    """int32 [sum of lengths]: for each pair, start, start + 1, ... of that length."""
    for value in lengths:
        checked(value, "a length", 0, INT32_MAX)
    result = numpy.empty(sum(lengths), numpy.int32)
    cdef View view = view_of(result, "positions", "i", 1)
    cdef int32_t *output = <int32_t *>view.buffer.buf
    cdef Py_ssize_t row = 0, end = 0
    cdef int64_t first, length
    for first, length in zip(starts, lengths, strict=True):
        end += length
        while row < end:
            output[row] = first
            first, row = first + 1, row + 1
    return result


def segment_rows(list tables, list lengths, list positions, list kv_lengths, list prefixes=None):
    """One cache's part of a run of several sequences, in order.

    Parameters
    ----------
    tables : list of list of int
        The pages of each sequence.
    lengths, positions, kv_lengths : list of int
        Its rows in this run, the cache position of the first, the positions that a row may see.
    prefixes : list of int, optional
        How many of its first positions see one another both ways, where a model's attention takes a prefix.

    Returns
    -------
    segments : int32 [sequences, 6]
        The fields of ef_segment.
    page_table : int32 [sum of pages]
    """
    cdef Py_ssize_t i, n = len(tables), total = 0
    if not n == len(lengths) == len(positions) == len(kv_lengths) or prefixes is not None and len(prefixes) != n:
        raise InvalidInputError("each sequence needs its pages, length, position and number of positions to see")
    for pages in tables:
        total += len(pages)
    segments, page_table = numpy.empty((n, sizeof(ef_segment) // sizeof(int32_t)), numpy.int32), numpy.empty(total, numpy.int32)
    cdef View segment_view = view_of(segments, "segments", "i", 2), table_view = view_of(page_table, "page_table", "i", 1)
    cdef ef_segment *segment = <ef_segment *>segment_view.buffer.buf
    cdef int32_t *output = <int32_t *>table_view.buffer.buf
    cdef int64_t row = 0
    cdef int32_t page = 0
    cdef list own
    for i in range(n):
        own = tables[i]
        segment[i].first_row, segment[i].num_rows, segment[i].position = row, lengths[i], positions[i]
        segment[i].kv_length, segment[i].first_page = kv_lengths[i], page
        segment[i].prefix = 0 if prefixes is None else prefixes[i]
        row += segment[i].num_rows
        for number in own:
            if page >= total:
                raise InvalidInputError("the pages changed while they were read")
            output[page] = number
            page += 1
    return segments, page_table
