"""A routed model reads the experts that its rows choose, and no others: without the others it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from edgeformer.engine.packing import pack
from edgeformer.files.gguf.reader import GGUFFile
from support.small_models import MODELS

EXPERTS, USED, WIDTH, EXPERT_WIDTH = 16, 2, 256, 1024


def routed_model(path: Path) -> Path:
    """One layer of Qwen3 with many wide experts and a router of zeros, packed."""
    model = MODELS["qwen3moe"]()
    sizes = {"block_count": 1, "embedding_length": WIDTH, "expert_count": EXPERTS, "expert_used_count": USED}
    sizes |= {"expert_feed_forward_length": EXPERT_WIDTH, "rope__dimension_count": 16}
    sizes |= {"attention__head_count": 2, "attention__head_count_kv": 1}
    sizes |= {"attention__key_length": 16, "attention__value_length": 16}
    model = model.with_metadata(**{f"qwen3moe__{key}": value for key, value in sizes.items()})
    wide, narrow = (EXPERTS, EXPERT_WIDTH, WIDTH), (EXPERTS, WIDTH, EXPERT_WIDTH)
    shapes = {"attn_q": (32, WIDTH), "attn_k": (16, WIDTH), "attn_v": (16, WIDTH), "attn_output": (WIDTH, 32)}
    shapes |= {"attn_q_norm": (16,), "attn_k_norm": (16,), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    shapes |= {"ffn_gate_inp": (EXPERTS, WIDTH), "ffn_gate_exps": wide, "ffn_up_exps": wide, "ffn_down_exps": narrow}
    for name in [name for name in model.shapes if name.startswith("blk.")]:
        model = model.with_shape(name, None)
    model = model.with_shape("token_embd.weight", (model.shapes["token_embd.weight"][0], WIDTH))
    model = model.with_shape("output_norm.weight", (WIDTH,))
    for name, shape in shapes.items():
        model = model.with_shape(f"blk.0.{name}.weight", shape)
        if name.endswith("exps"):
            model = model.with_type(f"blk.0.{name}.weight", "q8_0")
    plain = model.write(path / "plain.gguf")
    with GGUFFile(plain) as file:
        router = file.tensors["blk.0.ffn_gate_inp.weight"]
    with plain.open("r+b") as raw:
        raw.seek(router.offset)
        raw.write(bytes(router.nbytes))
    pack(plain, path / "packed.gguf")
    return path / "packed.gguf"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return routed_model(tmp_path_factory.mktemp("routed"))


def forward_without(packed: Path, experts: range) -> subprocess.CompletedProcess[str]:
    """Another process runs a row after it has lost these experts: to look at one of them ends it."""
    command = [sys.executable, "-c", CHILD, str(packed), str(experts.start), str(experts.stop)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


CHILD = """
import ctypes, sys
from pathlib import Path
import numpy as np
from edgeformer.engine.session import Session
from edgeformer.files.gguf.reader import GGUFFile

path, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
session = Session.open(path, threads=2)
before = session.forward([(session.new_sequence(), [5])])
line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(path))
begin = int(line.split("-")[0], 16)
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
lost = 0
with GGUFFile(path) as file:
    for name, info in file.tensors.items():
        if name.endswith("exps.weight"):
            each = info.nbytes // info.shape[0]
            start, end = (begin + info.offset + expert * each for expert in (first, last))
            start, end = -(-start // 4096) * 4096, end // 4096 * 4096
            assert protect(start, end - start, 0) == 0, ctypes.get_errno()
            lost += end - start
assert np.array_equal(session.forward([(session.new_sequence(), [5])]), before)
print(lost)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are taken away by Linux's names")
def test_only_chosen_experts_are_read(packed: Path) -> None:
    """A router of zeros chooses the first two experts of sixteen."""
    run = forward_without(packed, range(USED, EXPERTS))
    assert run.returncode == 0, run.stderr
    with GGUFFile(packed) as file:
        experts = sum(info.nbytes for name, info in file.tensors.items() if "exps" in name)
    assert int(run.stdout) > experts * (EXPERTS - USED) // EXPERTS - 3 * 2 * 4096
    for chosen in (range(1), range(USED - 1, USED)):
        assert forward_without(packed, chosen).returncode != 0
