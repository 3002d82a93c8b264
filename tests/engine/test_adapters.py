"""LoRA adapters beside a model: what they give is what they give merged, and without them nothing is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import (
    ConversionError,
    InvalidInputError,
    InvalidOptionError,
    ModelFormatError,
    NotEnoughMemoryError,
    UnsupportedModelError,
)
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from golden import cases
from golden.cases import relative_error
from support.adapters import factors, write_adapter
from support.checkpoints import golden
from support.probes import llama_cpp

LLAMA = "llama-gqa-tied"
# Cases of each way in which a checkpoint's matrices come into the file, and the modules that an adapter changes.
MODULES = {
    LLAMA: ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.down_proj"),  # rows of queries in pairs
    "llama-untied-biases": ("self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "lm_head"),
    "gpt2-tied": ("attn.c_attn", "attn.c_proj", "mlp.c_fc"),  # transposed, fused
    "qwen3-tied": ("self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj"),
    "gptneox-parallel": ("attention.query_key_value", "mlp.dense_h_to_4h"),  # fused head by head, all of one input
    "falcon-multi-query": ("mlp.dense_h_to_4h",),
    "phi3-untied": ("self_attn.qkv_proj", "mlp.gate_up_proj"),  # two matrices of the file from one
    "qwen2moe-shared": ("self_attn.q_proj", "shared_expert.up_proj"),
    "bitnet-silu": ("self_attn.o_proj", "mlp.down_proj"),
}


def adapter_of(folder: Path, name: str, scale: float = 1.0, seed: int = 0, rank: int = 3) -> Path:
    """PEFT's folder for a golden checkpoint, with biases of names as above."""
    _, tensors = golden(name)
    pairs = {}
    for number, (key, array) in enumerate(sorted(tensors.items())):
        module = key.removesuffix(".weight")
        if array.ndim == 2 and module.endswith(MODULES[name]):
            shape = array.shape[::-1] if name.startswith("gpt2") else array.shape
            pairs[module] = factors(shape, rank, seed=seed + number)
    assert {module.rpartition(".")[2] for module in pairs} == {end.rpartition(".")[2] for end in MODULES[name]}
    changes = {"r": rank, "lora_alpha": scale * rank, "fan_in_fan_out": name.startswith("gpt2")}
    return write_adapter(folder, pairs, changes)


