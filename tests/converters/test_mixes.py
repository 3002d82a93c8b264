"""Which type each matrix gets: as llama.cpp's quantizer chose for the models of golden/quantized_shapes.py."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import gguf
import pytest
from edgeformer.converters.types.mixes import MIXES
from edgeformer.converters.types.policy import Policy
from edgeformer.errors import InvalidOptionError
from edgeformer.quants import TYPES
from golden.quantized_shapes import MODELS, grouped_by_role, shapes

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "llama_quantize_types.json").read_text())["models"]
CASES = [(key, mix) for key, mixes in GOLDEN.items() for mix in mixes]

OWN = {kind.name: kind.id for kind in TYPES.values() if kind.is_own}


def expanded(runs: str) -> list[str]:
    """``"q6_k*2 q4_k*1"`` to the types of the layers."""
    return list(chain.from_iterable([kind] * int(count) for kind, count in (run.split("*") for run in runs.split())))


@pytest.mark.parametrize("key", GOLDEN)
def test_every_matrix_gets_the_type_that_llama_cpp_gives_it(key: str) -> None:
    model, _, weighted = key.partition(", ")
    _, _, _, heads, shared, _, _ = MODELS[model]
    for mix, expected in GOLDEN[key].items():
        choices = Policy(mix, weighted=bool(weighted)).choose(shapes(model), heads // shared)
        types = {name: choice.type.name for name, choice in choices.items()}
        assert grouped_by_role(model, types) == {role: expanded(runs) for role, runs in expected.items()}, mix


def test_all_mixes_are_compared_but_ours() -> None:
    compared = {mix for mixes in GOLDEN.values() for mix in mixes}
    assert {mix.name for mix in MIXES.values()} - compared == {"f32", "mxfp4"} | set(OWN)


def test_file_types_are_llama_cpps() -> None:
    known = {member.name.removeprefix("MOSTLY_").removeprefix("ALL_").lower(): member for member in gguf.LlamaFileType}
    known |= {**OWN, "mxfp4": 38}
    assert all(mix.file_type == known[mix.name] for mix in MIXES.values())


def test_types_of_mixes_exist() -> None:
    names = {quantization.name for quantization in TYPES.values()}
    for mix in MIXES.values():
        assert {mix.type, mix.output or mix.type, *(rule.type for rule in mix.rules)} <= names


def test_short_names_are_those_of_llama_quantize() -> None:
    assert [MIXES[name].name for name in ("q3_k", "q4_k", "q5_k")] == ["q3_k_m", "q4_k_m", "q5_k_m"]
    with pytest.raises(InvalidOptionError, match=r"'q9_9'.*q4_k_m"):
        Policy("q9_9")


@pytest.mark.parametrize("name", MIXES)
def test_a_note_says_which_types_other_readers_refuse(name: str) -> None:
    policy = Policy(name, weighted=True)
    theirs = {kind.name.lower() for kind in gguf.GGMLQuantizationType}
    refused = [f"{policy.mix.type} is edgeformer's own type: other readers of GGUF refuse the file"]
    assert policy.notes() == ([] if policy.mix.type in theirs else refused)


def test_stacks_of_an_encoder_decoder_count_their_own_layers() -> None:
    stacks = {"enc": 16, "dec": 8}
    names = [f"{stack}.blk.{layer}.ffn_down.weight" for stack, count in stacks.items() for layer in range(count)]
    choices = Policy("q4_k_s").choose(dict.fromkeys(names, (256, 256)))
    better = [name for name, choice in choices.items() if choice.type.name == "q5_k"]
    assert better == ["enc.blk.0.ffn_down.weight", "enc.blk.1.ffn_down.weight", "dec.blk.0.ffn_down.weight"]


def test_rows_that_do_not_fit_have_a_reason() -> None:
    choices = Policy("q4_k_m").choose({"blk.0.attn_q.weight": (256, 96), "blk.0.attn_k.weight": (256, 90)})
    assert [(choice.type.name, choice.reason) for choice in choices.values()] == [
        ("q5_0", "rows of 96 are no whole blocks of 256"),
        ("f16", "rows of 90 are no whole blocks of 256"),
    ]


def test_layer_numbers_beyond_reason_are_no_layers() -> None:
    name = f"blk.{'9' * 5000}.ffn_down.weight"
    assert Policy("q4_k_m").choose({name: (256, 256)})[name].type.name in ("q4_k", "q6_k")
