# Locks that forks respect.
#
# A fork copies memory but only the calling thread. If another thread were inside a session at that moment, the child would
# inherit a lock that nobody opens and books that are half written. So a fork first takes all locks, which waits for what is
# being done under them, and both processes let go of them afterwards. This is not written in Python: handlers of signals run
# between its instructions, and one that raises there would leave a lock taken, or let a fork go on without it.

cdef list _locks = []  # weak references, the oldest lock first
cdef dict _forks = {}  # by thread: its forks in progress, of which a handler may start one in the middle of another


@cython.final
cdef class Waiter:
    """A thread in the queue of a lock, asleep at a gate of its own."""

    cdef PyThread_type_lock gate
    cdef unsigned long thread

    def __cinit__(self):
        self.thread, self.gate = PyThread_get_thread_ident(), PyThread_allocate_lock()
        if self.gate == NULL:
            raise NotEnoughMemoryError("a lock", 64)
        PyThread_acquire_lock(self.gate, True)

    def __dealloc__(self):
        if self.gate != NULL:
            PyThread_free_lock(self.gate)

    cdef bint sleep(self):
        """Until the gate opens: True; or a signal comes: False."""
        cdef PyLockStatus status
        with nogil:
            status = PyThread_acquire_lock_timed(self.gate, -1, True)
        return status == PY_LOCK_ACQUIRED


@cython.final
cdef class ForkSafeLock:
    """A fair, re-entrant lock for ``with`` that every fork takes.

    Threads get it in the order in which they asked. What a signal's handler raises ends the wait. It is re-entrant, so that
    a handler that forks does not wait for the thread that it interrupts.

    A thread that holds a lock may wait for an older one, never for a newer one, and forks take the newest first. Where a
    handler forks in the middle of work under an older lock, it takes what is free: the others are lost in the child.

    Raises
    ------
    EdgeformerError
        By ``with``: the lock was lost in a fork, and what it guards is half written.
    """

    cdef object __weakref__
    cdef unsigned long owner  # thread that holds it; 0: none
    cdef int depth            # how often
    cdef list waiters
    cdef bint lost

    def __cinit__(self):
        self.waiters = []
        _locks.append(weakref.ref(self, _locks.remove))

    def __enter__(self):
        if self.lost:
            raise EdgeformerError("a signal handler forked this process while another thread used the model: load it again")
        self.take()

    def __exit__(self, *exception):
        self.release()

    cdef bint can_be_had(self):
        """Whether `take` would not wait."""
        return self.owner == 0 or self.owner == PyThread_get_thread_ident()

    cdef int take(self) except -1:
        """Waits in line, but not while a signal is handled: the lock is not to come to a handler that waits for a newer one."""
        cdef Waiter waiter
        cdef bint was_first = False
        while not self.can_be_had():
            waiter = Waiter()
            self.waiters.insert(0 if was_first else len(self.waiters), waiter)
            if waiter.sleep() or waiter not in self.waiters:  # it was handed over
                return 0
            was_first = self.waiters[0] is waiter
            self.waiters.remove(waiter)
            PyErr_CheckSignals()
        self.owner = PyThread_get_thread_ident()
        self.depth += 1
        return 0

    cdef int release(self) except -1:
        """Hands the lock over to the next thread.

        Makes no objects: that may collect garbage, whose finalizers let other threads run.
        """
        cdef Waiter waiter
        self.depth -= 1
        if self.depth:
            return 0
        self.owner = 0
        if self.waiters:
            waiter = self.waiters[0]
            del self.waiters[0]
            self.owner, self.depth = waiter.thread, 1
            PyThread_release_lock(waiter.gate)


cdef list all_locks():
    """The locks that there are, the oldest first."""
    found = [reference() for reference in _locks]
    return [lock for lock in found if lock is not None]


@cython.final
cdef class Fork:
    """A fork in progress."""

    cdef list locks  # that it has taken
    cdef object interruption  # what a handler raised while it waited for them

    cdef int take(self, ForkSafeLock lock) except -1:
        """Waits for a lock. Nothing can be raised here that Python would not drop, so that comes later."""
        while True:
            try:
                lock.take()
                self.locks.append(lock)
                return 0
            except MemoryError:  # the lock is lost in the child
                return 0
            except BaseException as error:
                self.interruption = error


cdef int raise_interruption(void *error) except -1 with gil:
    interruption = <object>error
    Py_DECREF(interruption)
    raise interruption


def _before_fork():
    """Takes the locks."""
    cdef Fork fork = Fork()
    cdef list locks = all_locks()
    thread = PyThread_get_thread_ident()
    fork.locks = []
    _forks.setdefault(thread, []).append(fork)
    mine = [(<ForkSafeLock>lock).owner == thread for lock in locks]
    waits = mine.index(True) if True in mine else len(locks)
    for i in reversed(range(len(locks))):
        if i <= waits or (<ForkSafeLock>locks[i]).can_be_had():
            fork.take(locks[i])


cdef Fork let_go():
    """Lets go of the locks of this thread's innermost fork, which is over."""
    cdef ForkSafeLock lock
    cdef list mine = _forks[PyThread_get_thread_ident()]
    cdef Fork fork = mine.pop()
    for lock in fork.locks:
        lock.release()
    if not mine:
        del _forks[PyThread_get_thread_ident()]
    return fork


def _after_fork():
    """Lets go of the locks; what a handler raised comes out of the call that forked."""
    cdef Fork fork = let_go()
    if fork.interruption is not None:
        Py_INCREF(fork.interruption)
        if Py_AddPendingCall(raise_interruption, <void *>fork.interruption):
            Py_DECREF(fork.interruption)


def _after_fork_in_child():
    """Forgets the threads that are not here, and lets go of the locks."""
    global _forks
    cdef ForkSafeLock lock
    thread = PyThread_get_thread_ident()
    _forks = {thread: _forks[thread]}
    for lock in all_locks():
        lock.waiters = []
        if lock.owner != thread and lock.owner != 0:
            lock.owner, lock.depth, lock.lost = 0, 0, True
    let_go()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
