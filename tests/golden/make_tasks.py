"""Make the golden answers of tasks: tiny random models with a tokenizer, and what transformers' pipelines give.

usage: python tests/golden/make_tasks.py      needs: torch, tokenizers, transformers below 5, which has all pipelines

Every folder of `tasks/` but `tokenizers` is a checkpoint without its tokenizer, which the one of that name in
`tokenizers/` is, beside `expected.json`: a list of calls, each with the pipeline's arguments and its result.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from transformers.pipelines import pipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from golden.makers.common import randomize

FOLDER = Path(__file__).resolve().parent / "tasks"
POSITIONS = 64

TEXTS = [
    "Clara Novak flew from Oslo to New-York on Monday, and nobody at Acme Corp. knew.",
    "the river froze; the mill stood still",
    "Ça alors!  Zoë paid 12.50 euros (in cash) for the café's naïve painting.",
    "東京 and Málaga are far apart 🙂 aren't they?",
    "x",
]
LONG = " ".join([
    "Old Marta kept bees behind the school in Lund until the winter of 1987.",
    "Her nephew Tom sold the honey at the harbour market, two jars for a coin.",
    "When the school closed, the bees moved to the orchard of the Berg family.",
    "Nobody in Lund has tasted better honey since, or so the harbour men say.",
])  # fmt: skip
QUESTIONS = ["Who kept bees?", "Where did Tom sell the honey, and for how much?", "When?"]
HYPOTHESES = ["travel", "the weather", "art"]
CLASSES = {"contradiction": 0, "entailment": 1, "neutral": 2}
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]


def wordpiece(folder: Path) -> None:
    """An uncased WordPiece of the texts."""
    made = tokenizers.BertWordPieceTokenizer(lowercase=True)
    corpus = [*TEXTS, LONG, *QUESTIONS, *HYPOTHESES]
    made.train_from_iterator(corpus, vocab_size=220, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True)
    made.save_model(str(folder))
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=POSITIONS).save_pretrained(folder)
    (folder / "vocab.txt").unlink()


def byte_level(folder: Path) -> None:
    """RoBERTa's byte-level BPE of the texts."""
    made = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator([*TEXTS, LONG], vocab_size=330, special_tokens=special, show_progress=False)
    folder.mkdir(parents=True)
    made.save_model(str(folder))
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    transformers.RobertaTokenizerFast(*files, model_max_length=POSITIONS).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()


def made(name: str, kind: str, tokenizer: Any, seed: int, **config: Any) -> torch.nn.Module:
    """A random model of a class of transformers, in its folder."""
    family = "Bert" if kind.startswith("Bert") else "Roberta"
    offset = 0 if family == "Bert" else tokenizer.pad_token_id + 1
    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 3}
    settings = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=POSITIONS + offset, pad_token_id=tokenizer.pad_token_id,
        type_vocab_size=2 if family == "Bert" else 1, **sizes, **config,
    )  # fmt: skip
    model = getattr(transformers, kind)(settings).eval()
    randomize(model, seed)
    for parameter in model.parameters():
        parameter *= 1.5
    model.save_pretrained(FOLDER / name)
    return model


