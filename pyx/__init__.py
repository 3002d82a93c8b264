"""The compiled core: packed weights, caches, plans, and the kernels under them (see `core`)."""
