"""Small files of encoders' tokenizers, and what transformers makes of them: `encoder_tokenizers/`.

Needs transformers, sentencepiece and protobuf: python tests/golden/make_encoder_tokenizers.py
DeBERTa's ids are SentencePiece's own, with the tokens around them: transformers 5 leaves its normalization out.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from golden.make_sentencepiece import RULES

FOLDER = Path(__file__).resolve().parent / "encoder_tokenizers"
CLASSES = {
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "albert": "AlbertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "deberta": "DebertaTokenizer",
    "roberta": "RobertaTokenizer",
    "mpnet": "MPNetTokenizer",
}
MASKS_APART = ("deberta-v2", "deberta", "roberta")  # of the first SentencePiece knows none; published files differ
PAIRS_APART = ("deberta",)  # transformers 5 puts two tokens between them, the model was trained with one
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "camembert": ("sentencepiece.bpe.model", {}),
    "albert": (
        "spiece.model",
        {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP]",
         "user_defined_symbols": "[MASK]"},
    ),
    "deberta-v2": (
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
         "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    ),
}  # fmt: skip
WORDS = (
    *("the", "sea", "these", "kings", "read", "three", "fine", "seats", "and", "sang", "at", "then", "rest"),
    *("The", "King", "caf\u00e9", "don't", ".", ",", "3", "12"),
)


def texts() -> list[str]:
    """Chosen ones, and noise; no marks that follow letters, which the tokenizers library composes in its own way."""
    chosen = ["the sea", "The King's  caf\u00e9 ...", "  lead", "", "   ", "a\tb", "``quoted''", "\ufb01ne \u2026"]
    generator = random.Random(5)
    pool = [*"aetshr nid  TK.,'12`\"", "\u00a0", "\u4e16", "\U0001f389", "\u00df", "\u00e9", "\u200b", "\uff76"]
    return chosen + ["".join(generator.choices(pool, k=generator.randint(1, 24))) for _ in range(100)]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    generator = random.Random(1)
    lines = [" ".join(generator.choices(WORDS, k=8)) for _ in range(400)]
    made: dict[str, Any] = {"transformers": transformers.__version__, "texts": texts()}
    for name, kind in CLASSES.items():
        folder = FOLDER / name
        folder.mkdir(parents=True)
        if name in MODELS:
            train_pieces(folder, lines, *MODELS[name])
        else:
            train_words(folder, lines, name)
        (folder / "config.json").write_text(json.dumps({"model_type": name}) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}) + "\n")
        tokenizer = getattr(transformers, kind).from_pretrained(folder)
        encode = tokenizer.__call__ if name != "deberta-v2" else deberta(folder / "spm.model")
        others = [text or "and" for text in [*made["texts"][7:], *made["texts"][:7]]]  # an empty one is none
        pairs = [encode(one, other)["input_ids"] for one, other in zip(made["texts"], others, strict=True)]
        if name in PAIRS_APART:
            pairs = [encode(one)["input_ids"] + encode(other)["input_ids"][1:]
                     for one, other in zip(made["texts"], others, strict=True)]  # fmt: skip
        made[name] = {
            "ids": [encode(text)["input_ids"] for text in made["texts"]],
            "pairs": pairs,
            "masked": None if name in MASKS_APART else encode(f"the {tokenizer.mask_token} sea")["input_ids"],
        }
    (FOLDER / "expected.json").write_text(json.dumps(made, separators=(",", ":")))


def train_pieces(folder: Path, lines: list[str], file: str, options: dict[str, Any]) -> None:
    """A Unigram model."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # a model keeps the names of files that it is given
        spelled = (" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value)
                   for key, value in RULES.items() if key != "A")  # fmt: skip
        Path("rules.tsv").write_text("\n".join(spelled) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix="pieces", vocab_size=70, minloglevel=2, hard_vocab_limit=False,
            model_type="unigram", normalization_rule_tsv="rules.tsv", **options,
        )  # fmt: skip
        shutil.copy("pieces.model", folder / file)
        os.chdir(FOLDER)


def train_words(folder: Path, lines: list[str], name: str) -> None:
    """RoBERTa's and DeBERTa's `vocab.json` and `merges.txt`, or MPNet's `vocab.txt`."""
    if name in ("roberta", "deberta"):
        library = tokenizers.ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        if name == "deberta":
            special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
        library.train_from_iterator(lines, vocab_size=320, special_tokens=special, show_progress=False)
        library.save_model(str(folder))
        return
    pieces = sorted({word.lower() for word in WORDS} | {f"##{letter}" for letter in "aetshrnid"} | {*"aetshrnid12"})
    (folder / "vocab.txt").write_text("\n".join(["<s>", "<pad>", "</s>", "[UNK]", *pieces, "<mask>"]) + "\n")


def deberta(path: Path) -> Callable[..., dict[str, list[int]]]:
    """DeBERTa's `[CLS] A [SEP] B [SEP]` over SentencePiece's ids."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(text: str, other: str | None = None) -> dict[str, list[int]]:
        ids = [1, *model.encode(text), 2]
        return {"input_ids": ids if other is None else [*ids, *model.encode(other), 2]}

    return encode


if __name__ == "__main__":
    main()
