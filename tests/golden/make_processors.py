"""Makes `processors.json`: what transformers' logits processors and warpers do to random logits.

python tests/golden/make_processors.py        # in a Python with torch and transformers
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

VOCAB, ENDS = 23, [3, 5]
CONFIGS = [
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6, "no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 3},
    {"sequence_bias": [[[4], 1.5], [[2, 7], -3.0], [[1, 2, 8], 4.25], [[7], 2.0]]},
    {"bad_words_ids": [[6], [2, 9], [0, 1, 2, 11], [3]]},  # an end token alone does not count
    {"min_length": 9},
    {"min_new_tokens": 3},
    {"suppress_tokens": [0, 22], "begin_suppress_tokens": [13, 14]},
    {"sequence_bias": [[[2], 2.5]], "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words_ids": [[2, 10]],
     "min_new_tokens": 2, "suppress_tokens": [12]},
    {"do_sample": True, "typical_p": 0.3},
    {"do_sample": True, "typical_p": 0.9, "temperature": 0.6},
    {"do_sample": True, "typical_p": 0.7, "temperature": 1.7, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
    {"do_sample": True, "typical_p": 0.5, "min_p": 0.1, "top_k": 0, "suppress_tokens": [1, 2]},
]  # fmt: skip
# Tokens, and how many of them are the prompt.
HISTORIES = [
    ([1], 1),
    ([0, 1, 2, 1, 2], 3),
    ([4, 4, 1, 2, 7, 8, 1, 2, 0, 1, 2], 6),
]


def main() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    generator = torch.Generator().manual_seed(3)
    cases = []
    for settings in CONFIGS:
        for tokens, prompt in HISTORIES:
            config = GenerationConfig(eos_token_id=ENDS, **settings)
            model._prepare_special_tokens(config, torch.tensor(False), device="cpu")
            config.max_length = 100
            processors = model._get_logits_processor(config, prompt, torch.tensor([tokens[:prompt]]), device="cpu")
            logits = torch.randn(1, VOCAB, generator=generator) * 2
            result = processors(torch.tensor([tokens]), logits.clone())[0].tolist()
            shown = [None if value == float("-inf") else value for value in result]
            cases.append(
                {
                    "settings": settings,
                    "tokens": tokens,
                    "prompt": prompt,
                    "logits": logits[0].tolist(),
                    "result": shown,
                }
            )
    Path(__file__).with_name("processors.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
