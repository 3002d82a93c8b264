"""Configurations of classifiers and kin as their publishers wrote them, with the sizes of the golden checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from golden import cases
from support.checkpoints import write_folder

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("dim", "hidden_dim", "n_layers", "n_heads", "max_position_embeddings", "type_vocab_size"),
)
BERT = {
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "use_cache": True,
}
OF_TENSORFLOW = {
    "directionality": "bidi",
    "output_past": True,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
ROBERTA = {**BERT, "model_type": "roberta", "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
DISTILBERT = {
    "activation": "gelu",
    "attention_dropout": 0.1,
    "dropout": 0.1,
    "initializer_range": 0.02,
    "model_type": "distilbert",
    "output_past": True,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
}


def named(*labels: str) -> dict[str, Any]:
    """Both keys of these labels."""
    numbers = {label: number for number, label in enumerate(labels)}
    return {"id2label": {str(number): label for label, number in numbers.items()}, "label2id": numbers}


# The golden checkpoint, the configuration, the verb that comes of it and its labels.
PUBLISHED: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]] = {
    "bert-base-NER": (
        "bert-token-classes",
        {**BERT, **OF_TENSORFLOW, "architectures": ["BertForTokenClassification"], "_num_labels": 5,
         **named("O", "B-PER", "I-PER", "B-LOC", "I-LOC")},
        "tokens",
        ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    ),
    "bert-base-multilingual-uncased-sentiment": (
        "bert-classes",
        {**BERT, **OF_TENSORFLOW, "architectures": ["BertForSequenceClassification"], "_num_labels": 3,
         "finetuning_task": "sentiment-analysis", **named("1 star", "2 stars", "3 stars")},
        "classify",
        ("1 star", "2 stars", "3 stars"),
    ),
    "toxic-bert": (
        "bert-classes",
        {**BERT, "architectures": ["BertForSequenceClassification"], "classifier_dropout": None,
         "problem_type": "multi_label_classification", "torch_dtype": "float32", **named("toxic", "obscene", "threat")},
        "classify",
        ("toxic", "obscene", "threat"),
    ),
    "bert-base-uncased": (
        "bert-words",
        {**BERT, "architectures": ["BertForMaskedLM"], "hidden_act": "gelu_new"},
        "fill_mask",
        (),
    ),
    "bert-large-uncased-whole-word-masking-finetuned-squad": (
        "bert-spans",
        {**BERT, "architectures": ["BertForQuestionAnswering"]},
        "answer",
        (),
    ),
    "distilbert-base-uncased-finetuned-sst-2-english": (
        "distilbert-classes",
        {**DISTILBERT, "architectures": ["DistilBertForSequenceClassification"], "finetuning_task": "sst-2",
         **named("NEGATIVE", "POSITIVE", "OTHER")},
        "classify",
        ("NEGATIVE", "POSITIVE", "OTHER"),
    ),
    "distilroberta-base": (
        "roberta-words",
        {**ROBERTA, "architectures": ["RobertaForMaskedLM"], "pad_token_id": 0},
        "fill_mask",
        (),
    ),
    "twitter-roberta-base-emotion": (
        "roberta-classes",
        {**ROBERTA, "architectures": ["RobertaForSequenceClassification"], "language": "english", "name": "Roberta",
         "_attn_implementation_autoset": True, **named("anger", "joy", "optimism", "sadness")},
        "classify",
        ("anger", "joy", "optimism", "sadness"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_known_and_the_verb_is_there(name: str, tmp_path: Path) -> None:
    folder, published, verb, labels = PUBLISHED[name]
    golden = json.loads((cases.FOLDER / folder / "config.json").read_text())
    with open_checkpoint(cases.FOLDER / folder) as checkpoint:
        tensors = {tensor: checkpoint.read(tensor) for tensor in checkpoint.names()}
    config = {key: golden[key] for key in SIZES if key in golden} | published
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf")
    with edgeformer.load(report.path, threads=1) as model:
        assert verb in model.verbs
        assert model.labels == labels
