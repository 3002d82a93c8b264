# Machine code that Python has, made ready to run.

cdef class MachineCode:
    """Machine code in memory that is never written and executable at once. It lives as long as this object.

    Parameters
    ----------
    image : bytes-like
        Code that runs wherever it lies, beginning on a page. Trusted.

    Raises
    ------
    NotEnoughMemoryError
    OSError
        The system does not let this process run code of its own.
    """

    cdef void *base
    cdef size_t nbytes

    def __cinit__(self, image):
        cdef View view = view_of(image, "image", "B", 0)
        if view.buffer.len == 0:
            raise InvalidInputError("image: there is no code")
        self.nbytes = view.buffer.len
        self.base = ef_memory_map_code(view.buffer.buf, self.nbytes)
        if self.base == NULL and errno == ENOMEM:
            raise NotEnoughMemoryError("machine code", self.nbytes)
        if self.base == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        ef_memory_unmap(self.base, self.nbytes)

    @property
    def address(self):
        """Where it begins."""
        return <size_t>self.base
