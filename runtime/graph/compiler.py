"""From what a model says (a graph) to what the C loop runs (a recipe: flat ops over buffers in one arena).

Passes, in order:

1. `fuse`      bias, activation and residual sum move into the matrix product that feeds them;
2. `merge`     products of the same input become one (query, key and value; gate and up; all cross keys and values);
3. `gate`      a merged gate and up are multiplied by the product that makes them;
4. `quantize`  an input of quantized weights is quantized once, by the op that makes it where that op can;
5. `prune`     what the asked outputs do not need is dropped;
6. `place`     (placement.py) every value gets a buffer, sums reuse their residual's; what row-wise ops in a row touch
               lives through all of them; `Recipe.layout` packs the buffers by lifetime.

Nothing here changes a bit of any result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..quants import I8_ROW
from .graph import Graph
from .placement import place
from .recipe import BLOCK_COLUMNS, Recipe
from .steps import Step
from .values import Node, Value


def compile_graph(
    graph: Graph, outputs: Sequence[str], is_quantized: Callable[[str], bool], type_of: Callable[[str], int]
) -> Recipe:
    """The recipe that computes the named outputs of a graph.

    Parameters
    ----------
    graph : Graph
    outputs : sequence of str
        Names given with `Graph.output`; caches are always written.
    is_quantized, type_of : callable
        Whether the weights of a tensor take quantized activations, and its type id (only equal types are merged).
    """
    steps = gate(merge(fuse(graph), type_of), graph)
    steps = quantize(steps, graph, is_quantized, type_of)
    steps = prune(steps, [graph.outputs[name] for name in outputs])
    return place(steps, graph, outputs)


def _consumers(graph: Graph) -> dict[int, list[Node]]:
    consumers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            consumers.setdefault(value.index, []).append(node)
    return consumers


def fuse(graph: Graph) -> list[Step]:
    """Steps of the graph, with activation and residual taken into the product before them."""
    consumers = _consumers(graph)
    named = {value.index for value in graph.outputs.values()}
    order = {node.output.index: i for i, node in enumerate(graph.nodes) if node.output}
    absorbed: set[int] = set()

    def only_consumer(value: Value, kind: str) -> Node | None:
        nodes = consumers.get(value.index, [])
        return nodes[0] if len(nodes) == 1 and nodes[0].kind == kind and value.index not in named else None

    steps = []
    for position, node in enumerate(graph.nodes):
        if node.output and node.output.index in absorbed:
            continue
        step = Step(
            node.kind, list(node.inputs), [node.output] if node.output else [], [node.tensors], dict(node.attributes)
        )
        steps.append(step)
        if node.kind != "linear":
            continue
        if (activate := only_consumer(step.outputs[0], "activate")) and activate.output:
            step.activation = activate.attributes["activation"]
            step.outputs = [activate.output]
            absorbed.add(activate.output.index)
        if (add := only_consumer(step.outputs[0], "add")) and add.output:
            other = add.inputs[1] if add.inputs[0] == step.outputs[0] else add.inputs[0]
            if order[other.index] < position and other != step.outputs[0]:
                step.residual, step.outputs = other, [add.output]
                absorbed.add(add.output.index)
    return steps


def merge(steps: list[Step], type_of: Callable[[str], int]) -> list[Step]:
    """Plain products of the same input with weights of the same type become one, at the place of the first."""
    merged: list[Step] = []
    first: dict[tuple[int, int], Step] = {}
    for step in steps:
        if step.kind != "linear" or step.activation != "none" or step.residual is not None:
            merged.append(step)
            continue
        key = (step.inputs[0].index, type_of(step.tensors[0][0]))
        if key in first:
            first[key].outputs += step.outputs
            first[key].tensors += step.tensors
        else:
            first[key] = step
            merged.append(step)
    return merged


def gate(steps: list[Step], graph: Graph) -> list[Step]:
    """A merged product that is read by nothing but the gate of its two outputs takes the gate in."""
    readers: dict[int, int] = {}
    for value in [v for step in steps for v in step.reads] + list(graph.outputs.values()):
        readers[value.index] = readers.get(value.index, 0) + 1
    products = {tuple(v.index for v in step.outputs): step for step in steps if step.kind == "linear"}
    kept = []
    for step in steps:
        product = products.get(tuple(v.index for v in step.inputs)) if step.kind == "gate" else None
        if product is None or any(readers[v.index] != 1 for v in step.inputs):
            kept.append(step)
        else:
            product.gated, product.activation, product.outputs = True, step.attributes["activation"], step.outputs
    return kept


def makes_quantized(step: Step, graph: Graph, row_scale: bool) -> bool:
    """Whether a step can quantize its result: it has whole blocks of a row in hand, or the whole row for one scale."""
    if step.kind == "norm":
        return bool(step.attributes["groups"] == 1)
    if step.kind in ("gate", "activate") or row_scale:
        return step.kind in ("gate", "activate")
    if step.kind == "attention":
        heads = next(spec.num_heads for spec in graph.caches if spec.name == step.attributes["cache"])
        return step.outputs[0].width // heads % BLOCK_COLUMNS == 0
    return step.kind == "linear" and len(step.outputs) == 1


def quantize(
    steps: list[Step], graph: Graph, is_quantized: Callable[[str], bool], type_of: Callable[[str], int]
) -> list[Step]:
    """Gives every product of quantized weights its quantized input, made once; of one scale a row if any wants that."""
    wanted: dict[int, Value] = {}
    row_scaled: set[int] = set()
    for step in steps:
        step.reads_quantized = step.kind == "linear" and is_quantized(step.tensors[0][0])
        if step.reads_quantized:
            wanted[step.inputs[0].index] = step.inputs[0]
            if type_of(step.tensors[0][0]) == I8_ROW:
                row_scaled.add(step.inputs[0].index)
    result = []
    for step in steps:
        result.append(step)
        for value in [v for v in step.outputs if v.index in wanted]:
            row_scale = value.index in row_scaled
            maker = step
            if not makes_quantized(step, graph, row_scale):
                maker = Step("quantize", [value], [], [()], {}, float_output=False)
                result.append(maker)
            maker.quantized, maker.row_scale = value, row_scale
    return result


def prune(steps: list[Step], outputs: Sequence[Value]) -> list[Step]:
    """Only the steps that the outputs, or the caches, depend on."""
    needed = {value.index for value in outputs}
    quantized: set[int] = set()
    kept = []
    for step in reversed(steps):
        makes_quantized = step.quantized is not None and step.quantized.index in quantized
        if not (step.kind == "store_kv" or makes_quantized or any(v.index in needed for v in step.outputs)):
            continue
        if not makes_quantized:
            step.quantized = None
        step.float_output = step.kind == "attention" or any(v.index in needed for v in step.outputs)
        kept.append(step)
        for value in step.reads:
            (quantized if step.reads_quantized and value is step.inputs[0] else needed).add(value.index)
    return kept[::-1]
