# Files read by the pool's threads, and files mapped.

cdef int read_descriptor(void *context, uint8_t *target, int64_t offset, int64_t nbytes) noexcept nogil:
    """An ef_fetch; the context is the descriptor. Returns an errno, ENODATA where the file ends too early."""
    cdef int descriptor = (<int *>context)[0]
    cdef Py_ssize_t done
    while nbytes > 0:
        done = pread(descriptor, target, nbytes, offset)
        if done == 0:
            return ENODATA
        if done < 0 and errno != EINTR:
            return errno
        if done > 0:
            target, offset, nbytes = target + done, offset + done, nbytes - done
    return 0


cdef class WeightMemory:
    """Memory that several matrices share, in large pages where the system grants them: committed as it is written.

    Parameters
    ----------
    nbytes : int

    Raises
    ------
    NotEnoughMemoryError
    """

    cdef uint8_t *base
    cdef readonly size_t nbytes

    def __cinit__(self, nbytes):
        cdef size_t wanted = checked(nbytes, "nbytes", 1, 2**62)
        self.base, self.nbytes = <uint8_t *>allocate(wanted, True, "weights"), wanted

    def __dealloc__(self):
        if self.base != NULL:
            ef_memory_unmap(self.base, self.nbytes)


cdef class MappedFile:
    """A whole file mapped for reading: its pages are those of the system's cache, shared by all processes that map it.

    A file that is replaced at its path or deleted stays what it was here. One that is cut short or written to raises
    ModelFileChangedError in whoever reads it next.

    Parameters
    ----------
    descriptor : int
        Of an open regular file; may be closed afterwards.
    path : str
        For messages.

    Raises
    ------
    OSError
        It cannot be mapped.
    """

    cdef ef_mapping *watched
    cdef uint8_t *base
    cdef readonly size_t nbytes
    cdef str path
    cdef int descriptor
    cdef object opened

    def __cinit__(self, descriptor, path):
        self.descriptor = -1  # before anything can fail: 0 is a descriptor, and not ours to close
        self.path = path
        self.descriptor = os.dup(descriptor)
        self.opened = os.fstat(self.descriptor)
        self.nbytes = self.opened.st_size
        self.watched = ef_guard_free_node()
        if self.watched == NULL:
            self.watched = <ef_mapping *>calloc(1, sizeof(ef_mapping))
            if self.watched == NULL:
                raise NotEnoughMemoryError("watching a mapped file", sizeof(ef_mapping))
            ef_guard_append(self.watched)
        self.base = NULL if self.nbytes == 0 else <uint8_t *>ef_memory_map_file(self.descriptor, self.nbytes)
        if self.base == NULL:
            raise OSError(errno, os.strerror(errno), path)
        ef_guard_watch(self.watched, self.base, self.nbytes)

    def __dealloc__(self):
        if self.base != NULL:
            ef_guard_forget(self.watched)
            ef_memory_unmap(self.base, self.nbytes)
        if self.descriptor >= 0:
            close(self.descriptor)

    cdef int check(self) except -1:
        """Raises ModelFileChangedError if what was read since the last check may not be what the file held when it was
        mapped."""
        if atomic_load(&self.watched.failed):
            raise ModelFileChangedError(self.path, "it was cut short, or its disk or share failed")
        opened = self.opened
        try:
            now = os.fstat(self.descriptor)
        except OSError as error:
            if error.errno == EBADF:
                return 0  # daemons close every descriptor: there is nothing to compare with any more
            raise ModelFileChangedError(self.path, f"it cannot be looked at any more ({error.strerror})") from None
        same_file = (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)
        if same_file and (now.st_size, now.st_mtime_ns) != (opened.st_size, opened.st_mtime_ns):
            raise ModelFileChangedError(self.path, "it was written to")
        return 0


@cython.final
@cython.freelist(8)
cdef class Reading:
    """While it lives, or until `end`, faults of a mapped file do no harm (guard.h); None needs nothing."""

    cdef MappedFile file
    cdef sigset_t mask
    cdef bint entered

    def __cinit__(self, MappedFile file):
        self.file = file
        if file is not None:
            if atomic_load(&file.watched.failed):
                file.check()
            ef_guard_enter(&self.mask)
            self.entered = True

    def __dealloc__(self):
        self.leave()

    cdef void leave(self) noexcept:
        if self.entered:
            self.entered = False
            ef_guard_leave(&self.mask)

    cdef int end(self) except -1:
        """Raises ModelFileChangedError where what was read cannot be trusted."""
        self.leave()
        return 0 if self.file is None else self.file.check()
