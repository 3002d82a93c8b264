"""What no plan can run rightly, found when an architecture is built: each fault is one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import GraphError
from .domains import Domain
from .graph import SEQUENCE, SOURCE, CacheSpec, Graph
from .values import Node

OUTPUT_NAMES = frozenset(  # those that a verb asks for
    {"logits", "hidden", "pooled", "normalized", "classes", "token_classes", "spans", "words"}
)
KEPT = frozenset({SEQUENCE, SOURCE})  # lifetimes of caches that are read after the run

Layer = tuple[str, int]  # of a cache


def check_programs(programs: Mapping[str, Graph]) -> None:
    """Refuse programs that would give wrong results, or nothing that can be asked for.

    Raises
    ------
    GraphError
        An attention reads what no program stored before, or goes by positions of rows that are not in its cache; a
        layer of a cache is stored twice or is not there, programs do not agree about a cache, rows of a tensor are left
        over, an output has a name that nobody asks for.
    """
    stored = {name: {layer for _, layer in _layers(graph, "store_kv")} for name, graph in programs.items()}
    caches: dict[str, CacheSpec] = {}
    for name, graph in programs.items():
        elsewhere = {layer for other, layers in stored.items() if other != name for layer in layers}
        _check_caches(name, graph, caches)
        _check_layers(name, graph, elsewhere)
        _check_outputs(name, graph)
    _check_rows(programs)


def _layers(graph: Graph, kind: str) -> Iterator[tuple[Node, Layer]]:
    """Nodes of a kind, and the layer of a cache that each reads or writes."""
    for node in graph.nodes:
        if node.kind == kind:
            yield node, (node.attributes["cache"], node.attributes["layer"])


def _check_caches(program: str, graph: Graph, known: dict[str, CacheSpec]) -> None:
    for spec in graph.caches:
        if known.setdefault(spec.name, spec) != spec:
            raise GraphError(graph.path, program, f"the cache {spec.name!r} has another shape in another program")
    shapes = {spec.name: spec for spec in graph.caches}
    for kind in ("store_kv", "attention"):
        for _, (cache, layer) in _layers(graph, kind):
            if cache not in shapes:
                raise GraphError(graph.path, program, f"the cache {cache!r} is used and not declared")
            if not 0 <= layer < shapes[cache].num_layers:
                what = f"layer {layer} of the cache {cache!r}, which has {shapes[cache].num_layers}"
                raise GraphError(graph.path, program, f"{what}, is used")


def _check_layers(program: str, graph: Graph, elsewhere: set[Layer]) -> None:
    """Every attention reads a layer that was stored before it, and what is kept is stored once."""
    kept = {spec.name for spec in graph.caches if spec.lifetime in KEPT}
    seen: dict[Layer, Domain] = {}
    for node in graph.nodes:
        if node.kind not in ("store_kv", "attention"):
            continue
        layer = node.attributes["cache"], node.attributes["layer"]
        place = f"layer {layer[1]} of the cache {layer[0]!r}"
        if node.kind == "attention" and layer not in seen.keys() | elsewhere:
            raise GraphError(graph.path, program, f"an attention reads {place}, which nothing has stored before it")
        if node.kind == "attention" and seen.get(layer) != node.inputs[0].domain and _goes_by_positions(node):
            what = f"an attention over {place} goes by the positions of its rows, which are not stored there"
            raise GraphError(graph.path, program, f"{what}: it can have no mask, window, prefix or bias")
        if node.kind == "store_kv" and layer in seen and layer[0] in kept:
            raise GraphError(graph.path, program, f"{place} is stored twice: the second overwrites the first")
        if node.kind == "store_kv":
            seen[layer] = node.inputs[0].domain


def _goes_by_positions(node: Node) -> bool:
    a = node.attributes
    return any(a[name] for name in ("causal", "window", "prefix")) or not a["bias"] is a["relative"] is None


def _check_outputs(program: str, graph: Graph) -> None:
    for name in graph.outputs:
        if name not in OUTPUT_NAMES:
            known = ", ".join(sorted(OUTPUT_NAMES))
            raise GraphError(graph.path, program, f"nobody asks for an output {name!r}; known are {known}")


def _check_rows(programs: Mapping[str, Graph]) -> None:
    """A tensor that is read in parts is read whole, by all programs together."""
    parts: dict[str, set[tuple[int, int]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for graph in programs.values():
        shapes |= graph.tensor_shapes
        for node in graph.nodes:
            if node.kind == "linear" and node.output is not None:
                first = node.attributes["first_row"]
                parts.setdefault(node.tensors[0], set()).add((first, first + node.output.width))
            elif node.kind == "embed":
                parts.setdefault(node.tensors[0], set()).add((0, node.attributes["table_rows"]))
    for name, ranges in parts.items():
        end = 0
        for first, last in sorted(ranges):
            if first > end:
                break
            end = max(end, last)
        if end != (shapes[name][0] if len(shapes[name]) > 1 else 1):
            program = next(iter(programs))
            path = programs[program].path
            raise GraphError(path, program, f"row {end} of {name} is not read, and those before it are")