def plain(value: Any) -> Any:
    """Numbers as Python has them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, (np.generic, torch.Tensor)) else value


def write(name: str, tokenizer: str, calls: list[dict[str, Any]]) -> None:
    """One call a line."""
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    head = json.dumps({"tokenizer": tokenizer, "made": made_with})
    lines = ",\n".join(json.dumps(call, ensure_ascii=False) for call in plain(calls))
    text = f'{head[:-1]}, "calls": [\n{lines}\n]}}\n'
    (FOLDER / name / "expected.json").write_text(text, encoding="utf-8")


def classes(tokenizer: Any) -> None:
    names = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}
    model = made("classes", "BertForSequenceClassification", tokenizer, 1, **names)
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    calls = [{"text": text, "result": pipe(text, top_k=None)} for text in TEXTS]
    calls += [{"text": LONG, "truncate": "right", "result": pipe(LONG, top_k=None, truncation=True)}]
    for one, other in ((TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3]), (LONG, TEXTS[1]), (TEXTS[1], LONG), (LONG, LONG)):
        result = pipe({"text": one, "text_pair": other}, top_k=None, truncation=True)
        calls += [{"text": one, "text_pair": other, "truncate": "right", "result": result}]
    write("classes", "wordpiece", calls)


def several_labels(tokenizer: Any) -> None:
    names = ["joy", "anger", "fear", "love"]
    settings = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    problem = {"problem_type": "multi_label_classification"}
    model = made("several-labels", "RobertaForSequenceClassification", tokenizer, 2, **settings, **problem)
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    write("several-labels", "byte-level", [{"text": text, "result": pipe(text, top_k=None)} for text in TEXTS])


def inference(tokenizer: Any) -> None:
    names = {"id2label": {i: name for name, i in CLASSES.items()}, "label2id": CLASSES}
    model = made("inference", "BertForSequenceClassification", tokenizer, 3, **names)
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer)
    calls = []
    for text in (TEXTS[0], TEXTS[2], LONG):
        for template in ("This example is {}.", "It is about {}!"):
            for multi_label in (False, True):
                result = pipe(text, HYPOTHESES, hypothesis_template=template, multi_label=multi_label)
                scores = dict(zip(result["labels"], result["scores"], strict=True))
                calls += [{"text": text, "labels": HYPOTHESES, "hypothesis_template": template,
                           "multi_label": multi_label, "result": scores}]  # fmt: skip
    write("inference", "wordpiece", calls)


def entities(name: str, kind: str, kind_of_tokenizer: str, tokenizer: Any, seed: int) -> None:
    settings = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: i for i, tag in enumerate(TAGS)}}
    model = made(name, kind, tokenizer, seed, **settings)
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer)
    calls = []
    for aggregation in ("none", "simple", "first", "average", "max"):
        calls += [{"text": text, "aggregation": aggregation, "result": pipe(text, aggregation_strategy=aggregation)}
                  for text in TEXTS]  # fmt: skip
        if aggregation in ("simple", "max"):
            result = pipe(LONG, aggregation_strategy=aggregation, stride=7)
            calls += [{"text": LONG, "aggregation": aggregation, "stride": 7, "result": result}]
    write(name, kind_of_tokenizer, calls)


def answers(tokenizer: Any) -> None:
    model = made("answers", "BertForQuestionAnswering", tokenizer, 5)
    pipe = pipeline("question-answering", model=model, tokenizer=tokenizer)
    calls = []
    for question in QUESTIONS:
        for context in (TEXTS[0], TEXTS[2], LONG):
            for options in ({}, {"top_k": 4}, {"top_k": 3, "impossible": True}, {"max_answer_tokens": 3},
                            {"window": 36, "stride": 9}):  # fmt: skip
                theirs = {"window": "max_seq_len", "stride": "doc_stride", "max_answer_tokens": "max_answer_len",
                          "impossible": "handle_impossible_answer"}  # fmt: skip
                given = {"max_seq_len": POSITIONS} | {theirs.get(key, key): value for key, value in options.items()}
                result = pipe(question=question, context=context, **given)
                calls += [{"question": question, "context": context, **options,
                           "result": result if isinstance(result, list) else [result]}]  # fmt: skip
    write("answers", "wordpiece", calls)


def masks(name: str, kind: str, kind_of_tokenizer: str, tokenizer: Any, seed: int) -> None:
    model = made(name, kind, tokenizer, seed)
    pipe = pipeline("fill-mask", model=model, tokenizer=tokenizer)
    calls = []
    for text in ("Clara flew to {} on Monday.", "{} froze", "the {} stood {}."):
        spelled = text.replace("{}", tokenizer.mask_token)
        result = pipe(spelled, top_k=4)
        calls += [{"text": spelled, "top_k": 4, "result": result if isinstance(result[0], list) else [result]}]
    write(name, kind_of_tokenizer, calls)


def ranks(tokenizer: Any) -> None:
    model = made("ranks", "BertForSequenceClassification", tokenizer, 9, num_labels=1)
    documents = [*TEXTS, LONG]
    calls = []
    for query in QUESTIONS:
        given = tokenizer([query] * len(documents), documents, truncation=True, padding=True, return_tensors="pt")
        calls += [{"query": query, "documents": documents, "result": model(**given).logits.sigmoid()[:, 0].tolist()}]
    write("ranks", "wordpiece", calls)


def main() -> None:
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    wordpiece(FOLDER / "tokenizers" / "wordpiece")
    byte_level(FOLDER / "tokenizers" / "byte-level")
    bert, roberta = (
        transformers.AutoTokenizer.from_pretrained(FOLDER / "tokenizers" / name) for name in ("wordpiece", "byte-level")
    )
    classes(bert)
    several_labels(roberta)
    inference(bert)
    entities("entities", "BertForTokenClassification", "wordpiece", bert, 4)
    entities("entities-byte-level", "RobertaForTokenClassification", "byte-level", roberta, 6)
    answers(bert)
    masks("masks", "BertForMaskedLM", "wordpiece", bert, 7)
    masks("masks-byte-level", "RobertaForMaskedLM", "byte-level", roberta, 8)
    ranks(bert)


if __name__ == "__main__":
    main()
