"""What CTranslate2's beam search finds with two golden encoder-decoders: `beams_ctranslate2.json`.

Needs torch, transformers and ctranslate2: python tests/golden/make_beams_ctranslate2.py
Its coverage counts the padding of a batch, so sources run one by one; the heads of the last layer are averaged.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import transformers
from ctranslate2.converters.transformers import BartLoader, M2M100Loader

FOLDER = Path(__file__).resolve().parent
MODELS = {
    "bart-learned": (transformers.BartForConditionalGeneration, BartLoader),
    "m2m100-fairseq": (transformers.M2M100ForConditionalGeneration, M2M100Loader),
}
SEARCHES: list[dict[str, Any]] = [
    {},
    {"no_repeat_ngram_size": 2},
    {"min_decoding_length": 5},
    {"length_penalty": 0.5},
    {"length_penalty": 2.0, "no_repeat_ngram_size": 3},
    {"coverage_penalty": 0.4},
    {"coverage_penalty": 2.0, "length_penalty": 0.0},
]


def translator(name: str, folder: str) -> tuple[ctranslate2.Translator, list[str]]:
    """The checkpoint in CTranslate2's form, with a word for every token, and the words."""
    kind, loader = MODELS[name]
    model = kind.from_pretrained(FOLDER / name).eval()
    model.config.normalize_before, model.config.normalize_embedding = name.startswith("m2m"), name.startswith("bart")
    spec = loader().get_model_spec(model)
    words = [f"w{token}" for token in range(model.config.vocab_size)]
    words[2], words[3] = "</s>", "<unk>"
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.eos_token, spec.config.unk_token, spec.config.bos_token = "</s>", "<unk>", "</s>"
    spec.config.decoder_start_token = words[model.config.decoder_start_token_id]
    spec.config.add_source_eos = False
    spec.decoder.alignment_heads = np.int16(0)
    spec.validate()
    spec.save(folder)
    return ctranslate2.Translator(folder, device="cpu", compute_type="float32"), words


def main() -> None:
    results = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            model, words = translator(name, scratch)
        with np.load(FOLDER / name / "expected.npz") as file:
            sources = np.split(file["source_ids"], np.cumsum(file["source_lengths"])[:-1])[:3]
        for search in SEARCHES:
            found = []
            for source in sources:
                (best,) = model.translate_batch(
                    [[words[token] for token in source]], beam_size=4, num_hypotheses=4, max_decoding_length=12,
                    return_scores=True, return_attention="coverage_penalty" in search, **search,
                )  # fmt: skip
                texts = ([words.index(word) for word in text] for text in best.hypotheses)
                found.append(list(zip(texts, best.scores, strict=True)))
            results.append({"model": name, "options": search, "hypotheses": found})
    (FOLDER / "beams_ctranslate2.json").write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")


if __name__ == "__main__":
    main()
