"""Make the golden files: tiny random models with the numbers that torch and transformers compute for them.

usage: python tests/golden/make_golden.py [NAME ...]      needs: torch transformers numpy safetensors

Every model is written as a user would have it (a Hugging Face folder, or a bare state dict of `torch.nn.Transformer`
with a config.json of its arguments) beside `expected.npz`. The weights come from a seeded generator, large enough that
every part of the network moves the result; a seed whose greedy path nearly ties is passed over, so the ids are stable
under rounding. `versions.json` says what computed the numbers and which seed each model ended with.
"""
from __future__ import annotations

import json
import math
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
GREEDY_TOKENS = 16
LEAST_GAP = 5e-3  # between the best and the second logit on the greedy path, relative to the row's range
BOS, EOS = 1, 2
LAST_SEED = 1000


def randomize(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter: norm weights around 1, other vectors around 0, matrices so that values keep their size."""
    norm_types = (torch.nn.LayerNorm, transformers.models.llama.modeling_llama.LlamaRMSNorm)
    norms = {id(m.weight) for m in module.modules() if isinstance(m, norm_types)}
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if id(parameter) in norms:
                parameter.copy_(1.0 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(noise / math.sqrt(parameter.shape[-1]))


def relative_gap(logits: torch.Tensor) -> float:
    """How far the best logit of a row leads the second, as a share of the row's range."""
    best = torch.topk(logits, 2).values
    return float((best[0] - best[1]) / (logits.max() - logits.min()))


def greedy(step: Callable[[list[int]], torch.Tensor], ids: list[int], count: int) -> tuple[list[int], float]:
    """Continue `ids` by the best token `count` times, whatever the end token says; also the smallest gap on the way."""
    continued, gap = list(ids), 1.0
    for _ in range(count):
        logits = step(continued)
        gap = min(gap, relative_gap(logits))
        continued.append(int(logits.argmax()))
    return continued[len(ids):], gap


def draw_ids(rng: np.random.Generator, count: int, vocab_size: int) -> list[int]:
    """Token ids other than the first three, which are the special ones."""
    return [int(i) for i in rng.integers(3, vocab_size, count)]


def write_expected(folder: Path, **arrays: Any) -> None:
    np.savez_compressed(folder / "expected.npz", **{name: np.asarray(value) for name, value in arrays.items()})


def make_llama(folder: Path, seed: int, *, dtype: torch.dtype = torch.float32, torch_bin: bool = False,
               old_config: bool = False, **changes: Any) -> float:
    """A decoder-only Llama: logits of a short prompt, the last row of one longer than an attention span, greedy ids."""
    settings = {"vocab_size": 80, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
                "bos_token_id": BOS, "eos_token_id": EOS, "tie_word_embeddings": True, "attn_implementation": "eager"}
    config = transformers.LlamaConfig(**(settings | changes))
    model = transformers.LlamaForCausalLM(config).eval()
    randomize(model, torch.Generator().manual_seed(seed))
    for parameter in model.parameters():  # what the file will hold; rotary frequencies stay as they are
        parameter.data = parameter.data.to(dtype).float()
    rng = np.random.default_rng(seed)
    short, long = draw_ids(rng, 21, config.vocab_size), draw_ids(rng, 150, config.vocab_size)

    def run(ids: list[int]) -> torch.Tensor:
        return model(torch.tensor([ids])).logits[0]

    continued, gap = greedy(lambda ids: run(ids)[-1], short, GREEDY_TOKENS)
    hidden = model.model(torch.tensor([short])).last_hidden_state[0]
    write_expected(folder, ids=short, logits=run(short), hidden=hidden, long_ids=long, long_last_logits=run(long)[-1],
                   greedy_ids=continued)
    model.to(dtype)
    if torch_bin:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    if old_config:
        rewrite_as_version_4(folder / "config.json")
    return gap


def rewrite_as_version_4(path: Path) -> None:
    """Say the rope parameters the way transformers 4 wrote them, which most published folders still do."""
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.46.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_bert(folder: Path, seed: int, *, sentence_transformer: bool = False, torch_bin: bool = False,
              **changes: Any) -> float:
    """An encoder: hidden states of sentences of different length, run as one padded batch; mean and first rows."""
    settings = {"vocab_size": 70, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 4, "max_position_embeddings": 160, "attn_implementation": "eager"}
    config = transformers.BertConfig(**(settings | changes))
    model = transformers.BertModel(config, add_pooling_layer=torch_bin).eval()
    randomize(model, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    sentences = [draw_ids(rng, n, config.vocab_size) for n in (5, 17, 1, 140)]
    types = [[0] * (len(s) // 2) + [1] * (len(s) - len(s) // 2) for s in sentences]
    width = max(map(len, sentences))
    padded = torch.tensor([s + [0] * (width - len(s)) for s in sentences])
    padded_types = torch.tensor([t + [0] * (width - len(t)) for t in types])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sentences])
    plain = model(padded, attention_mask=mask).last_hidden_state
    typed = model(padded, attention_mask=mask, token_type_ids=padded_types).last_hidden_state
    if torch_bin:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    if sentence_transformer:
        write_sentence_transformer_files(folder, config.hidden_size)
    rows = [plain[i, : len(s)] for i, s in enumerate(sentences)]
    kept = [0, 1, 2]  # all rows of the short sentences; of the long one the last few, to keep the file small
    write_expected(
        folder, ids=np.concatenate(sentences), lengths=[len(s) for s in sentences],
        hidden=torch.cat([rows[i] for i in kept]), long_hidden=rows[3][-4:], token_types=np.concatenate(types),
        typed_hidden=torch.cat([typed[i, : len(sentences[i])] for i in kept]),
        mean=torch.stack([r.mean(0) for r in rows]), first=torch.stack([r[0] for r in rows]))
    return 1.0


def write_sentence_transformer_files(folder: Path, width: int) -> None:
    """The small files by which sentence-transformers says: mean pooling, then unit length."""
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    listed = [{"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
              for i, path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listed, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
               "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")


def sinusoidal_table(length: int, width: int) -> torch.Tensor:
    """sin and cos of the same angle side by side, as in "Attention Is All You Need", section 3.5."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position * torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = torch.sin(angle), torch.cos(angle)
    return table.float()


class Translator(torch.nn.Module):
    """`torch.nn.Transformer` between embeddings and a generator, as its users write it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["d_model"]
        self.scale = math.sqrt(width) if config["scale_embedding"] else 1.0
        self.src_embed = torch.nn.Embedding(config["src_vocab_size"], width)
        self.tgt_embed = torch.nn.Embedding(config["tgt_vocab_size"], width)
        self.generator = torch.nn.Linear(width, config["tgt_vocab_size"], bias=config["bias"])
        self.learned = config["positional_encoding"]["type"] == "learned"
        if self.learned:
            self.src_pos_embed = torch.nn.Embedding(config["max_length"], width)
            self.tgt_pos_embed = torch.nn.Embedding(config["max_length"], width)
        self.table = sinusoidal_table(config["max_length"], width)
        names = ("d_model", "nhead", "num_encoder_layers", "num_decoder_layers", "dim_feedforward", "activation",
                 "norm_first", "layer_norm_eps", "bias")
        self.transformer = torch.nn.Transformer(batch_first=True, dropout=0.0, **{n: config[n] for n in names})

    def place(self, ids: torch.Tensor, embed: torch.nn.Embedding, positions: str) -> torch.Tensor:
        table = getattr(self, positions).weight if self.learned else self.table
        return embed(ids) * self.scale + table[: ids.shape[1]]

    def forward(self, source: torch.Tensor, target: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        causal = torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1]).bool()
        decoded = self.transformer(
            self.place(source, self.src_embed, "src_pos_embed"), self.place(target, self.tgt_embed, "tgt_pos_embed"),
            tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        return self.generator(decoded)


def make_transformer(folder: Path, seed: int, *, tie: str = "none", **changes: Any) -> float:
    """An encoder-decoder: teacher-forced logits over sources of different length in one padded batch, greedy ids.

    tie: "none", "output" (generator = target embedding) or "all" (and the source embedding too).
    """
    config: dict[str, Any] = {
        "architectures": ["torch.nn.Transformer"], "model_type": "transformer", "d_model": 32, "nhead": 4,
        "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 64, "activation": "relu",
        "norm_first": True, "layer_norm_eps": 1e-5, "bias": True, "scale_embedding": True, "src_vocab_size": 50,
        "tgt_vocab_size": 60, "bos_token_id": BOS, "eos_token_id": EOS, "max_length": 160,
        "positional_encoding": {"type": "sinusoidal", "layout": "interleaved", "first_position": 0,
                                "log_timescale": "log(10000)/(d_model/2)"}}
    config |= changes
    model = Translator(config).eval()
    if tie != "none":
        model.generator.weight = model.tgt_embed.weight
    if tie == "all":
        model.src_embed.weight = model.tgt_embed.weight
    randomize(model, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    sources = [draw_ids(rng, n, config["src_vocab_size"]) for n in (4, 11, 1, 135)]
    targets = [[BOS, *draw_ids(rng, n - 1, config["tgt_vocab_size"])] for n in (9, 3, 6, 14)]
    logits = run_padded(model, sources, targets)
    continued, gap = [], 1.0
    for source in sources:
        ids, source_gap = greedy(lambda t, s=source: run_padded(model, [s], [t])[0][-1], [BOS], GREEDY_TOKENS)
        continued.append(ids)
        gap = min(gap, source_gap)
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_expected(folder, source_ids=np.concatenate(sources), source_lengths=[len(s) for s in sources],
                   target_ids=np.concatenate(targets), target_lengths=[len(t) for t in targets],
                   logits=torch.cat(logits), greedy_ids=continued)
    return gap


def run_padded(model: Translator, sources: list[list[int]], targets: list[list[int]]) -> list[torch.Tensor]:
    """Logits of every target row, from one batch padded on the right with token 0 and masked."""
    source_width, target_width = max(map(len, sources)), max(map(len, targets))
    source = torch.tensor([s + [0] * (source_width - len(s)) for s in sources])
    target = torch.tensor([t + [0] * (target_width - len(t)) for t in targets])
    padding = torch.tensor([[i >= len(s) for i in range(source_width)] for s in sources])
    logits = model(source, target, padding)
    return [logits[i, : len(t)] for i, t in enumerate(targets)]


LLAMA3_SCALING = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LEARNED = {"type": "learned"}
MODELS: dict[str, Callable[[Path, int], float]] = {
    "llama-gqa-tied": lambda folder, seed: make_llama(folder, seed),
    "llama-untied-biases": lambda folder, seed: make_llama(
        folder, seed, hidden_size=16, intermediate_size=24, tie_word_embeddings=False, attention_bias=True,
        mlp_bias=True, num_key_value_heads=4, torch_bin=True, old_config=True),
    "llama-rope3-head-dim": lambda folder, seed: make_llama(
        folder, seed, hidden_size=32, intermediate_size=40, head_dim=16, rope_parameters=dict(LLAMA3_SCALING),
        num_hidden_layers=1, tie_word_embeddings=False),
    "llama-rope3-version4-bf16": lambda folder, seed: make_llama(
        folder, seed, hidden_size=24, intermediate_size=40, num_attention_heads=3, num_key_value_heads=1,
        rope_parameters=dict(LLAMA3_SCALING), dtype=torch.bfloat16, old_config=True),
    "bert-gelu-mean": lambda folder, seed: make_bert(folder, seed, sentence_transformer=True),
    "bert-tanh-pooler": lambda folder, seed: make_bert(
        folder, seed, hidden_size=24, intermediate_size=40, num_attention_heads=3, hidden_act="gelu_new",
        layer_norm_eps=1e-6, torch_bin=True),
    "transformer-prenorm-relu": lambda folder, seed: make_transformer(folder, seed),
    "transformer-postnorm-gelu-learned": lambda folder, seed: make_transformer(
        folder, seed, tie="output", d_model=16, dim_feedforward=40, norm_first=False, activation="gelu",
        num_encoder_layers=1, positional_encoding=LEARNED, scale_embedding=False, layer_norm_eps=1e-6),
    "transformer-postnorm-relu-shared": lambda folder, seed: make_transformer(
        folder, seed, tie="all", d_model=16, dim_feedforward=32, norm_first=False, num_decoder_layers=1,
        src_vocab_size=60, nhead=2),
    "transformer-prenorm-gelu-nobias": lambda folder, seed: make_transformer(
        folder, seed, d_model=16, dim_feedforward=24, bias=False, activation="gelu", num_encoder_layers=1,
        num_decoder_layers=1, positional_encoding=LEARNED),
}


def make(name: str) -> int:
    """Write one model's folder; the seed that gave a greedy path without near ties."""
    folder = HERE / name
    for seed in range(LAST_SEED):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        gap = MODELS[name](folder, seed)
        if gap >= LEAST_GAP:
            print(f"{name}: seed {seed}, smallest gap {gap:.3f}, "
                  f"{sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e3:.0f} KB")
            return seed
    raise SystemExit(f"{name}: no seed below {LAST_SEED} keeps its greedy path clear of ties")


def main(names: list[str]) -> None:
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # the plain formulas, without nested tensors
    transformers.utils.logging.disable_progress_bar()
    record = HERE / "versions.json"
    seeds = json.loads(record.read_text())["seeds"] if names and record.exists() else {}
    seeds |= {name: make(name) for name in names or MODELS}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__,
                "machine": platform.machine(), "seeds": dict(sorted(seeds.items()))}
    record.write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
