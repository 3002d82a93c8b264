# Which instruction sets there are, and the choice of one.

# Addresses of the kernels that this CPU runs, best first. Asked once: CPUID takes tens of microseconds in a virtual machine.
_kernels_by_name = {ef_isa_name(index).decode(): <size_t>ef_kernels_for(ef_isa_name(index))
                    for index in range(ef_isa_count()) if ef_isa_supported(index)}


cdef extern from *:
    """
    #if defined(__clang__)
    #define EF_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define EF_COMPILER "GCC " __VERSION__
    #else
    #define EF_COMPILER "unknown"
    #endif
    """
    const char *EF_COMPILER


def compiler():
    """Name and version of the compiler that this module was built with."""
    return EF_COMPILER.decode("utf-8", "replace").strip()


def compiled_isa_names():
    """Names of the instruction sets that this build has kernels for, best first."""
    return [ef_isa_name(index).decode() for index in range(ef_isa_count())]


def isa_names():
    """Names of the instruction sets that this CPU can run, best first."""
    return list(_kernels_by_name)


def best_isa():
    """The instruction set to use: ``EDGEFORMER_ISA`` from the environment, or else the best of this CPU.

    Raises
    ------
    UnsupportedCPUError
        The forced one is unknown, not in this build, or not of this CPU.
    """
    forced = os.environ.get("EDGEFORMER_ISA")
    if not forced:
        return next(iter(_kernels_by_name))
    kernels_of(forced)
    return forced


cdef const ef_kernels *kernels_of(object isa) except NULL:
    """The kernels of an instruction set; of best_isa() for None."""
    name = best_isa() if isa is None else isa
    address = _kernels_by_name.get(str(name))
    if address is None:
        reason = "this CPU does not have it" if name in compiled_isa_names() else "this build does not know it"
        raise UnsupportedCPUError(f"instruction set {name!r}: {reason}; there are: {', '.join(isa_names())}")
    return <const ef_kernels *><size_t>address


def row_function_pointer(isa, name):
    """Address of the C function `name`, one of `ROW_FUNCTIONS`, of an instruction set (None: the best)."""
    return <size_t>row_function_of(kernels_of(isa), name)


cdef ef_row_function row_function_of(const ef_kernels *kernels, object name) except NULL:
    if name not in ROW_FUNCTIONS:
        raise InvalidInputError(f"no row function is called {name!r}; there are: {', '.join(ROW_FUNCTIONS)}")
    return ef_row_function_of(kernels, ROW_FUNCTIONS.index(name))
