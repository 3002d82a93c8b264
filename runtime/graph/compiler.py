"""From what a model says (a graph) to what the C loop runs (a recipe: flat ops over buffers in one arena).

Passes, in order:

1. `fuse`      bias, activation and residual sum move into the matrix product that feeds them;
2. `merge`     products of the same input become one (query, key and value; gate and up; all cross keys and values);
3. `gate`      a merged gate and up are multiplied by the product that makes them;
4. `quantize`  an input of quantized weights is quantized once, by the op that makes it where that op can;
5. `prune`     what the asked outputs do not need is dropped;
6. `place`     every value gets a buffer, sums reuse their residual's; `Recipe.layout` packs the buffers by lifetime;
7. `chain`     what row-wise ops in a row touch lives through all of them.

Nothing here changes a bit of any result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..quants import I8_ROW
from .graph import ACTIVATIONS, PAIRINGS, POOLINGS, SOURCES, Graph, Node, Value
from .recipe import (
    ALIGNMENT,
    BLOCK_BYTES,
    BLOCK_COLUMNS,
    ROW_TOTAL_BYTES,
    Buffer,
    Op,
    Operand,
    Recipe,
    VectorSpec,
    padded,
)

NOT_ROW_WISE = {"linear", "attention", "pool"}  # ef_op_is_row_wise (plan_cut.h): the others form chains


@dataclass
class Step:
    """A node on its way to an op; the passes rewrite its fields."""

    kind: str
    inputs: list[Value]
    outputs: list[Value]  # several for a merged product
    tensors: list[tuple[str, ...]]  # one entry an output
    attributes: dict[str, Any]
    residual: Value | None = None
    activation: str = "none"
    gated: bool = False  # a product of gate and up, whose output is activation(gate) * up
    quantized: Value | None = None  # the value whose quantized rows this step leaves
    reads_quantized: bool = False
    row_scale: bool = False  # of the quantized rows that this step leaves
    float_output: bool = True

    @property
    def reads(self) -> list[Value]:
        """Everything that the step reads, quantized or not."""
        return self.inputs if self.residual is None else [*self.inputs, self.residual]


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


def place(steps: list[Step], graph: Graph, outputs: Sequence[str]) -> Recipe:
    """Buffers for every value and the flat ops over them."""
    placer = _Placer(steps, graph, outputs)
    for position, step in enumerate(steps):
        placer.emit(position, step)
    recipe = placer.recipe
    for name in outputs:
        value = graph.outputs[name]
        operand = placer.operands[value.index]
        recipe.buffers[operand.buffer].last = len(steps)
        recipe.outputs[name] = (operand, value.width, value.domain)
    chain(recipe)
    return recipe


def chain(recipe: Recipe) -> None:
    """Buffers touched in a chain live through all of it: one range of rows is at its end where another begins."""
    starts: list[int] = []  # of each op's chain
    for position, op in enumerate(recipe.ops):
        before = recipe.ops[position - 1] if position else op
        goes_on = position and before.domain == op.domain and not {before.kind, op.kind} & NOT_ROW_WISE
        starts.append(starts[-1] if goes_on else position)
    for buffer in recipe.buffers:
        buffer.first = starts[buffer.first]
        while buffer.last + 1 < len(starts) and starts[buffer.last + 1] == starts[buffer.last]:
            buffer.last += 1


class _Placer:
    """State of the last pass."""

    def __init__(self, steps: list[Step], graph: Graph, outputs: Sequence[str]) -> None:
        self.recipe = Recipe(caches=list(graph.caches))
        self.operands: dict[int, Operand] = {}
        self.quantized: dict[int, Operand] = {}
        self.last_use = {v.index: i for i, step in enumerate(steps) for v in step.reads}
        self.last_use |= {graph.outputs[name].index: len(steps) for name in outputs}
        self.owners: dict[int, int] = {}  # buffer -> how many values live in it

    def emit(self, position: int, step: Step) -> None:
        """Appends the step's op."""
        inputs = [self._read(position, step, value) for value in step.reads]
        output = self._outputs(position, step) if step.float_output else None
        quantized = self._quantized(position, step) if step.quantized is not None else None
        main = step.outputs[0] if step.outputs else step.inputs[0]
        op = Op(step.kind, main.domain, tuple(inputs), output, quantized, step.row_scale, width=main.width)
        getattr(self, f"_{step.kind}")(op, step)
        self.recipe.ops.append(op)

    def _read(self, position: int, step: Step, value: Value) -> Operand:
        operand = (
            self.quantized[value.index]
            if step.reads_quantized and value is step.inputs[0]
            else self.operands[value.index]
        )
        buffer = self.recipe.buffers[operand.buffer]
        buffer.last = max(buffer.last, position)
        return operand

    def _buffer(self, position: int, domain: str, row_bytes: int) -> int:
        self.recipe.buffers.append(Buffer(domain, padded(row_bytes, ALIGNMENT), position, position))
        return len(self.recipe.buffers) - 1

    def _outputs(self, position: int, step: Step) -> Operand | None:
        if not step.outputs:
            return None
        reused = self._reusable(position, step)
        if reused is not None:
            self.operands[step.outputs[0].index] = reused
            return reused
        width = sum(padded(value.width) for value in step.outputs)
        buffer = self._buffer(position, step.outputs[0].domain, width * 4)
        self.owners[buffer] = len(step.outputs)
        column = 0
        for value in step.outputs:
            self.operands[value.index] = Operand(buffer, column)
            column += padded(value.width)
        return Operand(buffer)

    def _reusable(self, position: int, step: Step) -> Operand | None:
        """The operand that the result may overwrite: a rope's input, or a summand that nobody reads later."""
        if step.kind == "rope":
            if self.last_use[step.inputs[0].index] != position:
                raise ValueError("rope works in place: its input must have no later reader")
            return self.operands[step.inputs[0].index]
        summand = step.residual or (step.inputs[0] if step.kind in ("add", "embed") and step.inputs else None)
        if summand is None or len(step.outputs) != 1 or self.last_use[summand.index] != position:
            return None
        if step.kind == "linear" and summand in step.inputs:
            return None  # other panels still read it while the first are written
        operand = self.operands[summand.index]
        return operand if self.owners.get(operand.buffer) == 1 and operand.column == 0 else None

    def _quantized(self, position: int, step: Step) -> Operand:
        value = step.quantized
        assert value is not None
        total = ROW_TOTAL_BYTES if step.row_scale else 0
        buffer = self._buffer(position, value.domain, value.width // BLOCK_COLUMNS * BLOCK_BYTES + total)
        self.quantized[value.index] = Operand(buffer)
        return self.quantized[value.index]

    def _vector(self, spec: VectorSpec) -> int:
        self.recipe.vectors.append(spec)
        return len(self.recipe.vectors) - 1

    def _matrix(self, names: tuple[str, ...]) -> int:
        if names not in self.recipe.matrices:
            self.recipe.matrices.append(names)
        return self.recipe.matrices.index(names)

    def _cache(self, step: Step) -> int:
        return [spec.name for spec in self.recipe.caches].index(step.attributes["cache"])

    # -- one method a kind: the fields that plan.h gives it --

    def _embed(self, op: Op, step: Step) -> None:
        op.weight = self._matrix(step.tensors[0])
        op.integers, op.reals = (SOURCES.index(step.attributes["source"]),), (step.attributes["scale"],)

    def _linear(self, op: Op, step: Step) -> None:
        op.weight = self._matrix(tuple(names[0] for names in step.tensors))
        op.width = sum(padded(v.width) for v in step.outputs[:-1]) + step.outputs[-1].width
        op.integers = (ACTIVATIONS.index(step.activation), int(step.gated))
        if any(len(names) > 1 for names in step.tensors):
            outputs = step.outputs * 2 if step.gated else step.outputs
            parts = [
                (names[1] if len(names) > 1 else None, v.width) for names, v in zip(step.tensors, outputs, strict=True)
            ]
            op.vectors = (self._vector(VectorSpec(tuple(parts))),)

    def _norm(self, op: Op, step: Step) -> None:
        groups = step.attributes["groups"]
        op.width //= groups
        op.function, op.integers, op.reals = step.attributes["function"], (groups,), (step.attributes["epsilon"],)
        op.vectors = tuple(self._vector(VectorSpec(((name, op.width),))) for name in step.tensors[0])

    def _quantize(self, op: Op, step: Step) -> None:
        """Everything is in the operands."""

    def _rotary(self, op: Op, step: Step) -> None:
        divisor = step.tensors[0][0] if step.tensors[0] else None
        op.vectors = (self._vector(VectorSpec(constant=step.attributes["frequencies"], divisor=divisor)),)
        op.reals = (step.attributes["scale"],)

    def _rope(self, op: Op, step: Step) -> None:
        half = step.inputs[1].width // 2
        op.integers = (
            step.attributes["num_heads"],
            step.attributes["head_dim"],
            half,
            PAIRINGS.index(step.attributes["pairing"]),
        )

    def _store_kv(self, op: Op, step: Step) -> None:
        op.integers = (self._cache(step), step.attributes["layer"])

    def _attention(self, op: Op, step: Step) -> None:
        a = step.attributes
        op.integers = (self._cache(step), a["layer"], a["num_heads"], int(a["causal"]), a["window"])
        op.reals = (a["scale"],)

    def _gate(self, op: Op, step: Step) -> None:
        op.integers = (ACTIVATIONS.index(step.attributes["activation"]),)

    _activate = _gate

    def _add(self, op: Op, step: Step) -> None:
        """Everything is in the operands."""

    _select = _add

    def _pool(self, op: Op, step: Step) -> None:
        op.integers = (POOLINGS.index(step.attributes["pooling"]),)
