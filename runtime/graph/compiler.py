"""From what a model says (a graph) to what the C loop runs (a recipe: flat ops over buffers in one arena).

Passes, in order:

1. `fuse`          bias, activation and residual sum move into the matrix product that feeds them;
2. `gate`          gate and up become one product, which multiplies them;
3. `merge`         products of the same input become one (query, key and value; all cross keys and values);
4. `quantize`      an input of quantized weights is quantized once, by the op that makes it where that op can;
5. `prune`         what the asked outputs do not need is dropped;
6. `copy_rotated`  a value that is rotated and also read as it was is copied;
7. `place`         (placement.py) every value gets a buffer, sums reuse their residual's; what row-wise ops in a row
                   touch lives through all of them; `Recipe.layout` packs the buffers by lifetime.

Nothing here changes a bit of any result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._kernels import core
from ..errors import UnsupportedModelError, quote
from ..quants import I8_ROW
from .graph import Graph
from .placement import place
from .recipe import BLOCK_COLUMNS, Recipe
from .steps import Step, Views
from .values import Node, Value

PRODUCTS = frozenset({"linear", "expert_linear"})


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
    views, wanted = Views(graph), [graph.outputs[name] for name in outputs]
    steps = merge(gate(fuse(graph), graph, type_of), type_of)
    steps = quantize(steps, graph, views, is_quantized, type_of)
    steps = copy_rotated(prune(steps, views, wanted), views, wanted)
    return place(steps, graph, views, outputs)


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
        if node.kind == "columns" or (node.output and node.output.index in absorbed):
            continue
        outputs, attributes = [node.output] if node.output else [], dict(node.attributes)
        step = Step(node.kind, list(node.inputs), outputs, [node.tensors], attributes)
        step.first_rows = [attributes.pop("first_row", 0)]
        steps.append(step)
        if node.kind != "linear" or attributes["groups"] > 1:
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


def is_plain(step: Step) -> bool:
    """Whether a step is a product and nothing else."""
    alone = step.kind == "linear" and step.attributes["groups"] == 1
    return alone and step.activation == "none" and step.residual is None and not step.gated


def gate(steps: list[Step], graph: Graph, type_of: Callable[[str], int]) -> list[Step]:
    """Plain products of the same input, with weights of the same type, that only a gate reads, become one with it."""
    consumers = _consumers(graph)
    named = {value.index for value in graph.outputs.values()}
    products = {step.outputs[0].index: step for step in steps if is_plain(step)}
    taken: set[int] = set()
    for step in steps:
        if (
            step.kind != "gate"
            or step.attributes["limit"]
            or any(len(consumers[v.index]) > 1 or v.index in named for v in step.inputs)
        ):
            continue
        pair = [products[v.index] for v in step.inputs if v.index in products]
        if len({(product.inputs[0].index, type_of(product.tensors[0][0])) for product in pair}) != 1 or len(pair) != 2:
            continue
        first, second = sorted(pair, key=lambda product: product.outputs[0].index)
        first.tensors, first.first_rows = (
            [entry for product in pair for entry in getattr(product, name)] for name in ("tensors", "first_rows")
        )
        first.gated, first.activation, first.outputs = True, step.attributes["activation"], step.outputs
        taken |= {id(second), id(step)}
    return [step for step in steps if id(step) not in taken]


def merge(steps: list[Step], type_of: Callable[[str], int]) -> list[Step]:
    """Plain products of the same input with weights of the same type become one, at the place of the first.

    Where another plan has their matrices stacked, as the attribute "stack" says, they are stacked so again.
    """
    merged: list[Step] = []
    first: dict[tuple[int, int, object], Step] = {}
    for step in steps:
        if not is_plain(step):
            merged.append(step)
            continue
        stack = step.attributes.get("stack")
        key = (step.inputs[0].index, type_of(step.tensors[0][0]), stack)
        if key in first:
            first[key].outputs += step.outputs
            first[key].tensors += step.tensors
            first[key].first_rows += step.first_rows
        else:
            first[key] = step
            merged.append(step)
    for step in first.values():
        _order(step)
    return merged


def _order(step: Step) -> None:
    """The parts of a product in the order that its "stack" has them."""
    stack = step.attributes.get("stack")
    if stack is None or len(step.outputs) == 1:
        return
    parts = sorted(
        zip(step.outputs, step.tensors, step.first_rows, strict=True),
        key=lambda part: stack.index((part[1][0], part[2])),
    )
    step.outputs, step.tensors, step.first_rows = (list(column) for column in zip(*parts, strict=True))


def makes_quantized(step: Step, graph: Graph, row_scale: bool) -> bool:
    """Whether a step can quantize its result: it has whole blocks of a row in hand, or the whole row for one scale."""
    if step.kind in core.WHOLE_ROW_OPS:
        return bool(step.attributes.get("groups", 1) == 1)
    if row_scale:
        return False
    if step.kind == "attention":
        heads = next(spec.num_heads for spec in graph.caches if spec.name == step.attributes["cache"])
        return step.outputs[0].width // heads % BLOCK_COLUMNS == 0
    return step.kind == "linear" and len(step.outputs) == 1


def quantize(
    steps: list[Step],
    graph: Graph,
    views: Views,
    is_quantized: Callable[[str], bool],
    type_of: Callable[[str], int],
) -> list[Step]:
    """Gives every product of quantized weights its quantized input, made once; of one scale a row if any wants that."""
    wanted: dict[int, Value] = {}
    row_scaled: set[int] = set()
    for step in steps:
        step.reads_quantized = step.kind in PRODUCTS and is_quantized(step.tensors[0][0])
        if step.reads_quantized and step.attributes.get("groups", 1) > 1:
            what = f"{quote(step.tensors[0][0])} holds a matrix for each part of the columns, and has to be of floats"
            raise UnsupportedModelError(f"{graph.path}: {what}: convert it to F32 or F16")
        if step.reads_quantized:
            wanted[step.inputs[0].index] = step.inputs[0]
            if type_of(step.tensors[0][0]) == I8_ROW:
                row_scaled.add(step.inputs[0].index)
    made_with: dict[int, list[Value]] = {}  # by the value that an op makes: it and columns of it
    for value in wanted.values():
        made_with.setdefault(views.root(value).index, []).append(value)
    result = []
    for step in steps:
        result.append(step)
        for value in [v for output in step.outputs for v in made_with.get(output.index, [])]:
            row_scale = value.index in row_scaled
            maker = step
            if value not in step.outputs or not makes_quantized(step, graph, row_scale):
                maker = Step("quantize", [value], [], [()], {}, float_output=False)
                result.append(maker)
            maker.quantized, maker.row_scale = value, row_scale
    return result


def prune(steps: list[Step], views: Views, outputs: Sequence[Value]) -> list[Step]:
    """Only the steps that the outputs, or the caches, depend on."""
    needed = {views.root(value).index for value in outputs}
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
            if step.reads_quantized and value is step.inputs[0]:
                quantized.add(value.index)
            else:
                needed.add(views.root(value).index)
    return kept[::-1]


def copy_rotated(steps: list[Step], views: Views, outputs: Sequence[Value]) -> list[Step]:
    """Rotations work in place, so a value that somebody reads later as it was is copied before it is rotated."""
    readers: dict[int, list[tuple[int, Value]]] = {
        views.root(step.inputs[0]).index: [] for step in steps if step.kind == "rope"
    }
    for position, values in enumerate([*(step.reads for step in steps), outputs]):
        for value in values:
            if (root := views.root(value).index) in readers:
                readers[root].append((position, value))
    result: list[Step] = []
    for position, step in enumerate(steps):
        if step.kind == "rope":
            x, *rest = step.inputs
            later = [value for reader, value in readers[views.root(x).index] if reader > position]
            if any(views.overlap(x, value) for value in later):
                copy = Value(-1 - position, x.width, x.domain)
                result.append(Step("activate", [x], [copy], [()], {"activation": "none"}))
                step.inputs = [copy, *rest]
        result.append(step)
    return result
