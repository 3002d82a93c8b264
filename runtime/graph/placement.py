"""The last pass of the compiler: buffers for every value, and the flat ops over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._kernels import core
from .domains import Domain, Features, Index, with_parents
from .expert_ops import SCORINGS
from .graph import ACTIVATIONS, PAIRINGS, POOLINGS, Graph
from .position_bias import DistanceBuckets, PositionBias
from .recipe import (
    ALIGNMENT,
    BLOCK_BYTES,
    BLOCK_COLUMNS,
    ROW_TOTAL_BYTES,
    Buffer,
    MatrixPart,
    Op,
    Operand,
    Recipe,
    Stack,
    VectorPart,
    VectorSpec,
    padded,
)
from .row_ops import REDUCTIONS
from .steps import Step, Views
from .values import Value

# Fields that number a name; the names stand in the order of the C enums.
NUMBERED = {
    "activation": ACTIVATIONS,
    "pairing": PAIRINGS,
    "pooling": POOLINGS,
    "scoring": SCORINGS,
    "reduction": REDUCTIONS,
}
ABSENT = -1  # in place of a vector's number
WITH_WEIGHTS = frozenset({"attention", "embed", "expert_linear", "linear", "rotary", "route", "row_function", "window"})


def place(steps: list[Step], graph: Graph, views: Views, outputs: Sequence[str]) -> Recipe:
    """Buffers for every value and the flat ops over them."""
    placer = _Placer(steps, graph, views, outputs)
    for position, step in enumerate(steps):
        placer.emit(position, step)
    recipe = placer.recipe
    for name in outputs:
        value = graph.outputs[name]
        operand = placer.operand(value)
        recipe.buffers[operand.buffer].last = len(steps)
        recipe.outputs[name] = (operand, value.width, value.domain)
    chain(recipe)
    return recipe


def chain(recipe: Recipe) -> None:
    """Buffers touched in a chain live through all of it: one range of rows is at its end where another begins."""
    starts: list[int] = []  # of each op's chain
    for position, op in enumerate(recipe.ops):
        before = recipe.ops[position - 1] if position else op
        goes_on = position and before.domain == op.domain and {before.kind, op.kind} <= core.ROW_WISE_OPS
        starts.append(starts[-1] if goes_on else position)
    for buffer in recipe.buffers:
        buffer.first = starts[buffer.first]
        while buffer.last + 1 < len(starts) and starts[buffer.last + 1] == starts[buffer.last]:
            buffer.last += 1


class _Placer:
    """State of the last pass."""

    def __init__(self, steps: list[Step], graph: Graph, views: Views, outputs: Sequence[str]) -> None:
        self.recipe, self.views = Recipe(caches=list(graph.caches)), views
        self.shapes = graph.tensor_shapes
        self.operands: dict[int, Operand] = {}
        self.quantized: dict[int, Operand] = {}
        self.last_use = {views.root(v).index: i for i, step in enumerate(steps) for v in step.reads}
        self.last_use |= {views.root(graph.outputs[name]).index: len(steps) for name in outputs}
        self.owners: dict[int, int] = {}  # buffer -> how many values live in it
        self.stacks: dict[Stack, int] = {}  # -> its matrix, which ops share
        self.biases: dict[PositionBias | DistanceBuckets, int] = {}  # -> its vector, which layers share

    def emit(self, position: int, step: Step) -> None:
        """Appends the step's op."""
        inputs = [self._read(position, step, value) for value in step.reads]
        output = self._outputs(position, step) if step.float_output else None
        quantized = self._quantized(position, step) if step.quantized is not None else None
        main = step.outputs[0] if step.outputs else step.inputs[0]
        self._domain(main.domain)
        op = Op(step.kind, main.domain, tuple(inputs), output, quantized, step.row_scale, width=main.width)
        op.fields = self._fields(step)
        if step.kind in WITH_WEIGHTS:
            getattr(self, f"_{step.kind}")(op, step)
        self.recipe.ops.append(op)

    def operand(self, value: Value) -> Operand:
        """Where a value's floats are."""
        root, first = self.views.place(value)
        whole = self.operands[root.index]
        return Operand(whole.buffer, whole.column + first) if first else whole

    def _read(self, position: int, step: Step, value: Value) -> Operand:
        quantized = step.reads_quantized and value is step.inputs[0]
        operand = self.quantized[value.index] if quantized else self.operand(value)
        buffer = self.recipe.buffers[operand.buffer]
        buffer.last = max(buffer.last, position)
        return operand

    def _buffer(self, position: int, domain: Domain, row_bytes: int) -> int:
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
            operand = self.operand(step.inputs[0])
            self.owners[operand.buffer] += self.views.root(step.inputs[0]) is not step.inputs[0]
            return operand
        summand = step.residual or (step.inputs[0] if step.kind in ("add", "embed") and step.inputs else None)
        if summand is None or len(step.outputs) != 1 or self.last_use.get(summand.index) != position:
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

    def _matrix(self, stack: Stack) -> int:
        number = self.stacks.setdefault(stack, len(self.stacks))
        if number == len(self.recipe.matrices):
            self.recipe.matrices.append(stack)
        return number

    def _fields(self, step: Step) -> dict[str, int | float]:
        """The op's own fields, as plan/op_list.h names them, from the attributes of the same names."""
        return {
            name: self._number(name, step.attributes[name]) for name in core.OPS[step.kind] if name in step.attributes
        }

    def _number(self, field: str, value: Any) -> int | float:
        if isinstance(value, Domain):
            return self._domain(value)
        if isinstance(value, Index):
            return _place(value, self.recipe.indices)
        if isinstance(value, Features):
            return _place(value, self.recipe.features)
        if field == "cache":
            return [spec.name for spec in self.recipe.caches].index(value)
        if field in NUMBERED:
            return NUMBERED[field].index(value)
        return -1 if value is None else value

    def _domain(self, domain: Domain) -> int:
        """Its number, after those of all that it follows from."""
        if domain not in self.recipe.domains:
            for one in with_parents([domain]):
                _place(one, self.recipe.domains)
        return self.recipe.domains.index(domain)

    # -- weights and vectors, of the kinds that have them --

    def _embed(self, op: Op, step: Step) -> None:
        op.weight = self._matrix((MatrixPart(step.tensors[0][0], 0, step.attributes["table_rows"]),))

    def _linear(self, op: Op, step: Step) -> None:
        widths = [value.width for value in (step.outputs * 2 if step.gated else step.outputs)]
        rows = list(zip(step.tensors, step.first_rows, widths, strict=True))
        op.weight = self._matrix(tuple(MatrixPart(names[0], first, width) for names, first, width in rows))
        op.width = sum(padded(v.width) for v in step.outputs[:-1]) + step.outputs[-1].width
        op.fields = {"activation": self._number("activation", step.activation), "gated": int(step.gated)}
        op.fields |= {"groups": step.attributes["groups"]} if step.attributes["groups"] > 1 else {}
        if any(len(names) > 1 for names in step.tensors):
            parts = [VectorPart(names[1] if len(names) > 1 else None, width, first) for names, first, width in rows]
            op.vectors = (self._vector(VectorSpec(tuple(parts))),)

    def _expert_linear(self, op: Op, step: Step) -> None:
        firsts = [expert * op.width for expert in range(step.attributes["num_experts"])]
        weight, *bias = step.tensors[0]
        op.weight = self._matrix(tuple(MatrixPart(weight, first, op.width) for first in firsts))
        if bias:
            op.vectors = (self._vector(VectorSpec(tuple(VectorPart(bias[0], op.width, first) for first in firsts))),)

    def _window(self, op: Op, step: Step) -> None:
        if step.tensors[0]:
            weight, *bias = step.tensors[0]
            taps = step.attributes["kernel_height"] * step.attributes["kernel_width"]
            weights = VectorSpec(tuple(VectorPart(weight, op.width, tap * op.width) for tap in range(taps)))
            biases = [self._vector(VectorSpec((VectorPart(name, op.width),))) for name in bias]
            op.vectors = (self._vector(weights), *biases)

    def _route(self, op: Op, step: Step) -> None:
        if step.tensors[0]:
            bias = VectorPart(step.tensors[0][0], step.attributes["num_experts"])
            op.vectors = (self._vector(VectorSpec((bias,))),)

    def _row_function(self, op: Op, step: Step) -> None:
        op.width //= step.attributes["groups"]
        op.function = step.attributes["function"]
        names = (step.attributes["weight"], step.attributes["bias"])
        op.vectors = tuple(
            ABSENT if name is None else self._vector(VectorSpec((VectorPart(name, op.width),))) for name in names
        )

    def _rotary(self, op: Op, step: Step) -> None:
        divisor = step.tensors[0][0] if step.tensors[0] else None
        op.vectors = (self._vector(VectorSpec(constant=step.attributes["frequencies"], divisor=divisor)),)

    def _attention(self, op: Op, step: Step) -> None:
        bias, sinks = step.attributes["bias"] or step.attributes["relative"], step.attributes["sinks"]
        if bias is not None:
            op.fields |= bias.fields
            if bias not in self.biases:
                self.biases[bias] = self._vector(self._bias_spec(bias))
        table = -1 if bias is None else self.biases[bias]
        op.vectors = (
            table,
            -1 if sinks is None else self._vector(VectorSpec((VectorPart(sinks, step.attributes["num_heads"]),))),
        )

    def _bias_spec(self, bias: PositionBias | DistanceBuckets) -> VectorSpec:
        if isinstance(bias, DistanceBuckets) or bias.tensor is None:
            return VectorSpec(constant=bias.table())
        size = math.prod(self.shapes[bias.tensor])
        return VectorSpec((VectorPart(bias.tensor, size),), indices=bias.table())


def _place(item: Any, items: list[Any]) -> int:
    """The number of an item, which is put at the end where it is new."""
    if item not in items:
        items.append(item)
    return items.index(item)
