# What the machine can do at best: operations from registers, and reading memory. The caller holds the clock.

cdef uint64_t READ_STEP = 0x9E3779B97F4A7C15  # word i of a ReadBuffer is i times this, modulo 2**64

COUNT_KINDS = ("int8", "int4", "float32")


def count_products(isa, kind, rounds, chunks=1, Pool pool=None):
    """Multiply-adds from registers alone, as fast as an instruction set can do them.

    Parameters
    ----------
    isa : str, optional
    kind : {"int8", "int4", "float32"}
        Eight-bit integers; those whose products are small enough to be summed in sixteen bits; floats.
    rounds : int
        Of a chunk, at most 2**22; a dozen instructions or so each.
    chunks : int
        Chunks that the threads share.
    pool : Pool, optional

    Returns
    -------
    int
        How many multiply-adds were done, counted by themselves: each adds one to a sum.
    """
    cdef const ef_kernels *kernels = kernels_of(isa)
    cdef int64_t count_rounds = checked(rounds, "rounds", 0, 1 << 22)
    cdef int32_t count_chunks = checked(chunks, "chunks", 1, 1 << 20)
    if kind not in COUNT_KINDS:
        raise InvalidInputError(f"no kind of product is called {kind!r}; there are: {', '.join(COUNT_KINDS)}")
    cdef ef_count count = kernels.count_int8
    if kind != "int8":
        count = kernels.count_int4 if kind == "int4" else kernels.count_float
    cdef ef_measure job = ef_measure_counts(count, count_rounds, count_chunks)
    run_on(pool, ef_measure_run, &job)
    return job.result


cdef class ReadBuffer:
    """Memory that can be read as fast as the machine can, on pages like those of weights.

    Parameters
    ----------
    nbytes : int
        A multiple of 256.

    Raises
    ------
    InvalidInputError
    NotEnoughMemoryError
    """

    cdef uint8_t *data
    cdef size_t size

    def __cinit__(self, nbytes):
        self.size = checked(nbytes, "nbytes", 256, 1 << 40)
        if self.size % 256:
            raise InvalidInputError(f"nbytes is {nbytes}; it must be a multiple of 256")
        self.data = <uint8_t *>allocate(self.size, True, "memory to read")
        cdef uint64_t *words = <uint64_t *>self.data
        cdef size_t i
        with nogil:
            for i in range(self.size // sizeof(uint64_t)):
                words[i] = i * READ_STEP

    def __dealloc__(self):
        ef_memory_unmap(self.data, self.size)

    @property
    def nbytes(self):
        """Bytes in memory."""
        return self.size

    def checksum(self, isa=None, Pool pool=None):
        """Reads everything once, on the pool's threads or this one: the exclusive or of its 64-bit words."""
        cdef ef_measure job = ef_measure_reading(kernels_of(isa), self.data, self.size)
        run_on(pool, ef_measure_run, &job)
        return job.result
