"""Small SentencePiece models with tables of their own, and the ids that SentencePiece gives: `sentencepiece/`.

Needs the sentencepiece package: python tests/golden/make_sentencepiece.py
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import sentencepiece

FOLDER = Path(__file__).resolve().parent / "sentencepiece"
# What is replaced, longest first where they begin alike; an empty replacement takes a text away.
RULES = {
    "e\u0323\u0302": "\u1ec7", "e\u0323": "\u1eb9", "e\u0302": "\u00ea", "e\u0302\u0301": "\u1ebf",
    "\uff76\uff9e": "\u30ac", "\uff76": "\u30ab", "\uff97": "\u30e9", "\u30ab\u3099": "\u30ac",
    "\u1112\u1161\u11ab": "\ud55c",
    "\ufb01": "fi", "\u2026": "...", "\u00be": "3/4", "\t": " ", "\u00a0": " ", "\u200b": "", "A": "a",
}  # fmt: skip
KINDS = {
    "unigram": {"model_type": "unigram"},
    "unigram-bytes": {"model_type": "unigram", "byte_fallback": True},
    "unigram-spaces": {"model_type": "unigram", "remove_extra_whitespaces": False, "byte_fallback": True},
    "unigram-no-prefix": {"model_type": "unigram", "add_dummy_prefix": False},
    "bpe": {"model_type": "bpe", "byte_fallback": True},
    "unigram-symbols": {"model_type": "unigram", "user_defined_symbols": ["<sep>", "foo bar", "th", "\ufb01"]},
    "bpe-symbols": {
        "model_type": "bpe", "byte_fallback": True, "user_defined_symbols": ["<sep>", "foo bar", "sea", "a"],
    },
    "bpe-symbols-plain": {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "add_dummy_prefix": False,
        "user_defined_symbols": ["<sep>", "<sep><sep>"], "remove_extra_whitespaces": False,
    },
}  # fmt: skip


def texts() -> list[str]:
    """Chosen ones, and noise of characters that the tables know beside those that they do not."""
    chosen = [
        *("Vie\u0323\u0302t", "\uff76\uff9e\uff97", "\u1112\u1161\u11ab", "\u00be\u0358", "e\u0302\u0323\u0301e"),
        *(" the", "  the  sea ", "a\tb", "", "   ", "a\u200b", "\ufb01ne \u2026"),
        *("<0x09>", "x<0x41>y <0x0a><0xC3><0xA9>"),
        *("a<sep>b", "a<sep> b", " a  <sep>  b ", "<sep>", "<sep>a", "<sep><sep><sep>", "x foo bar y", "foo  bar"),
        *("the sea these", "\ufb01\ufb01e A<sep>A"),
    ]
    generator = random.Random(0)
    pool = [*"aetshr nid  ", *"".join(RULES), *"\u0301\u0358\u3099\U0001f389z<0x>"]
    noise = ["".join(generator.choices(pool, k=generator.randint(1, 24))) for _ in range(120)]
    pool += 3 * ["<sep>", "sea", "th", "\ufb01", "  "]
    return chosen + noise + ["".join(generator.choices(pool, k=generator.randint(1, 16))) for _ in range(60)]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    generator, wanted = random.Random(1), texts()
    words = ["the", "sea", "these", "kings", "read", "three", "fine", "seats", "and", "sang", "at", "then", "rest"]
    lines = [" ".join(generator.choices(words, k=8)) for _ in range(400)]
    ids: dict[str, list[list[int]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # a model keeps the names of files that it is given
        rules = Path("rules.tsv")
        spelled = (" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value)
                   for key, value in RULES.items())  # fmt: skip
        rules.write_text("\n".join(spelled) + "\n")
        for name, options in KINDS.items():
            size = 330 if options.get("byte_fallback") else 50
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_prefix=name, vocab_size=size, minloglevel=2,
                hard_vocab_limit=False,
                **({} if "normalization_rule_name" in options else {"normalization_rule_tsv": str(rules)}), **options,
            )  # fmt: skip
            shutil.copy(f"{name}.model", FOLDER)
            model = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / f"{name}.model"))
            ids[name] = [model.encode(text) for text in wanted]
        os.chdir(FOLDER)
    made = {"sentencepiece": sentencepiece.__version__, "texts": wanted, "ids": ids}
    (FOLDER / "expected.json").write_text(json.dumps(made, separators=(",", ":")))


if __name__ == "__main__":
    main()
