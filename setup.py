"""The package map and the one extension module.

Environment switches: ``EDGEFORMER_SANITIZE=address`` (with undefined behaviour) or ``thread`` builds with sanitizers,
``EDGEFORMER_WERROR=1`` makes every compiler warning an error.
"""

import glob
import os

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

# Sanitizers at -O1: the checks are the same, at -O3 the compiler takes a quarter of an hour over them.
SANITIZERS = {
    "": [],
    "address": [
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
        "-g",
    ],
    "thread": ["-O1", "-fsanitize=thread", "-g"],
}
# Kernels are compiled once per instruction set by regions in the source: no flag may depend on the machine that builds.
sanitize = SANITIZERS[os.environ.get("EDGEFORMER_SANITIZE", "")]
warnings = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("EDGEFORMER_WERROR") == "1" else []

core = Extension(
    "edgeformer._kernels.core",
    ["pyx/core.pyx"],
    include_dirs=["include"],
    depends=glob.glob("include/edgeformer/**/*.h", recursive=True) + glob.glob("pyx/*.px[di]"),
    extra_compile_args=[
        "-std=gnu11",
        "-O3",
        "-ffp-contract=off",
        "-fvisibility=hidden",
        "-pthread",
        *warnings,
        *sanitize,
    ],
    extra_link_args=["-pthread", *sanitize],
)

setup(
    packages=[
        "edgeformer",
        *(f"edgeformer.{name}" for name in find_packages("runtime")),
        "edgeformer.converters",
        "edgeformer._kernels",
    ],
    package_dir={"edgeformer": "runtime", "edgeformer.converters": "converters", "edgeformer._kernels": "pyx"},
    package_data={"edgeformer": ["py.typed", "demo/*"], "edgeformer._kernels": ["*.pyi"]},
    exclude_package_data={"edgeformer._kernels": ["*.c", "*.pyx", "*.pxi", "*.pxd"]},
    ext_modules=cythonize([core], include_path=["pyx"], compiler_directives={"language_level": 3}),
)
