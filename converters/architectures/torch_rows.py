"""What the converters of torch.nn's layers share: the tensors of a layer, and tables of sinusoidal positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ...host.exact import power
from .huggingface import Config
from .parts import Bias, Row, linear, norm, part

__all__ = ["rows_of_layer", "sinusoids"]

Float64 = NDArray[np.float64]

_ATTENTIONS = {"enc": {"attn": "self_attn"}, "dec": {"attn": "self_attn", "cross_attn": "multihead_attn"}}


def rows_of_layer(side: str, layer: str, metadata: dict[str, Any]) -> list[Row]:
    """The tensors of a layer of either stack."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, attentions = f"{side}.blk.{{}}", _ATTENTIONS[side].items()
    norms = enumerate([*(f"{target}_norm" for target, _ in attentions), "ffn_norm"], start=1)
    return [
        *(
            row
            for target, name in attentions
            for row in rows_of_attention(f"{block}.{target}", f"{layer}.{name}", width)
        ),
        *(norm(f"{block}.{target}", f"{layer}.norm{number}", width, Bias.OR_ZEROS) for number, target in norms),
        linear(f"{block}.ffn_up", f"{layer}.linear1", hidden_width, width, Bias.OPTIONAL),
        linear(f"{block}.ffn_down", f"{layer}.linear2", width, hidden_width, Bias.OPTIONAL),
    ]


def rows_of_attention(target: str, name: str, width: int) -> list[Row]:
    """Torch stacks the query, key and value projections in one matrix, `in_proj_weight`."""
    stacked = [
        Row(f"{target}_{letter}", f"{name}.in_proj", (width, width), Bias.OPTIONAL, joint="_") for letter in "qkv"
    ]
    projections = [part(row, index * width, 3 * width) for index, row in enumerate(stacked)]
    return [*projections, linear(f"{target}_output", f"{name}.out_proj", width, width, Bias.OPTIONAL)]


def sinusoids(encoding: Config, width: int) -> tuple[Float64, int, bool]:
    """What `sinusoidal_table` needs: frequencies [width / 2], the first row's position, whether sine and cosine
    alternate.

    Of the configuration: ``layout``: "interleaved" (sine and cosine in turns) or "concatenated" (all sines, then all
    cosines); ``first_position``: the position of the first row; ``log_timescale``: the logarithm of the ratio between
    neighbouring frequencies, in one of the two spellings in use.
    """
    if width % 2:
        raise ConversionError(f"{encoding.path}: an odd d_model = {width} has no sinusoidal positions")
    spellings = {"log(10000)/(d_model/2)": width // 2, "log(10000)/(d_model/2-1)": width // 2 - 1}
    for key in ("layout", "log_timescale"):
        encoding.get(key, str)  # implementations differ, so there is no default
    steps = spellings[encoding.expect("log_timescale", *spellings)]
    if steps == 0:
        raise ConversionError(f"{encoding.path}: d_model = {width} is too small for this log_timescale")
    interleaved = encoding.expect("layout", "interleaved", "concatenated") == "interleaved"
    first = encoding.get("first_position", int, 0)
    if not 0 <= first < 1 << 22:
        raise encoding.fail("first_position", "not a number from 0 to 2**22")
    return np.array([power(10000, -pair, steps) for pair in range(width // 2)]), first, interleaved
