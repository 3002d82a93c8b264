"""The examples of `docs/models/` run as they stand, on tiny checkpoints under the names that the pages use.

Code blocks of a page (`sh` and `python`; `text` is not run) follow one another in one empty folder. A checkpoint that a
page names is the golden case of that class, with a tokenizer of letters where the case has none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from golden import cases
from support.adapters import factors, write_adapter

PAGES = Path(__file__).resolve().parents[2] / "docs" / "models"
if not PAGES.is_dir():
    pytest.skip("the documents are not beside the tests", allow_module_level=True)

LETTERS = ""  # a tokenizer of letters, made here
WORDS, PIECES = "tasks/tokenizers/wordpiece", "sentencepiece/unigram.model"
# Names in the pages, the golden checkpoints that stand for them, and tokenizers for those that have none.
CHECKPOINTS = {
    "SmolLM2-135M-Instruct": ("llama-gqa-tied", LETTERS),
    "SmolLM2-135M": ("llama-gqa-tied", LETTERS),
    "Qwen3-0.6B": ("qwen3-tied", LETTERS),
    "pythia-160m": ("gptneox-parallel", LETTERS),
    "bloom-560m": ("bloom-tied", LETTERS),
    "gemma-3-270m": ("gemma3-alternating", LETTERS),
    "gpt-oss-20b": ("gpt-oss-mxfp4", LETTERS),
    "Qwen3-30B-A3B": ("qwen3moe-tied", LETTERS),
    "bitnet-b1.58-2B-4T": ("bitnet-packed", LETTERS),
    "all-MiniLM-L6-v2": ("bert-gelu-mean", LETTERS),
    "bert-base-reviews": ("tasks/classes", WORDS),
    "bert-base-NER": ("tasks/entities", WORDS),
    "bert-base-squad": ("tasks/answers", WORDS),
    "bert-base-uncased": ("tasks/masks", WORDS),
    "bert-base-nli": ("tasks/inference", WORDS),
    "cross-encoder": ("tasks/ranks", WORDS),
    "opus-mt-en-de": ("marian-two-vocabularies", "translation/marian"),
    "nllb-200-distilled-600M": ("m2m100-fairseq", PIECES),
    "my-nanogpt": ("nanogpt-compiled", LETTERS),
}
ADAPTER, ADAPTED = "my-adapter", "llama-gqa-tied"
TEMPLATE = """{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
NLLB = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": ["deu_Latn", "eng_Latn", "fra_Latn"]}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPECIAL = ["<unk>", "<s>", "</s>"]


def letters(size: int) -> dict[str, Any]:
    """A byte-level tokenizer whose only tokens are ASCII letters and the space."""
    pieces = SPECIAL + ["Ġ", *string.ascii_letters, *string.punctuation][: size - len(SPECIAL)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": text, **added} for index, text in enumerate(SPECIAL)],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": {piece: index for index, piece in enumerate(pieces)}, "merges": []},
    }


def put_checkpoint(folder: Path, case: str, tokenizer: str) -> None:
    """The golden checkpoint's folder, with the tokenizer."""
    shutil.copytree(cases.FOLDER / case, folder)
    if tokenizer == PIECES:
        shutil.copy(cases.FOLDER / PIECES, folder / "sentencepiece.bpe.model")
        (folder / "tokenizer_config.json").write_text(json.dumps(NLLB))
    elif tokenizer != LETTERS:
        shutil.copytree(cases.FOLDER / tokenizer, folder, dirs_exist_ok=True)
    else:
        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        (folder / "tokenizer.json").write_text(json.dumps(letters(size)))
        names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "chat_template.jinja").write_text(TEMPLATE)


def put_adapter(folder: Path) -> None:
    """An adapter of the queries of one layer of the checkpoint that stands for SmolLM2-135M."""
    config = json.loads((cases.FOLDER / ADAPTED / "config.json").read_text())
    width = config["hidden_size"]
    module = "model.layers.0.self_attn.q_proj"
    write_adapter(folder, {module: factors((width, width), 4)}, {"r": 4, "target_modules": ["q_proj"]})


def pages() -> list[Path]:
    return sorted(path for path in PAGES.glob("*.md") if BLOCK.search(path.read_text()))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    for name, (case, tokenizer) in CHECKPOINTS.items():
        if name in text:
            put_checkpoint(tmp_path / name, case, tokenizer)
    if ADAPTER in text:
        put_adapter(tmp_path / ADAPTER)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for language, code in BLOCK.findall(text):
        command = ["sh", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
