# What sampling asks of a row of logits. Arrays are read where they are: a vocabulary is too long to be copied each time.

cdef View numbers_of(object source, str name):
    """A view of float32 [n], n >= 1."""
    cdef View view = view_of(source, name, "f", 1)
    if view.size() == 0:
        raise InvalidInputError(f"{name}: there are no values")
    if view.size() > INT32_MAX:
        raise InvalidInputError(f"{name}: {view.size()} values are too many")
    return view


def is_finite(values, isa=None):
    """Whether a C-contiguous float32 array of any shape holds neither infinity nor NaN."""
    cdef View view = view_of(values, "values", "f", 0)
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef bint result
    with nogil:
        result = kernels.is_finite(<const float *>view.buffer.buf, view.buffer.len // <Py_ssize_t>sizeof(float))
    return result


def top(values, count, isa=None):
    """Indices, int32 [min(count, n)], of the greatest of float32 [n], greatest first; of equals, the lowest index first.

    NaN has no place in that order; with one in `values`, the result is some indices.
    """
    cdef View view = numbers_of(values, "values")
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef int32_t n = view.size(), wanted = min(checked(count, "count", 1, INT32_MAX), n)
    indices, heap = numpy.empty(wanted, numpy.int32), numpy.empty(8 * wanted, numpy.uint8)
    cdef View output = view_of(indices, "indices", "i", 1), scratch = view_of(heap, "heap", "B", 1)
    with nogil:
        kernels.top(<int32_t *>output.buffer.buf, wanted, <const float *>view.buffer.buf, n, <uint64_t *>scratch.buffer.buf)
    return indices


def top_log_probs(rows, count, isa=None, Pool pool=None):
    """The `count` likeliest entries of every row of logits, float32 [rows, n], on the pool's threads or this one.

    Returns
    -------
    indices : int32 [rows, min(count, n)]
        As `top` gives them.
    log_probs : float32, of the same shape
        What log_softmax gives there: NaN, all over the row, where a row holds NaN or its greatest is infinite.
    """
    cdef View view = view_of(rows, "rows", "f", 2)
    cdef ef_top_rows job
    job.kernels = kernels_of(isa)
    job.length = checked(view.size(1), "the length of a row", 1, INT32_MAX)
    job.wanted = min(checked(count, "count", 1, INT32_MAX), job.length)
    job.num_rows = checked(view.size(), "the number of rows", 0, INT32_MAX)
    indices = numpy.empty((job.num_rows, job.wanted), numpy.int32)
    log_probs = numpy.empty((job.num_rows, job.wanted), numpy.float32)
    heaps = numpy.empty(max(8 * job.num_rows * job.wanted, 8), numpy.uint8)
    cdef View index_view = view_of(indices, "indices", "i", 2), output_view = view_of(log_probs, "log_probs", "f", 2)
    cdef View scratch = view_of(heaps, "heaps", "B", 1)
    job.rows = <const float *>view.buffer.buf
    job.indices = <int32_t *>index_view.buffer.buf
    job.log_probs = <float *>output_view.buffer.buf
    job.heaps = <uint64_t *>scratch.buffer.buf
    run_on(pool, ef_top_rows_run, &job)
    return indices, log_probs


def log_sum_exp(values, isa=None):
    """(largest, log of the sum of exp(x - largest)) of float32 [n]: log_softmax is (x - largest) - that, in float32."""
    cdef View view = numbers_of(values, "values")
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Py_ssize_t n = view.size()
    cdef float largest, log_sum
    with nogil:
        log_sum = kernels.log_sum_exp(&largest, <const float *>view.buffer.buf, n)
    return numpy.float32(largest), numpy.float32(log_sum)


def weigh(values, largest, temperature, least=0.0, isa=None):
    """What tokens weigh in a draw.

    Parameters
    ----------
    values : float32 [n]
    largest : float
        The greatest of them, finite.
    temperature : float
        Above 0, and a normal number in float32.
    least : float
        Smaller weights are 0.

    Returns
    -------
    weights : float32 [n]
        exp((value - largest) / temperature).
    sums : float64 [ceil(n / WEIGHT_CHUNK)]
        Of every WEIGHT_CHUNK weights.
    """
    cdef View view = numbers_of(values, "values")
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Py_ssize_t n = view.size()
    weights, sums = numpy.empty(n, numpy.float32), numpy.empty((n + EF_WEIGHT_CHUNK - 1) // EF_WEIGHT_CHUNK, numpy.float64)
    cdef View weight = view_of(weights, "weights", "f", 1), total = view_of(sums.view(numpy.uint8), "sums", "B", 1)
    cdef float shift = largest, divisor = temperature, smallest = least
    if not divisor > 0:  # denormals are flushed here
        raise InvalidInputError(f"temperature is {temperature}; it must be a normal float32 above 0")
    with nogil:
        kernels.weigh(<float *>weight.buffer.buf, <double *>total.buffer.buf, <const float *>view.buffer.buf, n, shift, divisor, smallest)
    return weights, sums


def weigh_likely(values, largest, temperature, least=0.0, enough=numpy.inf, capacity=1, isa=None):
    """As `weigh`, without keeping all weights: only a chunk of them is ever there, in the nearest cache.

    Parameters
    ----------
    values, largest, temperature, least
        See `weigh`.
    enough : float
        Weights from here on are kept.
    capacity : int
        How many at most.

    Returns
    -------
    sums : float64 [ceil(n / WEIGHT_CHUNK)]
        Of every WEIGHT_CHUNK weights.
    places : int32 [kept], or None
        Where the weights kept are, in ascending order; None where they are more than `capacity`.
    weights : float32 [kept]
    """
    cdef View view = numbers_of(values, "values")
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef FloatMode mode = FloatMode()
    cdef Py_ssize_t n = view.size(), begin = 0, count, kept = 0, most = checked(capacity, "capacity", 1, INT32_MAX)
    cdef float shift = largest, divisor = temperature, smallest = least, bound = enough
    cdef float chunk[EF_WEIGHT_CHUNK]
    cdef const float *input = <const float *>view.buffer.buf
    if not divisor > 0:
        raise InvalidInputError(f"temperature is {temperature}; it must be a normal float32 above 0")
    sums = numpy.empty((n + EF_WEIGHT_CHUNK - 1) // EF_WEIGHT_CHUNK, numpy.float64)
    places, weights = numpy.empty(most + EF_WEIGHT_CHUNK, numpy.int32), numpy.empty(most + EF_WEIGHT_CHUNK, numpy.float32)
    cdef View total = view_of(sums.view(numpy.uint8), "sums", "B", 1)
    cdef View place = view_of(places, "places", "i", 1), weight = view_of(weights, "weights", "f", 1)
    cdef double *sum_of_chunk = <double *>total.buffer.buf
    with nogil:
        while begin < n:
            count = min(n - begin, <Py_ssize_t>EF_WEIGHT_CHUNK)
            kernels.weigh(chunk, sum_of_chunk, input + begin, count, shift, divisor, smallest)
            if sum_of_chunk[0] >= bound and kept <= most:  # no weight is greater than a sum of it and others
                kept += keep_from(<int32_t *>place.buffer.buf + kept, <float *>weight.buffer.buf + kept, chunk, begin, count, bound)
            begin, sum_of_chunk = begin + count, sum_of_chunk + 1
    if kept > most:
        return sums, None, None
    return sums, places[:kept], weights[:kept]


cdef Py_ssize_t keep_from(int32_t *places, float *kept, const float *weights, Py_ssize_t first, Py_ssize_t n, float bound) noexcept nogil:
    """Copies those of n weights that are at least `bound`, and their places, counted from `first`; returns how many."""
    cdef Py_ssize_t i, count = 0
    for i in range(n):
        if weights[i] >= bound:
            places[count], kept[count] = first + i, weights[i]
            count += 1
    return count


def reach(values, double target, double start=0.0):
    """Where a running sum gets to a target.

    Returns
    -------
    index : int
        The first for which start + values[0] + ... + values[index], added in this order in float64, is at least
        `target`; len(values) if there is none.
    total : float
        The sum through that index; of all, if there is none.
    """
    cdef View view = view_of(values, "values", "f", 1)
    cdef const float *numbers = <const float *>view.buffer.buf
    cdef Py_ssize_t i = 0, n = view.size()
    cdef double total = start
    with nogil:
        while i < n:
            total += numbers[i]
            if total >= target:
                break
            i += 1
    return i, total
