# Python's buffers, checked, as C pointers; and rows of floats as the kernels want them.

@cython.final
@cython.freelist(16)
cdef class View:
    """Holds a C-contiguous buffer of one element type for as long as it lives."""

    cdef Py_buffer buffer
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef Py_ssize_t size(self, int axis=0) noexcept:
        return self.buffer.shape[axis]


cdef View view_of(object source, str name, str element, int ndim):
    """A view of `source` with elements "f" (float32), "i" (int32), "q" (int64) or "B" (bytes); any ndim where it is 0."""
    cdef View view = View.__new__(View)
    cdef Py_ssize_t itemsize = 1 if element == "B" else 8 if element == "q" else 4
    try:
        PyObject_GetBuffer(source, &view.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidInputError(f"{name}: a C-contiguous array is needed, not {type(source).__name__}: {error}") from None
    view.held = True
    cdef bytes form = b"B" if view.buffer.format == NULL else (<bytes>view.buffer.format).lstrip(b"@=<")
    if view.buffer.itemsize != itemsize or element != "B" and form not in ((b"f",) if element == "f" else (b"i", b"l", b"q")):
        wanted = {"f": "float32", "i": "int32", "q": "int64", "B": "bytes"}[element]
        raise InvalidInputError(f"{name}: elements must be {wanted}, not {form.decode()!r} of {view.buffer.itemsize} bytes")
    if element != "B" and <size_t>view.buffer.buf % <size_t>itemsize:
        raise InvalidInputError(f"{name}: the elements must lie at multiples of {itemsize} bytes; copy the array")
    if ndim and view.buffer.ndim != ndim:
        raise InvalidInputError(f"{name}: {ndim} dimensions are needed, not {view.buffer.ndim}")
    return view


@cython.final
cdef class Rows:
    """Zeroed rows of floats: each starts on a 64-byte boundary and is padded to a multiple of sixteen."""

    cdef float *data
    cdef size_t nbytes
    cdef Py_ssize_t num_rows, num_columns, stride  # stride in floats

    def __cinit__(self, Py_ssize_t num_rows, Py_ssize_t num_columns):
        self.num_rows, self.num_columns, self.stride = num_rows, num_columns, ef_pad16(num_columns)
        self.nbytes = <size_t>(num_rows * self.stride) * sizeof(float) + 64
        self.data = <float *>allocate(self.nbytes, False, "rows of floats")

    def __dealloc__(self):
        ef_memory_unmap(self.data, self.nbytes)

    cdef float *row(self, Py_ssize_t index) noexcept:
        return self.data + index * self.stride

    cdef object array(self):
        """A float32 copy [num_rows, num_columns]."""
        result = numpy.empty((self.num_rows, self.num_columns), numpy.float32)
        cdef View view = view_of(result, "result", "f", 2)
        cdef Py_ssize_t i
        for i in range(self.num_rows):
            memcpy(<float *>view.buffer.buf + i * self.num_columns, self.row(i), self.num_columns * sizeof(float))
        return result


cdef Rows rows_of(object source, str name, Py_ssize_t num_columns=-1):
    """A copy of a float32 array [rows, columns]; the padding holds NaN, which must not matter."""
    cdef View view = view_of(source, name, "f", 2)
    if num_columns >= 0 and view.size(1) != num_columns:
        raise InvalidInputError(f"{name}: {num_columns} columns are needed, not {view.size(1)}")
    if view.size(1) == 0:
        raise InvalidInputError(f"{name}: there are no columns")
    cdef Rows rows = Rows(view.size(0), view.size(1))
    memset(rows.data, 0xFF, rows.nbytes)
    cdef Py_ssize_t i
    for i in range(rows.num_rows):
        memcpy(rows.row(i), <float *>view.buffer.buf + i * rows.num_columns, rows.num_columns * sizeof(float))
    return rows


cdef Rows vector_of(object source, str name, Py_ssize_t size=-1):
    """A copy of a float32 array [size], padded with zeros."""
    cdef View view = view_of(source, name, "f", 1)
    if view.size() == 0 or size >= 0 and view.size() != size:
        raise InvalidInputError(f"{name}: {size if size >= 0 else 'some'} elements are needed, not {view.size()}")
    cdef Rows rows = Rows(1, view.size())
    memcpy(rows.data, view.buffer.buf, view.size() * sizeof(float))
    return rows


cdef void *allocate(size_t nbytes, bint large_pages, str what) except NULL:
    """Zeroed pages from the system, or NotEnoughMemoryError."""
    cdef void *memory = ef_memory_map(nbytes, large_pages)
    if memory == NULL:
        raise NotEnoughMemoryError(what, nbytes)
    return memory


cdef int64_t checked(object value, str name, object low, object high) except? -1:
    """An integer within [low, high]; what is compared is what is returned, whatever class the value is of."""
    try:
        number = PyNumber_Index(value)
    except TypeError:
        raise InvalidInputError(f"{name} must be an integer, not {type(value).__name__}") from None
    if not low <= number <= high:
        raise InvalidInputError(f"{name} is {number}; it must be {low} to {high}")
    return number
