"""Train the demo's model: dates in many spellings to ISO 8601, character by character.

    python bench/train_dates/train.py --out runtime/tools/demo

Needs torch (edgeformer itself does not). Writes ``dates.pt`` (a float16 state dict), ``config.json``, the two
vocabularies and ``samples.json`` (held-out examples, never seen in training).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import dates
import torch
from torch import Tensor, nn

BLANK, START, END, UNKNOWN = range(len(dates.SPECIAL_TOKENS))
Pair = tuple[str, str]  # a spelling and its ISO date
NUM_SHIPPED_SAMPLES = 1000
CONFIG = {
    "architectures": ["torch.nn.Transformer"],
    "model_type": "transformer",
    "d_model": 64,
    "nhead": 4,
    "num_encoder_layers": 3,
    "num_decoder_layers": 1,
    "dim_feedforward": 192,
    "activation": "relu",
    "norm_first": True,
    "layer_norm_eps": 1e-5,
    "scale_embedding": True,
    "positional_encoding": {
        "type": "sinusoidal",
        "layout": "concatenated",
        "first_position": 1,
        "log_timescale": "log(10000)/(d_model/2-1)",
    },
    "src_vocab_size": 0,
    "tgt_vocab_size": 0,
    "bos_token_id": START,
    "eos_token_id": END,
    "unk_token_id": UNKNOWN,
    "max_length": 64,
    "tokenizer": "characters",
    "source_vocabulary": "source_vocabulary.txt",
    "target_vocabulary": "target_vocabulary.txt",
}


class DateModel(nn.Module):
    """``torch.nn.Transformer`` between two character embeddings and an output layer."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["d_model"]
        self.src_embed = nn.Embedding(config["src_vocab_size"], width)
        self.tgt_embed = nn.Embedding(config["tgt_vocab_size"], width)
        self.transformer = nn.Transformer(
            width,
            config["nhead"],
            config["num_encoder_layers"],
            config["num_decoder_layers"],
            config["dim_feedforward"],
            dropout=0.0,
            activation=config["activation"],
            layer_norm_eps=config["layer_norm_eps"],
            batch_first=True,
            norm_first=config["norm_first"],
        )
        self.generator = nn.Linear(width, config["tgt_vocab_size"])
        self.register_buffer("positions", sinusoids(config["max_length"], width), persistent=False)
        for embedding in (self.src_embed, self.tgt_embed):
            nn.init.normal_(embedding.weight, std=width**-0.5)

    def embed(self, embedding: nn.Embedding, ids: Tensor) -> Tensor:
        """ids [batch, length] -> [batch, length, d_model]"""
        return embedding(ids) * math.sqrt(embedding.embedding_dim) + self.positions[: ids.shape[1]]

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source [batch, m], target [batch, n] -> logits [batch, n, target vocabulary]"""
        memory = self.encode(source)
        return self.decode(memory, source == BLANK, target)

    def encode(self, source: Tensor) -> Tensor:
        """source [batch, m] -> memory [batch, m, d_model]"""
        padding = source == BLANK
        return self.transformer.encoder(self.embed(self.src_embed, source), src_key_padding_mask=padding)

    def decode(self, memory: Tensor, padding: Tensor, target: Tensor) -> Tensor:
        """memory [batch, m, d_model], target [batch, n] -> logits [batch, n, target vocabulary]"""
        hidden = self.embed(self.tgt_embed, target)
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        hidden = self.transformer.decoder(hidden, memory, tgt_mask=causal, memory_key_padding_mask=padding)
        return self.generator(hidden)


def sinusoids(length: int, width: int) -> Tensor:
    """Sine half and cosine half, positions counted from 1, wavelengths from 2 pi to 10000 * 2 pi."""
    frequencies = torch.exp(-math.log(10000.0) / (width / 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(1, length + 1).unsqueeze(1) * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class Vocabulary:
    """Special tokens, then characters: the line number in the vocabulary file is the id."""

    def __init__(self, characters: str) -> None:
        self.tokens = [*dates.SPECIAL_TOKENS, *characters]
        self.ids = {token: index for index, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        return [self.ids.get(character, UNKNOWN) for character in text]

    def decode(self, ids: list[int]) -> str:
        end = ids.index(END) if END in ids else len(ids)
        return "".join(self.tokens[index] for index in ids[:end])


SOURCE, TARGET = Vocabulary(dates.source_characters()), Vocabulary(dates.TARGET_CHARACTERS)


def pad(rows: list[list[int]]) -> Tensor:
    """Rows of ids as one tensor, filled up with BLANK."""
    longest = max(map(len, rows))
    return torch.tensor([row + [BLANK] * (longest - len(row)) for row in rows])


def batches(batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (source, target) pairs; sixteen batches are drawn at once and cut by length, to pad little."""
    stream = dates.training_examples()
    while True:
        drawn = sorted(islice(stream, 16 * batch_size), key=lambda pair: len(pair[0]))
        for start in torch.randperm(16, generator=generator).tolist():
            part = drawn[start * batch_size : (start + 1) * batch_size]
            source = pad([SOURCE.encode(text) for text, _ in part])
            lost = (torch.rand(source.shape, generator=generator) < 0.002) & (source != BLANK)
            digit = (source >= SOURCE.ids["0"]) & (source <= SOURCE.ids["9"])
            source[lost & ~digit] = UNKNOWN
            yield source, torch.tensor([[START, *TARGET.encode(date), END] for _, date in part])


