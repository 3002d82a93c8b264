"""Make the golden vectors of `sentences/`: folders as sentence-transformers writes them, and what its `encode` gives.

usage: python tests/golden/make_sentences.py      needs: torch, transformers, sentence-transformers

The model and the tokenizer are those of `tasks/masks`, with modules around them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, models

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "sentences"
TEXTS = ["Clara Novak flew from Oslo to New-York.", "x", "Old Marta kept bees behind the school. " * 9]
PROMPTS = {"query": "who flew: ", "passage": ""}
# Name: pooling, outputs and activation of the linear layers, whether vectors have length 1, the default prompt.
MODULES: dict[str, tuple[str, list[tuple[int, Any]], bool, str | None]] = {
    "mean-dense": ("mean", [(7, torch.nn.Tanh())], True, None),
    "last-two-dense": ("lasttoken", [(9, torch.nn.GELU()), (4, torch.nn.Identity())], False, "query"),
}


def make(name: str, base: Path) -> None:
    pooling, layers, normalized, default = MODULES[name]
    transformer = models.Transformer(str(base))
    width = transformer.get_embedding_dimension()
    modules: list[torch.nn.Module] = [transformer, models.Pooling(width, pooling_mode=pooling)]
    for outputs, activation in layers:
        modules.append(models.Dense(width, outputs, bias=outputs != 9, activation_function=activation))
        width = outputs
    modules += [models.Normalize()] if normalized else []
    model = SentenceTransformer(modules=modules, prompts=PROMPTS, default_prompt_name=default)
    folder = FOLDER / name
    model.save_pretrained(str(folder), create_model_card=False)
    calls = [
        {"prompt_name": name, "vectors": model.encode(TEXTS, prompt_name=name).tolist()} for name in (None, *PROMPTS)
    ]
    expected = {"sentence-transformers": sentence_transformers.__version__, "texts": TEXTS, "calls": calls}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "model"
        shutil.copytree(HERE / "tasks" / "masks", base)
        shutil.copytree(HERE / "tasks" / "tokenizers" / "wordpiece", base, dirs_exist_ok=True)
        for name in MODULES:
            make(name, base)


if __name__ == "__main__":
    main()
