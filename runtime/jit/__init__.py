"""Numba, fenced: nothing else imports it, and nothing needs it.

What is compiled here has a twin with the same bits, in C or run by NumPy, which serves where Numba is not installed,
where the system lets the process run no code of its own (systemd's MemoryDenyWriteExecute=, SELinux), and where the
environment says EDGEFORMER_NUMBA=0: then nothing is compiled, kept or run but what was installed.
"""
