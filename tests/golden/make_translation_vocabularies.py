"""Folders of tokenizers as translation models have them, over the models of `sentencepiece/`, and the ids that
SentencePiece and transformers give: `translation/`.

Needs the packages sentencepiece and transformers: python tests/golden/make_translation_vocabularies.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import sentencepiece
import transformers

HERE = Path(__file__).resolve().parent
FOLDER, MODELS = HERE / "translation", HERE / "sentencepiece"
CODES = ["de_DE", "en_XX", "fr_XX"]
MORE = [">>fra<< the sea", ">>deu<<  kings", "see >>x<< there", "</s> the <pad>", "жшthe", "ж the", "Ж", "the\u2581sea"]


def texts() -> list[str]:
    return [*json.loads((MODELS / "expected.json").read_text())["texts"], *MORE]


def put(name: str, files: dict[str, Any]) -> Path:
    """A folder with these files: JSON from objects, copies of a model from its name."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        if isinstance(content, str):
            shutil.copy(MODELS / f"{content}.model", folder / path)
        else:
            (folder / path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return folder


def pieces_of(model: str) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODELS / f"{model}.model"))
    return [processor.id_to_piece(token) for token in range(processor.get_piece_size())]


def marian() -> list[list[int]]:
    """Pieces of both sides in one table, which lacks some and has a character that the source's model has not."""
    both = sorted({*pieces_of("unigram")[3:], *pieces_of("unigram-no-prefix")[3:]})
    names = ["</s>", "<unk>", *both[::-1][3:], "ж", ">>deu<<", ">>fra<<", "<pad>"]
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
    files = {"source.spm": "unigram", "target.spm": "unigram-no-prefix", "tokenizer_config.json": settings}
    folder = put("marian", {**files, "vocab.json": {name: token for token, name in enumerate(names)}})
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    return [[*tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text)), 0] for text in texts()]


def m2m() -> list[list[int]]:
    names = ["<s>", "<pad>", "</s>", "<unk>", *pieces_of("bpe")[3:][::-1]]
    settings = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "en"}
    files = {"sentencepiece.bpe.model": "bpe", "tokenizer_config.json": settings}
    folder = put("m2m100", {**files, "vocab.json": {name: token for token, name in enumerate(names)}})
    tokenizer = transformers.M2M100Tokenizer.from_pretrained(folder)
    english = tokenizer.get_lang_id("en")
    return [[english, *tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text)), 2] for text in texts()]


def fairseq(name: str, tokenizer: str, after: bool) -> list[list[int]]:
    """The rule of fairseq's dictionaries: SentencePiece's ids plus one, its unknown token being the fourth."""
    settings = {"tokenizer_class": tokenizer, "additional_special_tokens": CODES, "src_lang": "en_XX"}
    put(name, {"sentencepiece.bpe.model": "unigram", "tokenizer_config.json": settings})
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODELS / "unigram.model"))
    english = processor.get_piece_size() + 2
    before, behind = ([], [2, english]) if after else ([english], [2])
    ids = [processor.encode(text) for text in texts()]
    return [[*before, *(token + 1 if token else 3 for token in row), *behind] for row in ids]


def byt5() -> list[list[int]]:
    put("byt5", {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}})
    return [[*(byte + 3 for byte in text.encode()), 1] for text in texts()]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    ids = {
        "marian": marian(),
        "m2m100": m2m(),
        "mbart": fairseq("mbart", "MBartTokenizer", after=True),
        "mbart50": fairseq("mbart50", "MBart50Tokenizer", after=False),
        "byt5": byt5(),
    }
    (FOLDER / "expected.json").write_text(json.dumps({"texts": texts(), "ids": ids}) + "\n")


if __name__ == "__main__":
    main()
