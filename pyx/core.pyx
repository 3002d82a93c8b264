"""Packed weights, caches, plans and the pool of threads that runs them, in one compiled module.

Nothing that Python passes in can crash the process: every index, width and length is checked here, and errors come from
`edgeformer.errors`. The one exception is the address of a row function (`Plan.add_op(function=...)`), which is trusted.
Long work releases the GIL. The module relies on the GIL elsewhere and does not declare itself safe without it; it loads
in the main interpreter only.
"""
import atexit
import os
import threading
import weakref

import numpy

from edgeformer.errors import (
    EdgeformerError,
    GenerationCancelled,
    InvalidInputError,
    ModelFileChangedError,
    NotEnoughMemoryError,
    UnsupportedCPUError,
)

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from cpython.number cimport PyNumber_Index
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EBADF, EINTR, ENODATA, ENOMEM, errno
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from native cimport *

include "constants.pxi"
include "buffers.pxi"
include "isa.pxi"
include "code.pxi"
include "locks.pxi"
include "pool.pxi"
include "files.pxi"
include "weights.pxi"
include "ops.pxi"
include "plan.pxi"
include "rows.pxi"
include "measure.pxi"
include "select.pxi"
include "kernel_faces.pxi"
include "attention_faces.pxi"
