"""Row functions that Numba compiles, and their machine code kept on disk."""