Files = Callable[..., tuple[str, str, str]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The paths of a model, of an adapter beside it, and of the two merged."""
    folder = tmp_path_factory.mktemp("adapters")

    def made(name: str, type_name: str = "f32", **more: float) -> tuple[str, str, str]:
        tag = f"{name}-{type_name}-" + "-".join(f"{key}{value}" for key, value in more.items())
        paths = [folder / f"{tag}-{part}.gguf" for part in ("plain", "adapter", "merged")]
        if not paths[0].exists():
            source, peft = cases.FOLDER / name, adapter_of(folder / tag, name, **more)
            convert(source, paths[0], type=type_name)
            convert(peft, paths[1], base=source)
            convert(source, paths[2], type=type_name, adapter=peft)
        return tuple(map(str, paths))

    return made


@pytest.mark.parametrize("name", MODULES)
def test_beside_gives_what_merged_gives(name: str, files: Files) -> None:
    plain, beside, merged = files(name)
    ids = cases.expected(name)["ids"].tolist()
    with edgeformer.load(plain, kv_type="f32", threads=2) as model:
        before = model.logits(ids)
        adapter = model.load_adapter(beside)
        adapted = model.logits(ids, adapter=adapter)
        states = model.hidden_states(ids, adapter=adapter)
        assert np.array_equal(model.logits(ids), before)
        single = np.concatenate([model.logits(ids[:n], adapter=adapter)[-1:] for n in range(1, len(ids) + 1)])
        assert np.array_equal(single, adapted)
    with edgeformer.load(merged, kv_type="f32", threads=1) as model:
        assert relative_error(adapted, model.logits(ids)) < 1e-5
        assert relative_error(states, model.hidden_states(ids)) < 1e-5
    assert relative_error(adapted, before) > 1e-2


@pytest.mark.parametrize("type_name", ["q8_0", "q4_0"])
def test_quantized_models_are_changed_as_much(type_name: str, files: Files) -> None:
    """Their own rounding is there as before, and the low-rank products are in floats."""
    plain, beside, _ = files(LLAMA, type_name)
    exact, _, merged = files(LLAMA)
    ids = cases.expected(LLAMA)["ids"].tolist()
    numbers = {}
    for path in (plain, exact, merged):
        with edgeformer.load(path, kv_type="f32") as model:
            numbers[path] = model.logits(ids)
            if path == plain:
                adapted = model.logits(ids, adapter=model.load_adapter(beside))
    rounding = relative_error(numbers[plain], numbers[exact])
    assert relative_error(adapted, numbers[merged]) < 2.5 * rounding < relative_error(numbers[merged], numbers[exact])


def test_adapters_are_switched_from_call_to_call_and_share_the_weights(files: Files) -> None:
    plain, first, _ = files(LLAMA, "q8_0")
    second = files(LLAMA, "q8_0", seed=50)[1]
    ids = cases.expected(LLAMA)["ids"].tolist()
    with edgeformer.load(plain, threads=2) as model:
        before, memory = model.generate(ids, max_tokens=12, temperature=0).token_ids, model.memory
        adapters = [model.load_adapter(path) for path in (first, second)]
        assert sum(adapter.nbytes for adapter in adapters) == sum(model.memory.values()) - sum(memory.values())
        assert adapters[0].nbytes > 0 and "plain" not in repr(adapters[0])
        texts = [model.generate(ids, max_tokens=12, temperature=0, adapter=adapter).token_ids for adapter in adapters]
        assert len({tuple(text) for text in (before, *texts)}) == 3
        assert model.generate(ids, max_tokens=12, temperature=0).token_ids == before
        beams = model.generate([ids, ids[:5]], max_tokens=5, num_beams=2, adapter=adapters[1])
        assert len(beams) == 2
        streamed = list(model.generate(ids, max_tokens=12, temperature=0, stream=True, adapter=adapters[0]))
        assert [token for chunk in streamed for token in chunk.token_ids] == texts[0]
        adapters[0].unload()
        adapters[0].unload()
        with pytest.raises(InvalidInputError, match="was unloaded"):
            model.logits(ids, adapter=adapters[0])
        again = model.generate(ids, max_tokens=12, temperature=0, adapter=adapters[1]).token_ids
        assert again == texts[1]
        taken = adapters[1].nbytes
        assert model.hidden_states(ids, layers=True, adapter=adapters[1]).shape[0] == 3
        assert adapters[1].nbytes > taken
        with adapters[1]:
            pass
        assert adapters[1].nbytes == 0
        assert model.memory == memory
        last = model.load_adapter(first)
    assert not last.is_loaded
    last.unload()
    with pytest.raises(InvalidInputError, match="was unloaded"):
        edgeformer.engine.adapters.using(model._session or edgeformer.Session.open(plain), last)


def test_the_same_bits_on_every_instruction_set_and_with_any_threads(files: Files, isa: str) -> None:
    plain, beside, _ = files("qwen3-tied", "q8_0")
    ids = cases.expected("qwen3-tied")["ids"].tolist()
    results = []
    for options in ({"isa": "scalar", "threads": 1}, {"isa": isa, "threads": 3}):
        with edgeformer.load(plain, **options) as model:
            results.append(model.logits(ids, adapter=model.load_adapter(beside)))
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", [LLAMA, "gpt2-tied", "qwen3-tied"])
def test_llama_cpp_takes_the_adapter(name: str, files: Files) -> None:
    plain, beside, merged = files(name)
    ids = cases.expected(name)["ids"].tolist()
    theirs = np.array(llama_cpp("rows", {"path": plain, "adapter": beside, "ids": ids}), np.float32)
    with edgeformer.load(merged, kv_type="f32") as model:
        assert relative_error(theirs, model.logits(ids)) < 3e-3


def test_encoder_decoders_take_adapters(tmp_path: Path) -> None:
    name = "t5-gated-untied"
    _, tensors = golden(name)
    module = "encoder.block.0.layer.0.SelfAttention.q"
    other = "decoder.block.0.layer.1.EncDecAttention.v"
    pairs = {one: factors(tensors[f"{one}.weight"].shape, 8, seed=3) for one in (module, other)}
    peft = write_adapter(tmp_path / "peft", pairs, {})
    convert(peft, tmp_path / "a.gguf", base=cases.FOLDER / name)
    convert(cases.FOLDER / name, tmp_path / "merged.gguf", type="f32", adapter=peft)
    convert(cases.FOLDER / name, tmp_path / "plain.gguf", type="f32")
    sources, targets = cases.sources_and_targets(name)
    with edgeformer.load(tmp_path / "merged.gguf", kv_type="f32") as model:
        wanted = model.logits(sources[0], targets[0])
    with edgeformer.load(tmp_path / "plain.gguf", kv_type="f32") as model:
        adapter = model.load_adapter(tmp_path / "a.gguf")
        assert relative_error(model.logits(sources[0], targets[0], adapter=adapter), wanted) < 1e-5
        assert relative_error(model.logits(sources[0], targets[0]), wanted) > 1e-3


@pytest.mark.parametrize(("name", "module"), [
    ("llama-classes", "self_attn.v_proj"),
    ("bert-classes", "attention.self.value"),
])  # fmt: skip
def test_classifiers_take_adapters(tmp_path: Path, name: str, module: str) -> None:
    _, tensors = golden(name)
    modules = [key.removesuffix(".weight") for key in sorted(tensors) if key.endswith(f"{module}.weight")]
    pairs = {one: factors(tensors[f"{one}.weight"].shape, 8, seed=number) for number, one in enumerate(modules)}
    peft, source = write_adapter(tmp_path / "peft", pairs, {"lora_alpha": 32}), cases.FOLDER / name
    convert(source, tmp_path / "plain.gguf", type="f32")
    convert(source, tmp_path / "merged.gguf", type="f32", adapter=peft)
    convert(peft, tmp_path / "beside.gguf", base=source)
    with edgeformer.load(tmp_path / "merged.gguf", kv_type="f32") as model:
        wanted = {entry.label: entry.score for entry in model.classify([5, 9, 12, 7]).labels}
    with edgeformer.load(tmp_path / "plain.gguf", kv_type="f32") as model:
        adapter = model.load_adapter(tmp_path / "beside.gguf")
        results = [model.classify([5, 9, 12, 7], adapter=one).labels for one in (adapter, None)]
    found, plain = ({entry.label: entry.score for entry in labels} for labels in results)
    assert found.keys() == wanted.keys()
    assert max(abs(found[label] - wanted[label]) for label in wanted) < 1e-5
    assert max(abs(plain[label] - wanted[label]) for label in wanted) > 1e-4


def write_file(path: Path, tensors: dict[str, np.ndarray], architecture: str = "llama", **keys: object) -> Path:
    with GGUFWriter(path, architecture) as writer:
        settings = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0, **keys}
        for key, value in settings.items():
            if value is not None:
                writer.add(key, value)
        for name, array in tensors.items():
            writer.declare(name, array.shape, 0)
        for name, array in tensors.items():
            writer.write(name, array.astype(np.float32))
    return path


def test_files_that_are_no_adapters_of_this_model_are_refused(tmp_path: Path, files: Files) -> None:
    plain, beside, _ = files(LLAMA)
    with GGUFFile(beside) as file:
        name = next(name for name in file.tensors if name.endswith("attn_q.weight.lora_a")).removesuffix(".lora_a")
        down, up = (file.dequantize(name + end) for end in (".lora_a", ".lora_b"))
    pair = {f"{name}.lora_a": down, f"{name}.lora_b": up}
    table = {"token_embd.weight.lora_a": np.ones((2, 32)), "token_embd.weight.lora_b": np.ones((80, 2))}
    odd = {"general.type": None}, {"adapter.type": "dora"}, {"adapter.alora.invocation_tokens": [1, 2]}
    with pytest.raises(UnsupportedModelError, match="is an adapter, not a model: load its model"):
        edgeformer.load(beside)
    with edgeformer.load(plain) as model:
        for number, (tensors, keys, error, message) in enumerate((
            (pair, odd[0], UnsupportedModelError, "of the kind 'model', not an adapter"),
            (pair, odd[1], UnsupportedModelError, "adapter.type is 'dora'"),
            (pair, odd[2], UnsupportedModelError, "alora"),
            (pair, {"architecture": "qwen3"}, UnsupportedModelError, "an adapter of 'qwen3', and the model is 'llama'"),
            ({f"{name}.lora_a": down}, {}, ModelFormatError, "the pair .lora_a and .lora_b is not there"),
            ({f"{name}.lora_a": down[:2], f"{name}.lora_b": up}, {}, UnsupportedModelError, "adapter of another model"),
            ({f"{name}.lora_a": down, f"{name}.lora_b": up[1:]}, {}, UnsupportedModelError, "adapter of another model"),
            ({"x.lora_a": down, "x.lora_b": up}, {}, UnsupportedModelError, "no tensor 'x'"),
            ({}, {}, ModelFormatError, "the adapter has none"),
            (table, {}, UnsupportedModelError, "token_embd.weight, which embed reads"),
        )):  # fmt: skip
            path = write_file(tmp_path / f"{number}.gguf", tensors, **keys)
            with pytest.raises(error, match=message.replace(".", r"\.")):
                model.load_adapter(path)
        with pytest.raises(InvalidInputError, match=r"is a folder.*--base"):
            model.load_adapter(tmp_path)
        with pytest.raises(InvalidInputError, match="what load_adapter gave is needed"):
            model.logits([1], adapter=beside)
        with edgeformer.load(plain) as other, pytest.raises(InvalidInputError, match="beside another model"):
            other.logits([1], adapter=model.load_adapter(beside))


def test_memory_of_an_adapter_is_bounded(files: Files) -> None:
    plain, beside, _ = files(LLAMA)
    with edgeformer.load(plain, n_ctx=32) as model:
        needed = sum(model.memory[part] for part in ("weights", "cache", "scratch"))
    with edgeformer.load(plain, n_ctx=32, max_memory=needed + 1000) as model:
        before = model.memory
        with pytest.raises(NotEnoughMemoryError, match=r"the adapter .*larger max_memory"):
            model.load_adapter(beside)
        assert model.memory == before


def test_what_has_no_place_beside_a_model_is_refused_by_name(tmp_path: Path) -> None:
    _, tensors = golden(LLAMA)
    source, out = cases.FOLDER / LLAMA, tmp_path / "out.gguf"
    query = "model.layers.0.self_attn.q_proj"
    pair = factors(tensors[f"{query}.weight"].shape, 8)
    rows, width = tensors["model.embed_tokens.weight"].shape
    of_table = {"model.embed_tokens:embedding": factors((width, rows), 8)}
    for pairs, saved, message in (
        ({query: pair}, {"model.norm.weight": np.ones(width, np.float32)}, "whole tensors .*model.norm.weight"),
        (of_table, {}, "changes token_embd.weight, beside which nothing can be"),
    ):
        with pytest.raises(ConversionError, match=message.replace(".", r"\.").replace(r" \.*", " .*")):
            convert(write_adapter(tmp_path / "peft", pairs, {}, saved=saved), out, base=source)
    with pytest.raises(InvalidOptionError, match="is an adapter: name the checkpoint"):
        convert(tmp_path / "peft", out)
    with pytest.raises(InvalidOptionError, match="holds no adapter"):
        convert(source, out, base=source)
    experts = "model.layers.0.block_sparse_moe.experts.1.w1"
    mixtral = golden("llama-experts")[1]
    peft = write_adapter(tmp_path / "experts", {experts: factors(mixtral[f"{experts}.weight"].shape, 8)}, {})
    with pytest.raises(ConversionError, match=r"ffn_gate_exps\.weight, beside which nothing can be"):
        convert(peft, out, base=cases.FOLDER / "llama-experts")
