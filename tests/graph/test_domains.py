"""Rows of several kinds: where they lie, how they follow from one another, and what ops that move them give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from edgeformer.errors import InvalidInputError, ModelFormatError, NotEnoughMemoryError
from edgeformer.graph.domains import (
    ROWS,
    SEGMENTS,
    Features,
    Joined,
    JoinedRows,
    Split,
    Unfolded,
    UnwindowedRows,
    Window,
    Windowed,
    WindowedRows,
    as_grids,
    starts_of,
    with_parents,
)
from edgeformer.graph.graph import Graph
from hypothesis import given
from hypothesis import strategies as st
from support.graph_runs import interpret_graph, random_tensors, run_graph

PIXELS = Features("pixels", 3)


def pixels(grids: list[tuple[int, int]], width: int = 3, seed: int = 5) -> np.ndarray:
    """Random rows of these grids."""
    count = sum(height * columns for height, columns in grids)
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


sides = st.integers(1, 7)
grids_of_runs = st.lists(st.tuples(sides, sides), min_size=1, max_size=3)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
windows = st.builds(Window, pairs, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)), pairs)


def unfolded(image: np.ndarray, window: Window) -> np.ndarray:
    """Rows under a window at every place, one number after the other: the definition of a convolution's input."""
    height, width, columns = image.shape
    rows = []
    reach = [dilation * (kernel - 1) for dilation, kernel in zip(window.dilation, window.kernel, strict=True)]
    for top in range(-window.padding[0], height + window.padding[0] - reach[0], window.stride[0]):
        for left in range(-window.padding[1], width + window.padding[1] - reach[1], window.stride[1]):
            row = []
            for i in range(window.kernel[0]):
                for j in range(window.kernel[1]):
                    y, x = top + i * window.dilation[0], left + j * window.dilation[1]
                    row.append(image[y, x] if 0 <= y < height and 0 <= x < width else np.zeros(columns, np.float32))
            rows.append(np.concatenate(row))
    return np.array(rows, np.float32).reshape(-1, window.taps * columns)


@given(grids_of_runs, windows, st.integers(1, 3))
def test_unfolding_is_what_a_convolution_looks_at(grids: list, window: Window, threads: int) -> None:
    graph, image = Graph({}), pixels(grids)
    graph.output("taps", graph.unfold(graph.features(PIXELS), window))
    lengths = {ROWS: np.array(grids, np.int32)}
    starts = starts_of(lengths[ROWS])
    wanted = [
        unfolded(image[start : start + h * w].reshape(h, w, 3), window)
        for start, (h, w) in zip(starts, grids, strict=False)
    ]
    rows = np.concatenate(wanted)
    assert np.array_equal(interpret_graph(graph, {}, lengths, {"pixels": image})["taps"], rows)
    assert np.array_equal(run_graph(graph, {}, lengths, {"pixels": image}, threads=threads)["taps"], rows)


