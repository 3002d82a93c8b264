"""What transformers' beam search finds with the golden encoder-decoders: `beams.json`.

Needs torch and transformers: python tests/golden/make_beams.py
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).resolve().parent
MODELS = {
    "bart-learned": transformers.BartForConditionalGeneration,
    "marian-two-vocabularies": transformers.MarianMTModel,
    "m2m100-fairseq": transformers.M2M100ForConditionalGeneration,
    "t5-relu-scaled": transformers.T5ForConditionalGeneration,
}
SEARCHES = [
    {"num_beams": beams, "early_stopping": stopping, "length_penalty": penalty, "max_new_tokens": tokens}
    for (beams, tokens), stopping, penalty in itertools.product(
        [(2, 9), (4, 20), (5, 6)], [True, False, "never"], [1.0, 0.0, 2.0]
    )
]
MORE = [{"forced_eos_token_id": 2}, {"forced_bos_token_id": 7}, {"target_prefix": [9, 5, 11]}]


def best(model: Any, source: list[int], search: dict[str, Any]) -> list[list[Any]]:
    """The n best: token ids after what the decoder was given, without the end token, and the score."""
    settings = dict(search)
    start = [model.config.decoder_start_token_id, *settings.pop("target_prefix", [])]
    ids = torch.tensor([source])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), decoder_input_ids=torch.tensor([start]), do_sample=False,
        num_return_sequences=search["num_beams"], return_dict_in_generate=True, output_scores=True, **settings,
    )  # fmt: skip
    texts = []
    for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        new = row[len(start) :]
        texts.append([new[: new.index(2)] if 2 in new else new, score])
    return texts


def main() -> None:
    torch.set_num_threads(1)
    searches = SEARCHES + [{**SEARCHES[9], **more} for more in MORE]
    results = []
    for name, kind in MODELS.items():
        model = kind.from_pretrained(FOLDER / name).eval()
        start = model.config.decoder_start_token_id
        model.generation_config = transformers.GenerationConfig(
            eos_token_id=2, pad_token_id=0, decoder_start_token_id=start
        )
        with np.load(FOLDER / name / "expected.npz") as file:
            sources = np.split(file["source_ids"], np.cumsum(file["source_lengths"])[:-1])[:3]
        for search in searches:
            found = [best(model, source.tolist(), search) for source in sources]
            results.append({"model": name, "options": search, "hypotheses": found})
    (FOLDER / "beams.json").write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")
    ended = sum(len(beam[0]) < entry["options"]["max_new_tokens"] for entry in results for text in entry["hypotheses"]
                for beam in text)  # fmt: skip
    print(len(results), "searches,", ended, "hypotheses that ended")


if __name__ == "__main__":
    main()
