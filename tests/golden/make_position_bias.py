"""Writes position_bias.json: buckets of T5 and of DeBERTa and slopes of ALiBi as transformers computes them.

usage: python tests/golden/make_position_bias.py      needs: torch transformers
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.t5.modeling_t5 import T5Attention

BUCKETS = ((32, 128), (64, 256), (8, 20), (4, 3), (10, 100))
SIDES = ((256, 512), (8, 150), (4, 6), (10, 64), (32, 40))
HEADS = (1, 2, 3, 6, 8, 12, 16, 20, 71)


def buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> list[int]:
    """Of distances from -max_distance - 3 on, as far ahead as there are any."""
    reach = max_distance + 3
    distance = torch.arange(-reach, reach + 1 if bidirectional else 1)
    return T5Attention._relative_position_bucket(distance, bidirectional, num_buckets, max_distance).tolist()


def log_buckets(side: int, farthest: int) -> list[int]:
    """Of key position - query position from -farthest on, within what there is."""
    distance = torch.arange(farthest, -farthest - 1, -1)
    return torch.clamp(make_log_bucket_position(distance, side, farthest) + side, 0, 2 * side - 1).long().tolist()


def slopes(num_heads: int) -> list[float]:
    return build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1].tolist()


numbers = {
    "buckets": [[*pair, both, buckets(*pair, both)] for pair in BUCKETS for both in (True, False)],
    "log_buckets": [[*pair, log_buckets(*pair)] for pair in SIDES],
    "slopes": {heads: slopes(heads) for heads in HEADS},
}
Path(__file__).with_suffix(".json").with_stem("position_bias").write_text(json.dumps(numbers) + "\n")
