"""Configurations of encoders as their publishers wrote them, keys and spelling, with the golden checkpoints' sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from golden import cases
from support.checkpoints import write_folder

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "embedding_size"),
    *("dim", "hidden_dim", "n_layers", "n_heads", "max_position_embeddings", "type_vocab_size", "num_hidden_groups"),
    *("position_buckets", "local_attention", "norm_bias", "id2label", "label2id", "classifier_bias"),
)
BERT = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "transformers_version": "4.6.0.dev0",
}
ROBERTA = {**BERT, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5, "pad_token_id": 1}
DISTILBERT = {
    "activation": "gelu",
    "attention_dropout": 0.1,
    "dropout": 0.1,
    "initializer_range": 0.02,
    "model_type": "distilbert",
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
}
DEBERTA = {
    **BERT,
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "model_type": "deberta-v2",
    "norm_rel_ebd": "layer_norm",
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": 768,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "relative_attention": True,
    "share_att_key": True,
}
MODERN = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "classifier_activation": "gelu",
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "cls_token_id": 1,
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "eos_token_id": 2,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-5,
    "local_rope_theta": 10000.0,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_eps": 1e-5,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "reference_compile": False,
    "repad_logits_with_grad": False,
    "sep_token_id": 2,
    "sparse_pred_ignore_index": -100,
    "sparse_prediction": False,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "transformers_version": "4.48.0",
}
GTE = {
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"},
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "model_type": "new",
    "pack_qkv": True,
    "pad_token_id": 1,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float16",
    "transformers_version": "4.39.1",
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base-uncased": (
        "bert-words",
        {
            **BERT,
            "architectures": ["BertForMaskedLM"],
            "gradient_checkpointing": False,
            "model_type": "bert",
            "position_embedding_type": "absolute",
            "use_cache": True,
        },
    ),
    "dbmdz/bert-large-cased-finetuned-conll03-english": (
        "bert-token-classes",
        {
            **BERT,
            "_num_labels": 9,
            "architectures": ["BertForTokenClassification"],
            "directionality": "bidi",
            "model_type": "bert",
            "pooler_fc_size": 768,
            "pooler_num_attention_heads": 12,
            "pooler_num_fc_layers": 3,
            "pooler_size_per_head": 128,
            "pooler_type": "first_token_transform",
        },
    ),
    "distilbert-base-uncased": ("distilbert-words", {**DISTILBERT, "architectures": ["DistilBertForMaskedLM"]}),
    "distilbert-base-uncased-finetuned-sst-2-english": (
        "distilbert-classes",
        {
            **DISTILBERT,
            "architectures": ["DistilBertForSequenceClassification"],
            "finetuning_task": "sst-2",
            "output_past": True,
        },
    ),
    "roberta-base": ("roberta-words", {**ROBERTA, "architectures": ["RobertaForMaskedLM"], "model_type": "roberta"}),
    "cardiffnlp/twitter-roberta-base-sentiment-latest": (
        "roberta-classes",
        {
            **ROBERTA,
            "_name_or_path": "tweeteval_new/roberta-base-rt-sentiment/",
            "architectures": ["RobertaForSequenceClassification"],
            "classifier_dropout": None,
            "gradient_checkpointing": False,
            "model_type": "roberta",
            "position_embedding_type": "absolute",
            "problem_type": "single_label_classification",
            "use_cache": True,
        },
    ),
    "xlm-roberta-base": (
        "roberta-words",
        {**ROBERTA, "architectures": ["XLMRobertaForMaskedLM"], "model_type": "xlm-roberta", "output_past": True},
    ),
    "BAAI/bge-m3": (
        "roberta-relu",
        {
            **ROBERTA,
            "architectures": ["XLMRobertaModel"],
            "model_type": "xlm-roberta",
            "output_past": True,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "use_cache": True,
        },
    ),
    "camembert-base": (
        "roberta-words",
        {
            **ROBERTA,
            "architectures": ["CamembertForMaskedLM"],
            "bos_token_id": 5,
            "eos_token_id": 6,
            "model_type": "camembert",
            "output_past": True,
        },
    ),
    "albert-base-v2": (
        "albert-words",
        {
            **BERT,
            "architectures": ["AlbertForMaskedLM"],
            "attention_probs_dropout_prob": 0,
            "bos_token_id": 2,
            "classifier_dropout_prob": 0.1,
            "down_scale_factor": 1,
            "eos_token_id": 3,
            "gap_size": 0,
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": 0,
            "inner_group_num": 1,
            "model_type": "albert",
            "net_structure_type": 0,
            "num_memory_blocks": 0,
        },
    ),
    "google/electra-small-discriminator": (
        "electra-projected",
        {
            **BERT,
            "architectures": ["ElectraForPreTraining"],
            "model_type": "electra",
            "position_embedding_type": "absolute",
            "summary_activation": "gelu",
            "summary_last_dropout": 0.1,
            "summary_type": "first",
            "summary_use_proj": True,
        },
    ),
    "sentence-transformers/all-mpnet-base-v2": (
        "mpnet-biased",
        {
            **ROBERTA,
            "_name_or_path": "microsoft/mpnet-base",
            "architectures": ["MPNetForMaskedLM"],
            "model_type": "mpnet",
            "relative_attention_num_buckets": 32,
        },
    ),
    "microsoft/deberta-v3-base": ("deberta-v3", {**DEBERTA}),
    "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli": (
        "deberta-classes",
        {
            **DEBERTA,
            "_name_or_path": "microsoft/deberta-v3-base",
            "architectures": ["DebertaV2ForSequenceClassification"],
            "legacy": True,
            "torch_dtype": "float32",
        },
    ),
    "microsoft/deberta-base-mnli": (
        "deberta-first-classes",
        {
            **BERT,
            "architectures": ["DebertaForSequenceClassification"],
            "layer_norm_eps": 1e-7,
            "max_relative_positions": 20,
            "model_type": "deberta",
            "padding_idx": 0,
            "pooler": {"dropout": 0, "hidden_act": "gelu"},
            "pooler_dropout": 0,
            "pooler_hidden_act": "gelu",
            "pooler_hidden_size": 768,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "relative_attention": True,
        },
    ),
    "answerdotai/ModernBERT-base": ("modern-bert-words", {**MODERN, "architectures": ["ModernBertForMaskedLM"]}),
    "Alibaba-NLP/gte-reranker-modernbert-base": (
        "modern-bert-classes",
        {**MODERN, "architectures": ["ModernBertForSequenceClassification"]},
    ),
    "Alibaba-NLP/gte-multilingual-base": (
        "gte-gelu",
        {**GTE, "architectures": ["NewModel"]},
    ),
    "Alibaba-NLP/gte-multilingual-reranker-base": (
        "gte-classes",
        {**GTE, "architectures": ["NewForSequenceClassification"]},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_known_and_the_file_loads(name: str, tmp_path: Path) -> None:
    folder, published = PUBLISHED[name]
    golden = json.loads((cases.FOLDER / folder / "config.json").read_text())
    with open_checkpoint(cases.FOLDER / folder) as checkpoint:
        tensors = {tensor: checkpoint.read(tensor) for tensor in checkpoint.names()}
    config = {key: golden[key] for key in SIZES if key in golden} | published
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf")
    with edgeformer.load(report.path, threads=1) as model:
        states = model.hidden_states([3, 5, 7])
    assert states.shape[0] == 3 and np.isfinite(states).all()
