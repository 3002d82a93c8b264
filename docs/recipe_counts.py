"""How many files each recipe of CONTRIBUTING touches, counted from what the tree holds.

    python docs/recipe_counts.py            a line for each recipe
    python docs/recipe_counts.py --files    and the files, thing by thing

A recipe's things are those that were added by it: every op, kernel, architecture, quantized type and instruction set. A
file counts where it names the thing as code does. The product's files and the tests' are counted apart.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("include", "pyx", "runtime", "converters")
SUFFIXES = {".c", ".h", ".py", ".pyi", ".pyx", ".pxi", ".pxd"}


def found(pattern: str, path: str) -> list[str]:
    """What the pattern's group finds in a file of the tree, in its order, each once."""
    return list(dict.fromkeys(re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)))


def sources(folders: tuple[str, ...]) -> Iterator[Path]:
    """The sources in these folders, without what Cython makes."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.name != "core.c":
                yield path


@dataclass(frozen=True)
class Recipe:
    """What is added by a recipe.

    Attributes
    ----------
    name : str
    things : list of str
    pattern : function
        From a thing to the regular expression by which code names it.
    folders : tuple of str
        Where the product may name it.
    """

    name: str
    things: list[str]
    pattern: Callable[[str], str]
    folders: tuple[str, ...] = PRODUCT

    def files(self, thing: str) -> tuple[list[str], list[str]]:
        """The product's files that name it, and the tests'."""
        named = re.compile(self.pattern(thing))
        both = []
        for folders in (self.folders, ("tests",)):
            paths = (path for path in sources(folders) if named.search(f"{path.stem}\n{path.read_text()}"))
            both.append([str(path.relative_to(ROOT)) for path in paths])
        return both[0], both[1]


def op_named(op: str) -> str:
    """In C by its kind or its function, in Cython by its number, in the graph by its method or its string."""
    return rf"\b(EF_)?OP_{op.upper()}\b|\bOP\({op.upper()},|\bef_op_{op}\b|def _?{op}\(|\"{op}\""


def kernel_named(kernel: str) -> str:
    """In the list, as the function of an instruction set, and by its face in Python."""
    return rf"kernel\({kernel},|EF_NORM\(kernel, {kernel}\)|EF_NAME\({kernel}\)|kernel_{kernel}\b|->{kernel}\("


def type_named(name: str) -> str:
    """By its name, small or large, alone or at the end of another."""
    return rf"(?i)(?<![a-z0-9])(\w+_)?{name}(?![a-z0-9])(?!_[smlx])"


def recipes() -> list[Recipe]:
    """All that are counted."""
    ops = [op.lower() for op in found(r"^ +OP\((\w+), \w+,", "include/edgeformer/plan/op_list.h")]
    kernels = found(r"kernel\((?:kernel, )?(\w+), \w+,|EF_NORM\(kernel, (\w+)\)", "include/edgeformer/kernels/list.h")
    architectures = found(r'ArchitectureRow\(\s*"(\w+)"', "runtime/models/registry.py")
    types = found(r'QuantizationType\(\d+, "(\w+)"', "runtime/quants/table.py")
    isas = found(r"\brow\((\w+)\)", "include/edgeformer/isa/targets.h")
    return [
        Recipe("an op of the plan", ops, op_named, ("include", "pyx", "runtime/graph")),
        Recipe("a kernel", [a or b for a, b in kernels if a != "name"], kernel_named, ("include", "pyx")),
        Recipe("an architecture", architectures, lambda name: rf'^{name}\n|"{name}"'),
        Recipe("a quantized type", [name for name in types if not re.fullmatch(r"b?f\d+", name)], type_named),
        Recipe(
            "an instruction set",
            [isa for isa in isas if isa not in ("scalar", "name")],
            lambda isa: rf"(?i)\b(ef_\w*?)?{isa}\b",
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Count the files that each recipe touches.")
    parser.add_argument("--files", action="store_true", help="name the files, thing by thing")
    show_files = parser.parse_args().files
    print(f"{'recipe':22}{'things':>8}{'least':>7}{'median':>8}{'most':>6}{'tests':>7}")
    for recipe in recipes():
        files = {thing: recipe.files(thing) for thing in recipe.things}
        product = {thing: len(found) for thing, (found, _) in files.items()}
        least, most = (choose(product, key=lambda thing: product[thing]) for choose in (min, max))
        middle, tests = median(product.values()), median(len(found) for _, found in files.values())
        line = f"{recipe.name:22}{len(files):8}{product[least]:7}{middle:8g}{product[most]:6}{tests:7g}"
        print(f"{line}  least {least}, most {most}")
        for thing, (found, tested) in files.items() if show_files else ():
            print(f"    {thing}: {len(found)} and {len(tested)}")
            for path in (*found, *tested):
                print(f"        {path}")


if __name__ == "__main__":
    main()