def test_a_convolution_is_an_unfolding_and_a_product(isa: str) -> None:
    """torch.nn.Conv2d's numbers, by its definition: cross-correlation with the kernel."""
    window = Window((3, 2), (2, 1), (1, 0))
    tensors = random_tensors({"conv.weight": (5, 3 * 2 * 3), "conv.bias": (5,)})
    graph = Graph({name: tensor.shape for name, tensor in tensors.items()})
    graph.output("y", graph.linear(graph.unfold(graph.features(PIXELS), window), "conv", 5))
    image = pixels([(6, 5)])
    result = run_graph(graph, tensors, {ROWS: np.array([[6, 5]])}, {"pixels": image}, isa=isa)["y"]
    kernel = tensors["conv.weight"].reshape(5, 3, 2, 3).astype(np.float64)
    padded = np.pad(image.reshape(6, 5, 3), ((1, 1), (0, 0), (0, 0)))
    for y in range(3):
        for x in range(4):
            wanted = (kernel * padded[2 * y : 2 * y + 3, x : x + 2]).sum((1, 2, 3)) + tensors["conv.bias"]
            assert np.allclose(result[y * 4 + x], wanted, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_in_groups(isa: str, groups: int) -> None:
    window, shapes = Window((3, 1), padding=(1, 0)), {"conv.weight": (12, 3 * 6 // groups), "conv.bias": (12,)}
    graph, tensors = Graph(shapes), random_tensors(shapes)
    graph.output("y", graph.convolution(graph.features(Features("rows", 6)), "conv", 12, window, groups=groups))
    x = pixels([(5, 1)], 6)
    result = run_graph(graph, tensors, {ROWS: [5]}, {"rows": x}, isa=isa)["y"]
    padded = np.pad(x.astype(np.float64), ((1, 1), (0, 0)))
    columns, outputs = 6 // groups, 12 // groups
    for group in range(groups):
        mine, wanted = slice(group * outputs, (group + 1) * outputs), padded[:, group * columns : (group + 1) * columns]
        kernel = tensors["conv.weight"][mine].reshape(outputs, 3, columns)
        taps = np.stack([wanted[i : i + 3] for i in range(5)])
        sums = np.einsum("rtc,otc->ro", taps, kernel)
        assert np.allclose(result[:, mine], sums + tensors["conv.bias"][mine], atol=1e-4)


@given(grids_of_runs, windows, st.sampled_from(["max", "mean", "weighted"]), st.integers(1, 3))
def test_windows_over_grids_are_reduced_as_defined(grids: list, window: Window, kind: str, threads: int) -> None:
    shapes = {"taps.weight": (window.taps, 3), "taps.bias": (3,)}
    graph, tensors, image = Graph(shapes), random_tensors(shapes), pixels(grids)
    x = graph.features(PIXELS)
    graph.output("y", graph.depthwise(x, "taps", window) if kind == "weighted" else graph.pool_grid(x, window, kind))
    lengths, inputs = {ROWS: np.array(grids, np.int32)}, {"pixels": image}
    result = run_graph(graph, tensors, lengths, inputs, threads=threads)["y"]
    assert np.allclose(result, interpret_graph(graph, tensors, lengths, inputs)["y"], atol=1e-5)
    marks, rows = [], []  # by the definition: what lies under the window, and whether anything does
    for start, (h, w) in zip(starts_of(lengths[ROWS]), grids, strict=False):
        rows.append(unfolded(image[start : start + h * w].reshape(h, w, 3), window).reshape(-1, window.taps, 3))
        marks.append(unfolded(np.ones((h, w, 1), np.float32), window).reshape(-1, window.taps, 1))
    under, inside = np.concatenate(rows), np.concatenate(marks)
    count = np.maximum(inside.sum(1), 1)
    wanted = {
        "max": np.where(inside.any(1), np.where(inside > 0, under, -np.inf).max(1), 0),
        "mean": under.sum(1) / count,
        "weighted": (under * tensors["taps.weight"]).sum(1) + tensors["taps.bias"],
    }
    assert np.allclose(result, wanted[kind], atol=1e-5)


def test_a_transposed_convolution_is_an_unfolding_a_product_and_a_split() -> None:
    """A stride of two: every place gives two rows, from the rows that reach them."""
    tensors = random_tensors({"up.weight": (2 * 4, 2 * 3)})
    graph = Graph({"up.weight": (8, 6)})
    taps = graph.unfold(graph.features(PIXELS), Window((2, 1), padding=(1, 0)))
    graph.output("y", graph.split(graph.linear(taps, "up", 8), 2))
    image = pixels([(3, 1), (2, 1)])
    result = run_graph(graph, tensors, {ROWS: [3, 2]}, {"pixels": image})["y"]
    assert np.allclose(result, interpret_graph(graph, tensors, {ROWS: [3, 2]}, {"pixels": image})["y"], atol=1e-5)
    # y[2 i + p] = W[p] (x[i - 1], x[i]), i = 0 .. n: a kernel of four, two of whose columns meet each row.
    weight = tensors["up.weight"].reshape(2, 4, 6)
    rows = np.concatenate([np.zeros((1, 3)), image[:3], np.zeros((1, 3))])
    wanted = [weight[p] @ np.concatenate([rows[i], rows[i + 1]]) for i in range(4) for p in range(2)]
    assert np.allclose(result[:8], wanted, atol=1e-5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_joined_rows_are_one_sequence_after_the_other(lengths: list) -> None:
    first, second = (np.array(some) for some in zip(*lengths, strict=True))
    joined = Joined(ROWS, SEGMENTS)
    assert with_parents([joined]) == [ROWS, SEGMENTS, joined]
    grids = {ROWS: as_grids(first), SEGMENTS: as_grids(second)}
    wanted, a, b = [], 0, int(first.sum())
    for m, n in lengths:
        wanted += [*range(a, a + m), *range(b, b + n)]
        a, b = a + m, b + n
    assert JoinedRows(joined).rows(grids.__getitem__).tolist() == wanted
    assert joined.grids(grids[ROWS], grids[SEGMENTS]).tolist() == [[m + n, 1] for m, n in lengths]


@pytest.mark.parametrize("run", [run_graph, interpret_graph])
def test_a_class_token_before_patches(run) -> None:
    tensors = random_tensors({"class.weight": (1, 3)})
    graph = Graph({"class.weight": (1, 3)})
    rows = graph.join(graph.repeat("class", 3, SEGMENTS), graph.features(PIXELS))
    graph.output("rows", rows)
    graph.output("first", graph.pool(rows, "first"))
    image, token = pixels([(2, 1), (3, 1)]), tensors["class.weight"]
    results = run(graph, tensors, {ROWS: [2, 3]}, {"pixels": image})
    assert np.array_equal(results["rows"], np.concatenate([token, image[:2], token, image[2:]]))
    assert np.array_equal(results["first"], np.concatenate([token, token]))


@given(grids_of_runs, pairs, st.data())
def test_windows_hold_every_row_once_and_come_back(grids: list, size: tuple[int, int], data: st.DataObject) -> None:
    shift = data.draw(st.tuples(st.integers(0, size[0] - 1), st.integers(0, size[1] - 1)))
    windowed, base = Windowed(ROWS, size, shift), np.array(grids, np.int32)
    rows = WindowedRows(windowed).rows({ROWS: base}.__getitem__)
    assert sorted(rows.tolist()) == list(range(int(base.prod(axis=1).sum())))
    back = UnwindowedRows(windowed).rows({ROWS: base}.__getitem__)
    assert np.array_equal(rows[back], np.arange(len(rows)))
    cut = windowed.grids(base)
    assert (cut <= size).all() and cut.prod(axis=1).sum() == len(rows)
    for begin, end in pairwise(starts_of(cut)):  # rows of one window lie in one square of the shifted grid
        segment = np.searchsorted(starts_of(base), rows[begin], "right") - 1
        places = rows[begin:end] - starts_of(base)[segment]
        squares = (np.stack(np.divmod(places, base[segment][1]), 1) - shift) // size
        assert len(np.unique(squares, axis=0)) == 1


def test_attention_stays_within_windows(isa: str) -> None:
    graph = Graph({})
    x = graph.windows(graph.features(Features("pixels", 8)), (2, 2), (1, 1))
    cache = graph.cache("pass", 1, 2, 4, 4, "pass")
    graph.store_kv(x, x, cache, 0)
    graph.output("y", graph.unwindow(graph.attention(x, cache, 0, causal=False, scale=0.5)))
    image, lengths = pixels([(3, 4), (2, 2)], 8), {ROWS: np.array([[3, 4], [2, 2]], np.int32)}
    result = run_graph(graph, {}, lengths, {"pixels": image}, isa=isa, threads=2)["y"]
    assert np.allclose(result, interpret_graph(graph, {}, lengths, {"pixels": image})["y"], atol=1e-5)
    lonely = image.copy()
    lonely[0] += 1.0  # alone in its window, the corner that the shift cuts off
    assert np.array_equal(run_graph(graph, {}, lengths, {"pixels": lonely}, isa=isa)["y"][1:], result[1:])


def test_attention_reads_from_one_domain_into_another(isa: str) -> None:
    graph = Graph({})
    queries = graph.features(Features("queries", 8, SEGMENTS))
    keys = graph.unfold(graph.features(Features("pixels", 8)), Window((1, 1), (2, 1)))
    cache = graph.cache("memory", 1, 2, 4, 4, "pass")
    graph.store_kv(keys, keys, cache, 0)
    graph.output("y", graph.attention(queries, cache, 0, causal=False, scale=0.5))
    inputs = {"pixels": pixels([(5, 1), (8, 1)], 8), "queries": pixels([(2, 1)], 8, seed=6)}
    result = run_graph(graph, {}, {ROWS: [5, 8]}, inputs, isa=isa)["y"]
    assert np.allclose(result, interpret_graph(graph, {}, {ROWS: [5, 8]}, inputs)["y"], atol=1e-5)
    alone = {"pixels": inputs["pixels"][5:], "queries": inputs["queries"][1:]}
    assert np.array_equal(run_graph(graph, {}, {ROWS: [8]}, alone, isa=isa)["y"], result[1:])


def test_pages_that_do_not_suffice_are_named() -> None:
    graph = Graph({})
    x = graph.features(Features("pixels", 8))
    cache = graph.cache("pass", 1, 1, 8, 8, "pass")
    graph.store_kv(x, x, cache, 0)
    graph.output("y", graph.attention(x, cache, 0, causal=False, scale=1.0))
    with pytest.raises(NotEnoughMemoryError, match="pages of 33 rows"):
        run_graph(graph, {}, {ROWS: [16, 17]}, {"pixels": pixels([(33, 1)], 8)}, pages=2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda graph, x: graph.split(x, 2), "3 columns in 2 parts"),
        (lambda graph, x: graph.unwindow(x), "in no windows"),
        (lambda graph, x: graph.convolution(x, "conv", 6, Window((1, 1)), groups=2), "2 groups of 3 columns to 6"),
        (lambda graph, x: graph.concatenate(x, graph.unfold(x, Window((1, 1)))), "rows of two kinds"),
        (lambda graph, x: graph.join(x, graph.features(Features("more", 4, SEGMENTS))), "rows of 3 and of 4 columns"),
    ],
)
def test_what_does_not_fit_is_told_while_building(build, message: str) -> None:
    graph = Graph({})
    with pytest.raises(ModelFormatError, match=message):
        build(graph, graph.features(PIXELS))


def test_features_of_another_shape_are_refused() -> None:
    graph = Graph({})
    graph.output("x", graph.features(PIXELS))
    with pytest.raises(InvalidInputError, match=r"float input 0: 2 rows of 4, not 2 of 3"):
        run_graph(graph, {}, {ROWS: [2]}, {"pixels": pixels([(2, 1)], 4)})


def test_domains_are_equal_where_they_are_made_alike() -> None:
    """Two unfoldings of the same rows have rows of one domain, which may be added."""
    window = Window((3, 1), (2, 1), (1, 0))
    assert Unfolded(ROWS, window) == Unfolded(ROWS, Window((3, 1), (2, 1), (1, 0)))
    assert Split(ROWS, 2) != Split(SEGMENTS, 2)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_graph_that_does_not_ask_for_grids_takes_them(pooled: bool) -> None:
    graph, image = Graph({}), pixels([(2, 3), (1, 2)])
    x = graph.activation(graph.features(PIXELS), "relu")
    graph.output("y", graph.pool(x, "first") if pooled else x)
    result = run_graph(graph, {}, {ROWS: np.array([(2, 3), (1, 2)])}, {"pixels": image})["y"]
    assert np.array_equal(result, np.maximum(image[[0, 6]] if pooled else image, 0))
