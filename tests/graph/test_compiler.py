"""The compiler: what it fuses and merges, and that buffers alive together never share bytes."""

from __future__ import annotations

import pytest
from edgeformer.errors import ModelFormatError
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import Graph, rotary_frequencies
from edgeformer.graph.recipe import Recipe
from hypothesis import given
from hypothesis import strategies as st
from support.small_graphs import Q8_0, VOCAB, WIDTH, compiled, llama_graph, llama_tensors


def kinds(recipe: Recipe) -> list[str]:
    return [op.kind for op in recipe.ops]


def stacks(recipe: Recipe) -> list[tuple[str, ...]]:
    return [tuple(part.name for part in stack) for stack in recipe.matrices]


def test_llama_layer_is_four_products_and_friends() -> None:
    """Everything that feeds quantized weights quantizes its result itself; gates and sums are in the products."""
    layer = ["row_function", "linear", "rope", "rope", "store_kv", "attention", "linear"]
    layer += ["row_function", "linear", "linear"]
    assert kinds(compiled()) == ["rotary", "embed", *layer, *layer, "gather", "row_function", "linear"]


def test_heads_that_are_no_whole_blocks_are_quantized_by_an_op_of_their_own() -> None:
    recipe = compile_graph(llama_graph(1, heads=4), ("logits",), lambda name: True, lambda name: Q8_0)
    assert kinds(recipe)[6:10] == ["store_kv", "attention", "quantize", "linear"]


def test_gate_and_up_of_different_types_are_gated_by_an_op_of_their_own() -> None:
    recipe = compile_graph(llama_graph(1), ("logits",), lambda name: True, lambda name: 2 if "ffn_up" in name else Q8_0)
    (gate,) = [op for op in recipe.ops if op.kind == "gate"]
    assert gate.quantized is not None and gate.output is None


def test_float_weights_need_no_quantization() -> None:
    recipe = compiled(quantized=False)
    assert "quantize" not in kinds(recipe)
    assert all(op.quantized is None for op in recipe.ops)


def test_query_key_value_share_one_matrix_and_its_columns() -> None:
    recipe = compiled()
    assert ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight") in stacks(recipe)
    store = next(op for op in recipe.ops if op.kind == "store_kv")
    assert [operand.column for operand in store.inputs] == [WIDTH, 2 * WIDTH]


def test_different_types_are_not_merged() -> None:
    graph = llama_graph(1)
    recipe = compile_graph(graph, ("logits",), lambda name: True, lambda name: 2 if "attn_v" in name else Q8_0)
    assert ("blk.0.attn_q.weight", "blk.0.attn_k.weight") in stacks(recipe)
    assert ("blk.0.attn_v.weight",) in stacks(recipe)


def test_what_is_not_asked_is_not_computed() -> None:
    recipe = compiled(("hidden",))
    assert "select" not in kinds(recipe)
    assert set(recipe.outputs) == {"hidden"}


def test_the_residual_stream_stays_in_one_buffer() -> None:
    recipe = compiled(layers=4)
    sums = {op.output.buffer for op in recipe.ops if op.kind == "linear" and len(op.inputs) == 2 and op.output}
    assert len(sums) == 1


@given(
    st.integers(1, 4),
    st.booleans(),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.sampled_from([("logits",), ("hidden",), ("logits", "hidden")]),
)
def test_buffers_alive_together_never_overlap(
    layers: int, quantized: bool, rows: tuple[int, int], outputs: tuple[str, ...]
) -> None:
    recipe = compiled(outputs, quantized, layers)
    capacities = recipe.capacities(*rows)
    offsets, total = recipe.layout(capacities)
    spans = []
    for offset, buffer in zip(offsets, recipe.buffers, strict=True):
        size = buffer.row_bytes * capacities[recipe.domains.index(buffer.domain)]
        assert offset % 64 == 0 and offset + size <= total
        for begin, end, other in spans:
            if other.first <= buffer.last and buffer.first <= other.last:
                assert offset + size <= begin or end <= offset
        spans.append((offset, offset + size, buffer))


def test_every_operand_is_written_before_it_is_read_and_still_alive() -> None:
    recipe = compiled(("logits", "hidden"))
    written: set[int] = set()
    for position, op in enumerate(recipe.ops):
        for operand in op.inputs:
            buffer = recipe.buffers[operand.buffer]
            assert operand.buffer in written and buffer.first <= position <= buffer.last
        written |= {o.buffer for o in (op.output, op.quantized) if o is not None}


def test_missing_and_misshapen_tensors_are_named() -> None:
    shapes = llama_tensors(1)
    graph = Graph({name: shape for name, shape in shapes.items() if name != "token_embd.weight"}, "model.gguf")
    with pytest.raises(ModelFormatError, match=r"token_embd\.weight"):
        graph.embed(TOKENS, "token_embd", VOCAB, WIDTH)
    with pytest.raises(ModelFormatError, match=r"expected \[40, 32\]"):
        Graph(shapes, "model.gguf").embed(TOKENS, "token_embd", VOCAB, 32)


def test_rotary_frequencies_are_powers_of_the_base() -> None:
    frequencies = rotary_frequencies(8, 10000.0)
    assert frequencies.tolist() == pytest.approx([1.0, 0.1, 0.01, 0.001], rel=1e-7)
