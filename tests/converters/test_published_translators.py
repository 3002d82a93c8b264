"""Configurations of encoder-decoders with the keys that published ones have: each is converted and loads."""

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

TRAINING = {"activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1, "classifier_dropout": 0.0,
            "classif_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "init_std": 0.02,
            "gradient_checkpointing": False, "use_cache": True, "is_encoder_decoder": True, "torch_dtype": "float32",
            "transformers_version": "4.22.0", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
            "add_bias_logits": False}  # fmt: skip
SUMMARY = {"early_stopping": True, "length_penalty": 2.0, "max_length": 142, "min_length": 56,
           "no_repeat_ngram_size": 3, "num_beams": 4}  # fmt: skip
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "opus-mt": ("marian-two-vocabularies", {
        **TRAINING, "add_final_layer_norm": False, "normalize_before": False, "normalize_embedding": False,
        "static_position_embeddings": True, "bad_words_ids": [[1]], "num_beams": 6, "max_length": 512,
        "num_hidden_layers": 2, "extra_pos_embeddings": 0}),
    "bart-large-cnn": ("bart-learned", {
        **TRAINING, **SUMMARY, "_num_labels": 3, "add_final_layer_norm": False, "normalize_before": False,
        "normalize_embedding": True, "static_position_embeddings": False, "extra_pos_embeddings": 2, "prefix": " ",
        "force_bos_token_to_be_generated": True, "forced_bos_token_id": 0, "output_past": True,
        "task_specific_params": {"summarization": SUMMARY}}),
    "mbart-large-50": ("mbart-prenorm-scaled", {
        **TRAINING, "_num_labels": 3, "add_final_layer_norm": True, "normalize_before": True,
        "normalize_embedding": True, "static_position_embeddings": False, "forced_eos_token_id": 2, "num_beams": 5,
        "max_length": 200, "early_stopping": True, "output_past": True, "tokenizer_class": "MBart50Tokenizer"}),
    "pegasus-xsum": ("pegasus-sinusoidal", {
        **TRAINING, "add_final_layer_norm": True, "normalize_before": True, "normalize_embedding": False,
        "static_position_embeddings": True, "extra_pos_embeddings": 1, "force_bos_token_to_be_generated": False,
        "num_beams": 8, "length_penalty": 0.6, "max_length": 64, "save_step": 58,
        "task_specific_params": {"summarization_xsum": {"length_penalty": 0.6, "max_length": 64}}}),
    "m2m100-418m": ("m2m100-fairseq", {**TRAINING, "num_beams": 5, "max_length": 200, "early_stopping": True}),
    "nllb-200": ("m2m100-fairseq", {
        **TRAINING, "max_length": 200, "tokenizer_class": "NllbTokenizer", "num_hidden_layers": 2}),
    "flan-t5": ("t5-gated-untied", {
        "n_positions": 512, "output_past": True, "relative_attention_max_distance": 128, "torch_dtype": "float32",
        "initializer_factor": 1.0, "task_specific_params": {
            "summarization": {**SUMMARY, "prefix": "summarize: "},
            "translation_en_to_de": {"early_stopping": True, "max_length": 300, "num_beams": 4,
                                     "prefix": "translate English to German: "}}}),
    "mt5": ("mt5-untied", {"tokenizer_class": "T5Tokenizer", "tie_word_embeddings": False}),
    "umt5": ("umt5-bias-in-each-layer", {"scalable_attention": True, "output_past": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_understood(name: str, tmp_path: Path) -> None:
    case, keys = PUBLISHED[name]
    with open_checkpoint(cases.FOLDER / case) as checkpoint:
        tensors = {key: checkpoint.read(key) for key in checkpoint.names()}
    config = {**json.loads((cases.FOLDER / case / "config.json").read_text()), **keys}
    report = convert(write_folder(tmp_path / "model", config, tensors), tmp_path / "model.gguf", type="f32")
    assert not [note for note in report.notes if "does not follow" in note]
    with edgeformer.load(report.path, threads=1) as model:
        assert "translate" in model.verbs
        assert model.generate([5, 6, 7], max_tokens=3, min_tokens=1).token_ids
