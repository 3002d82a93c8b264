"""The package map and the one extension module.

Environment switches: ``EDGEFORMER_SANITIZE=address`` (with undefined behaviour) or ``thread`` builds with sanitizers,
``EDGEFORMER_WERROR=1`` makes every compiler warning an error.
"""

import glob
import os
from concurrent.futures import ThreadPoolExecutor

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

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
# Kernels are compiled once per instruction set, in regions of isa/*.c: no flag may depend on the machine that builds.
sanitize = SANITIZERS[os.environ.get("EDGEFORMER_SANITIZE", "")]
warnings = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("EDGEFORMER_WERROR") == "1" else []

core = Extension(
    "edgeformer._kernels.core",
    ["pyx/core.pyx", *sorted(glob.glob("include/edgeformer/isa/*.c"))],
    include_dirs=["include"],
    depends=glob.glob("include/edgeformer/**/*.h", recursive=True) + glob.glob("pyx/*.px[di]"),
    extra_compile_args=[
        "-std=gnu11",
        "-O3",
        "-fno-wrapv",  # Python adds -fwrapv, with which Clang does not unroll and UBSan sees no signed overflow
        "-g1",  # lines, not variables: with -g, which Python adds, the compiler takes twice as long and writes 25 MB
        "-ffp-contract=off",
        "-fvisibility=hidden",
        "-pthread",
        *warnings,
        *sanitize,
    ],
    extra_link_args=["-pthread", *sanitize],
)


class ParallelBuild(build_ext):
    """Compiles the sources at the same time: as many as there are CPUs, and half gigabytes of memory for compilers."""

    def build_extensions(self):
        compile_one_by_one = self.compiler.compile
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        jobs = max(1, min(os.cpu_count() or 1, memory >> 29))

        def compile_together(sources, **options):
            with ThreadPoolExecutor(jobs) as pool:  # the last source, Cython's, takes longest
                return list(pool.map(lambda source: compile_one_by_one([source], **options)[0], reversed(sources)))

        self.compiler.compile = compile_together
        super().build_extensions()


setup(
    packages=[
        "edgeformer",
        *(f"edgeformer.{name}" for name in find_packages("runtime")),
        "edgeformer.converters",
        *(f"edgeformer.converters.{name}" for name in find_packages("converters")),
        "edgeformer._kernels",
    ],
    package_dir={"edgeformer": "runtime", "edgeformer.converters": "converters", "edgeformer._kernels": "pyx"},
    package_data={"edgeformer": ["py.typed", "tools/demo/*"], "edgeformer._kernels": ["*.pyi"]},
    exclude_package_data={"edgeformer._kernels": ["*.c", "*.pyx", "*.pxi", "*.pxd"]},
    cmdclass={"build_ext": ParallelBuild},
    ext_modules=cythonize([core], include_path=["pyx"], compiler_directives={"language_level": 3}),
)
