# Threads: the pool, the flag that stops a run.

_pools = weakref.WeakSet()
cdef atomic_int exiting

MAX_THREADS = EF_MAX_THREADS


@cython.final
cdef class Guard:
    """A lock that survives a fork, and that a signal handler cannot wait for in the very thread that holds it."""

    cdef object lock
    cdef object owner  # ident of the thread that holds it
    cdef int process

    def __cinit__(self):
        self.lock, self.process = threading.Lock(), getpid()

    def __enter__(self):
        thread = threading.get_ident()
        if self.process != getpid():  # a forked child: nobody holds it here, whatever the parent was doing
            self.lock, self.owner, self.process = threading.Lock(), None, getpid()
        if self.owner == thread:
            raise EdgeformerError("a signal handler called into a run that it interrupted; let the handler set a flag instead")
        self.lock.acquire()
        self.owner = thread

    def __exit__(self, *exception):
        self.owner = None
        self.lock.release()


cdef class Pool:
    """Threads that run plans and pack weights, the caller being one of them.

    They start at the first use, and again in a forked child; if the system refuses some, there are fewer. Idle threads
    sleep. One job runs at a time; others wait.

    Parameters
    ----------
    threads : int
        At most this many, the caller included.
    """

    cdef ef_pool *native
    cdef Guard guard
    cdef readonly int threads
    cdef object __weakref__

    def __cinit__(self, threads):
        self.threads = checked(threads, "threads", 1, EF_MAX_THREADS)
        self.native = ef_pool_create(self.threads)
        if self.native == NULL:
            raise NotEnoughMemoryError("a pool of threads", self.threads * 64)
        self.guard = Guard()
        _pools.add(self)

    def __dealloc__(self):
        ef_pool_destroy(self.native)

    @property
    def running(self):
        """Threads that there are now, the caller included: 1 before the first use, and fewer than `threads` where the
        system refused some."""
        return max(1, self.native.num_threads)

    def close(self):
        """Ends the threads once the present job is done. The pool can still be used: they start again."""
        with self.guard:
            with nogil:
                ef_pool_stop(self.native)


cdef int run_on(Pool pool, void (*work)(void *, ef_pool *) noexcept nogil, void *context) except -1:
    """work(context, threads of the pool) without the GIL; None works in this thread."""
    cdef ef_pool *native = NULL
    if pool is None:
        with nogil:
            work(context, native)
        return 0
    with pool.guard:
        if not atomic_load(&exiting):
            native = pool.native
            with nogil:
                work(context, native)
            return 0
    return leave_at_exit()


@cython.no_gc_clear  # a flag that is being read keeps its parent
@cython.trashcan(True)  # a chain of any length is freed without a call for each
cdef class CancelFlag:
    """A flag that ends a run, settable from any thread. With a parent it is set as well while the parent is set, and
    leaves the parent alone when it is set itself.

    Parameters
    ----------
    parent : CancelFlag, optional
    """

    cdef ef_cancel native
    cdef CancelFlag parent  # kept alive: native.parent points into it

    def __cinit__(self, CancelFlag parent=None):
        self.parent = parent
        if parent is not None:
            self.native.parent = &parent.native

    def set(self):
        """Ends the run that has this flag, within one op; runs that start later with it end at once."""
        atomic_store(&self.native.value, 1)

    def clear(self):
        """Makes the flag usable again."""
        atomic_store(&self.native.value, 0)

    def is_set(self):
        """Whether `set` was called since the last `clear`, here or on a parent."""
        return ef_cancel_is_set(&self.native) != 0


def _stop_all():
    """At exit: ends runs in daemon threads, and joins the threads of every pool. No job starts after this."""
    atomic_store(&exiting, 1)
    for pool in list(_pools):
        (<Pool>pool).close()


atexit.register(_stop_all)


cdef int leave_at_exit() except -1:
    """For a thread that finds `exiting` set and holds no lock. A daemon thread stays here: an error would only be printed,
    and Python is about to end the thread anyway. The main thread gets an error."""
    if on_main_thread():
        raise EdgeformerError("the interpreter is exiting")
    with nogil:
        while True:
            pause()


cdef bint on_main_thread():
    return threading.get_ident() == threading.main_thread().ident


@cython.final
cdef class FloatMode:
    """This thread has the mode of floats that kernels want for as long as it lives."""

    cdef uint64_t mode

    def __cinit__(self):
        self.mode = ef_set_float_mode()

    def __dealloc__(self):
        ef_restore_float_mode(self.mode)
