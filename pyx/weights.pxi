# Packed matrices and caches: memory that plans refer to.

cdef class Matrix:
    """A matrix of weights in the layout that the kernels read (blocks.h): all zeros at first, or in a mapped file.

    Parameters
    ----------
    type : int
        One of `WEIGHT_TYPES`.
    num_rows, num_columns : int
        Outputs and inputs; columns are whole blocks of the type.
    place : WeightMemory or MappedFile, optional
        Where the panels are; in a file they are read and cannot be written. Default: memory of their own.
    offset : int
        Of the panels in that place, a multiple of 64.

    Raises
    ------
    InvalidInputError
    NotEnoughMemoryError
    """

    cdef ef_matrix native
    cdef size_t size
    cdef object place
    cdef MappedFile file  # that place, if it is one

    def __cinit__(self, type, num_rows, num_columns, place=None, offset=0):
        self.native.type = checked(type, "type", 0, INT32_MAX)
        if self.native.type not in WEIGHT_TYPES:
            raise InvalidInputError(f"weight type {type} is unknown; there are {WEIGHT_TYPES}")
        self.native.num_rows = checked(num_rows, "num_rows", 1, INT32_MAX - EF_TILE)
        self.native.num_columns = checked(num_columns, "num_columns", 1, INT32_MAX - EF_TILE)
        cdef int block = ef_traits(self.native.type).block_columns
        if self.native.num_columns % block:
            raise InvalidInputError(f"num_columns is {num_columns}; {WEIGHT_TYPES[self.native.type]} needs a multiple of {block}")
        if self.native.type == EF_I8_ROW and self.native.num_columns > EF_ROW_COLUMNS:
            raise InvalidInputError(f"num_columns is {num_columns}; i8_row has sums of at most {EF_ROW_COLUMNS} columns")
        self.native.panel_bytes = ef_panel_bytes(self.native.type, self.native.num_columns)
        self.size = self.native.panel_bytes * ((self.native.num_rows + EF_TILE - 1) // EF_TILE)  # < 2**62
        if place is None:
            place = WeightMemory(self.size)
        cdef size_t begin = checked(offset, "offset", 0, 2**62), end
        if isinstance(place, MappedFile):
            self.file = place
            self.native.data, end = self.file.base + begin, self.file.nbytes
        else:
            self.native.data, end = (<WeightMemory?>place).base + begin, (<WeightMemory>place).nbytes
        if begin % EF_ALIGNMENT or begin + self.size > end:
            raise InvalidInputError(f"{self.size} bytes at byte {begin} are not aligned to {EF_ALIGNMENT}, or past the end")
        self.place = place

    @property
    def nbytes(self):
        """Bytes in memory."""
        return self.size

    @property
    def type(self):
        """The type id."""
        return self.native.type

    @property
    def num_rows(self):
        """Outputs."""
        return self.native.num_rows

    @property
    def num_columns(self):
        """Inputs."""
        return self.native.num_columns

    def pack(self, source, first_row, num_rows, Pool pool=None):
        """Packs rows as GGUF stores them. The GIL is released; no plan may be using the matrix.

        Parameters
        ----------
        source : bytes-like
            `num_rows` rows, end to end.
        first_row : int
            Where they go, a multiple of sixteen. If the last tile is not filled, the rest of it becomes zeros.
        num_rows : int
        pool : Pool, optional
            Threads to pack with.

        Returns
        -------
        bool
            Whether all that the rows hold is finite: no value, scale or minimum is NaN or infinite.
        """
        cdef ef_pack job = self.job(first_row, num_rows)
        cdef View view = view_of(source, "source", "B", 0)
        cdef int64_t wanted = (job.row_end - job.row_begin) * ef_row_bytes(self.native.type, self.native.num_columns)
        if view.buffer.len != wanted:
            raise InvalidInputError(f"source: {wanted} bytes are needed for {num_rows} rows, not {view.buffer.len}")
        job.source = <const uint8_t *>view.buffer.buf
        if <size_t>job.source % 2:  # halves of blocks are read where they lie
            raise InvalidInputError("source: the rows must begin at an even address; copy them")
        run_on(pool, ef_pack_run, &job)
        return not job.not_finite

    def read(self, descriptor, offset, first_row, num_rows, packed=False, Pool pool=None):
        """As `pack`, but every thread reads what it packs from a file.

        Parameters
        ----------
        descriptor, offset : int
            An open file, and where the rows begin in it.
        first_row, num_rows : int
        packed : bool
            The file holds panels, which are read as they are.
        pool : Pool, optional

        Returns
        -------
        bool
            Whether all that the rows hold is finite, as `pack` says it.

        Raises
        ------
        OSError
            Reading failed, or the file ends too early (ENODATA).
        """
        cdef ef_pack job = self.job(first_row, num_rows)
        cdef int file = descriptor
        job.fetch, job.fetch_context, job.offset = read_descriptor, &file, offset
        cdef size_t nbytes = 0 if packed else (1 if pool is None else pool.threads) * ef_pack_buffer_bytes(&self.native)
        if nbytes:
            job.buffers = <uint8_t *>allocate(nbytes, False, "reading weights")
        try:
            run_on(pool, ef_pack_run, &job)
        finally:
            ef_memory_unmap(job.buffers, nbytes)
        if job.error:
            raise OSError(job.error, os.strerror(job.error))
        return not job.not_finite

    def is_finite(self, Pool pool=None):
        """Whether no value, scale or minimum is NaN or infinite. Reads no more of the matrix than that takes."""
        cdef ef_pack job = self.whole()
        job.kernels = kernels_of(None)
        cdef Reading reading = Reading(self.file)
        run_on(pool, ef_pack_run, &job)
        reading.end()
        return not job.not_finite

    cdef ef_pack whole(self) noexcept:
        """All rows, packed already."""
        cdef ef_pack job
        memset(&job, 0, sizeof(job))
        job.matrix, job.row_end = &self.native, self.native.num_rows
        return job

    cdef ef_pack job(self, first_row, num_rows) except *:
        """Rows to pack, checked."""
        cdef ef_pack job = self.whole()
        if self.file is not None:
            raise InvalidInputError("a matrix in a mapped file cannot be written to")
        job.kernels = kernels_of(None)
        job.row_begin = checked(first_row, "first_row", 0, self.native.num_rows)
        job.row_end = job.row_begin + checked(num_rows, "num_rows", 0, self.native.num_rows - job.row_begin)
        if job.row_begin % EF_TILE:
            raise InvalidInputError(f"first_row is {first_row}; it must be a multiple of {EF_TILE}")
        return job

    def panels(self):
        """A copy of the packed bytes, panel after panel: uint8 [nbytes]."""
        result = numpy.empty(self.size, numpy.uint8)
        cdef View view = view_of(result, "result", "B", 1)
        cdef Reading reading = Reading(self.file)
        memcpy(view.buffer.buf, self.native.data, self.size)
        reading.end()
        return result

    def row(self, i, isa=None):
        """Row `i` as float32 [num_columns], exactly what EMBED gives with a scale of 1."""
        cdef int32_t index = checked(i, "row", 0, self.native.num_rows - 1)
        cdef Rows output = Rows(1, self.native.num_columns)
        cdef const ef_kernels *kernels = kernels_of(isa)
        cdef Reading reading = Reading(self.file)
        cdef uint64_t mode = ef_set_float_mode()
        kernels.embed(output.data, &self.native, index, 1.0, NULL)
        ef_restore_float_mode(mode)
        reading.end()
        return output.array()[0]


cdef ef_cache cache_of(num_layers, num_heads, key_dim, value_dim, type) except *:
    """A cache without pages."""
    cdef ef_cache native
    native.pages, native.type = NULL, checked(type, "type", 0, INT32_MAX)
    if native.type not in (EF_F32, EF_F16, EF_Q8_0):
        raise InvalidInputError(f"cache type {type} is unknown; there are EF_F32, EF_F16 and EF_Q8_0")
    native.num_layers = checked(num_layers, "num_layers", 1, 2**16)
    native.num_heads = checked(num_heads, "num_heads", 1, 2**16)
    native.key_dim = checked(key_dim, "key_dim", 1, 2**16)
    native.value_dim = checked(value_dim, "value_dim", 1, 2**16)
    cdef int64_t columns = <int64_t>native.num_layers * native.num_heads * (native.key_dim + native.value_dim + 32)
    if columns * 64 > 1 << 48:
        raise NotEnoughMemoryError("one page of a cache", columns * 64)
    native.page_bytes = (native.num_layers * ef_cache_layer_bytes(&native) + 63) // 64 * 64
    return native


def cache_page_bytes(num_layers, num_heads, key_dim, value_dim, type):
    """Bytes of one page of such a `Cache`."""
    return cache_of(num_layers, num_heads, key_dim, value_dim, type).page_bytes


def run_scratch_bytes(threads, num_heads, key_dim, value_dim, type, parts):
    """The most scratch that a plan takes besides its arena.

    Parameters
    ----------
    threads : int
    num_heads, key_dim, value_dim, type : int
        Of its largest cache, as for `Cache`.
    parts : bool
        Whether threads share spans of the cache out among them, as where rows see what is before them.
    """
    cdef ef_cache cache = cache_of(1, num_heads, key_dim, value_dim, type)
    return checked(threads, "threads", 1, EF_MAX_THREADS) * ef_plan_most_scratch(&cache) + (sizeof(ef_parts) if parts else 0)


def trim_heap():
    """Gives free memory of the C library's heap back to the system."""
    with nogil:
        ef_memory_trim_heap()


cdef class Cache:
    """Pages of keys and values, sixteen positions each (kernels.h). Memory is committed as it is written.

    Parameters
    ----------
    num_pages, num_layers, num_heads, key_dim, value_dim : int
    type : int
        EF_F32, EF_F16 or EF_Q8_0.
    """

    cdef ef_cache native
    cdef size_t size
    cdef readonly int num_pages

    def __cinit__(self, num_pages, num_layers, num_heads, key_dim, value_dim, type):
        self.num_pages = checked(num_pages, "num_pages", 1, INT32_MAX)
        self.native = cache_of(num_layers, num_heads, key_dim, value_dim, type)
        if <object>self.native.page_bytes * self.num_pages > 2**62:
            raise NotEnoughMemoryError(f"a cache of {num_pages} pages", <object>self.native.page_bytes * self.num_pages)
        self.size = self.native.page_bytes * self.num_pages
        self.native.pages = <uint8_t *>allocate(self.size, False, f"a cache of {num_pages} pages")

    def __dealloc__(self):
        ef_memory_unmap(self.native.pages, self.size)

    @property
    def nbytes(self):
        """Bytes of address space; memory is used as pages are written."""
        return self.size

    @property
    def page_bytes(self):
        """Bytes of one page."""
        return self.native.page_bytes

    def copy_page(self, source, target):
        """Copies one page over another. No run may be using either."""
        cdef int64_t begin = checked(source, "source page", 0, self.num_pages - 1)
        cdef int64_t end = checked(target, "target page", 0, self.num_pages - 1)
        if begin != end:
            memcpy(self.native.pages + end * self.native.page_bytes, self.native.pages + begin * self.native.page_bytes,
                   self.native.page_bytes)