@torch.no_grad()
def translate(model: DateModel, texts: list[str]) -> list[str]:
    """Greedy search over a batch."""
    source = pad([SOURCE.encode(text) for text in texts])
    memory, padding = model.encode(source), source == BLANK
    target = torch.full((len(texts), 1), START)
    for _ in range(len("YYYY-MM-DD") + 1):
        best = model.decode(memory, padding, target)[:, -1].argmax(-1, keepdim=True)
        target = torch.cat((target, best), dim=1)
    return [TARGET.decode(row) for row in target[:, 1:].tolist()]


def accuracy(model: DateModel, pairs: list[Pair]) -> float:
    """Share of `pairs` whose whole date is right."""
    model.eval()
    ordered = sorted(pairs, key=lambda pair: len(pair[0]))
    right = 0
    for start in range(0, len(ordered), 250):
        part = ordered[start : start + 250]
        found = translate(model, [text for text, _ in part])
        right += sum(answer == date for answer, (_, date) in zip(found, part, strict=True))
    model.train()
    return right / len(pairs)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 1000) -> float:
    """Linear warmup, then half a cosine down to nothing."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train(model: DateModel, options: argparse.Namespace, validation: list[Pair]) -> dict[str, Tensor]:
    """Teacher forcing with AdamW; prints loss and exact match now and then; returns the best float16 state."""
    steps, batch_size, peak = options.steps, options.batch_size, options.peak
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    loss_function = nn.CrossEntropyLoss()
    stream = batches(batch_size, torch.Generator().manual_seed(dates.TRAINING_SEED))
    started, running, best_exact, best = time.perf_counter(), 0.0, -1.0, {}
    for step in range(steps):
        source, target = next(stream)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        logits = model(source, target[:, :-1])
        loss = loss_function(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item()
        if (step + 1) % 250 == 0:
            exact = accuracy(model, validation)
            elapsed = time.perf_counter() - started
            print(f"step {step + 1} loss {running / 250:.5f} exact {exact:.4f} {elapsed:.0f} s", flush=True)
            running = 0.0
            if exact >= best_exact:
                best_exact, best = exact, {name: value.half() for name, value in model.state_dict().items()}
    return best


def write(out: Path, state: dict[str, Tensor], samples: list[Pair]) -> None:
    """The files of the demo."""
    out.mkdir(parents=True, exist_ok=True)
    torch.save(state, out / "dates.pt")
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
    for name, vocabulary in (("source", SOURCE), ("target", TARGET)):
        text = "".join(token + "\n" for token in vocabulary.tokens)
        (out / f"{name}_vocabulary.txt").write_text(text, encoding="utf-8")
    rows = ",\n".join("  " + json.dumps([text, date], ensure_ascii=False) for text, date in samples)
    (out / "samples.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--peak", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    CONFIG["src_vocab_size"], CONFIG["tgt_vocab_size"] = len(SOURCE.tokens), len(TARGET.tokens)
    validation, test = dates.held_out()
    torch.manual_seed(0)
    model = DateModel(CONFIG)
    started = time.perf_counter()
    state = train(model, arguments, validation)
    print(f"torch {torch.__version__}, {time.perf_counter() - started:.0f} s")
    model.load_state_dict({name: value.float() for name, value in state.items()})
    print(f"float16 weights, {len(test)} held-out dates never looked at in training: {accuracy(model, test):.4f} exact")
    write(arguments.out, state, test[:NUM_SHIPPED_SAMPLES])


if __name__ == "__main__":
    main()
