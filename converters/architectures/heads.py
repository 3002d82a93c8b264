"""Heads of tasks: what a checkpoint's class puts on the last rows of a model, as the tensors of `models/heads.py`.

A family says where its checkpoints have each head, a `Head` for the end of a class's name. All have one shape: a linear
layer with an activation and a norm, where there are, and an output matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import quote
from .huggingface import Config, Source, TensorPlan
from .parts import Bias, is_own_head, linear, norm, plan_head, plan_rows
from .sentences import CLASSES, POOLING_TYPES, SPANS, TOKEN_CLASSES, is_sentence_model, sentence_settings

__all__ = [
    "MASKED_WORDS",
    "OLDER_DECODER_HEADS",
    "PRETRAINING",
    "ROW_HEADS",
    "Head",
    "bert_heads",
    "distilbert_heads",
    "plan_decoder_head",
    "plan_task_head",
    "roberta_heads",
]

MASKED_WORDS, PRETRAINING = "ForMaskedLM", "ForPreTraining"
KINDS = {TOKEN_CLASSES: "token_classes", SPANS: "spans", MASKED_WORDS: "words", PRETRAINING: "words"}
REFUSED = "llama.cpp refuses files with this head"
RANK = 4  # llama.cpp's pooling type for classes of sequences, which says it all

# How the numbers of classes become scores: by transformers' `problem_type`, and by the activations of a cross-encoder.
PROBLEMS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid", "regression": "none"}
CROSS_ENCODER_SCORES = {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}


@dataclass(frozen=True)
class Head:
    """Where a family's checkpoints have a head; names without ``.weight``.

    Attributes
    ----------
    output : str
        The matrix of the classes, the spans or the words.
    dense, norm : str, optional
        The layer and the norm before it.
    activation : str
        Behind `dense`, by the kernels' name.
    pooling : {"cls", "mean", "lasttoken"}
        Which row of a sequence is classified.
    bias, norm_bias : Bias
        Of the output and of the norm.
    output_bias : str, optional
        The name of the output's bias where it stands apart, as that of words does.
    """

    output: str
    dense: str | None = None
    norm: str | None = None
    activation: str = "tanh"
    pooling: str = "cls"
    bias: Bias = Bias.NEEDED
    norm_bias: Bias = Bias.NEEDED
    output_bias: str | None = None

    @property
    def names(self) -> list[str]:
        """Of all its tensors' beginnings."""
        return [name for name in (self.output, self.dense, self.norm, self.output_bias) if name is not None]


ROW_HEADS = {TOKEN_CLASSES: Head("classifier"), SPANS: Head("qa_outputs")}  # of all families but the newest


def bert_heads(prefix: str, activation: str) -> dict[str, Head]:
    """BERT's: classes from the first row through the pooler, which is part of the model itself."""
    transform = "cls.predictions.transform"
    words = Head(
        "cls.predictions.decoder",
        dense=f"{transform}.dense",
        norm=f"{transform}.LayerNorm",
        activation=activation,
        output_bias="cls.predictions.bias",
    )
    classes = Head("classifier", dense=f"{prefix}pooler.dense")
    return {CLASSES: classes, MASKED_WORDS: words, PRETRAINING: words, **ROW_HEADS}


def roberta_heads() -> dict[str, Head]:
    """RoBERTa's, whose words go through GELU whatever the layers have."""
    words = Head(
        "lm_head.decoder",
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        activation="gelu",
        output_bias="lm_head.bias",
    )
    return {CLASSES: Head("classifier.out_proj", dense="classifier.dense"), MASKED_WORDS: words, **ROW_HEADS}


def distilbert_heads(activation: str) -> dict[str, Head]:
    """DistilBERT's."""
    words = Head("vocab_projector", dense="vocab_transform", norm="vocab_layer_norm", activation=activation)
    classes = Head("classifier", dense="pre_classifier", activation="relu")
    return {CLASSES: classes, MASKED_WORDS: words, **ROW_HEADS}


# Those of the decoders that transformers makes by its generic classes.
DECODER_HEADS = {
    CLASSES: Head("score", pooling="lasttoken", bias=Bias.OPTIONAL),
    TOKEN_CLASSES: Head("score", bias=Bias.OPTIONAL),
    SPANS: Head("qa_outputs"),
}

OLDER_DECODER_HEADS = {**DECODER_HEADS, TOKEN_CLASSES: Head("classifier")}  # of those with classes of their own


def plan_decoder_head(
    source: Source,
    tensors: TensorPlan,
    metadata: dict[str, Any],
    *,
    tied: bool,
    bias: Bias = Bias.NONE,
    heads: Mapping[str, Head] = DECODER_HEADS,
    name: str = "lm_head",
) -> list[str]:
    """What stands on a decoder's rows: the matrix of the next token, or a head, and what makes vectors of sentences.

    `tied` is what an absent key means: the token embeddings are that matrix, too. `name` and `bias` are those of the
    matrix of the next token.

    Returns
    -------
    list of str
        What to say to the user.

    Raises
    ------
    ConversionError
        As for `plan_task_head` and `sentence_settings`.
    """
    notes = sentence_settings(source, tensors, metadata, metadata["context_length"], pooling=None)
    classes = [str(name) for name in source.config.get("architectures", list, [])]
    if not classes or any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in classes):
        plan_head(tensors, source.config, tied=tied, bias=bias, name=name)
        return notes
    source.config.get("tie_word_embeddings", bool, tied)
    notes += plan_task_head(source, tensors, metadata, heads)
    notes += [REFUSED] if any(tensor.name.startswith("cls.") for tensor in tensors.tensors) else []
    if metadata.get("pooling_type") != RANK:
        metadata.setdefault("head", "none")
    return notes


def albert_heads(prefix: str, activation: str) -> dict[str, Head]:
    """ALBERT's; its pooler has no layer around its tensors, and its words fewer columns, as the embeddings have."""
    words = Head(
        "predictions.decoder",
        dense="predictions.dense",
        norm="predictions.LayerNorm",
        activation=activation,
        output_bias="predictions.bias",
    )
    return {CLASSES: Head("classifier", dense=f"{prefix}pooler"), MASKED_WORDS: words, PRETRAINING: words, **ROW_HEADS}


def electra_heads() -> dict[str, Head]:
    """ELECTRA's, whose classes go through GELU where BERT's go through tanh."""
    words = Head(
        "generator_lm_head",
        dense="generator_predictions.dense",
        norm="generator_predictions.LayerNorm",
        activation="gelu",
    )
    classes = Head("classifier.out_proj", dense="classifier.dense", activation="gelu")
    return {CLASSES: classes, MASKED_WORDS: words, **ROW_HEADS}


def plan_task_head(
    source: Source, tensors: TensorPlan, metadata: dict[str, Any], heads: Mapping[str, Head], *needless: str
) -> list[str]:
    """The head that the checkpoint's class has, into `metadata` and `tensors`.

    A folder that makes vectors of sentences goes without heads.

    Parameters
    ----------
    heads : mapping
        The family's, by the end of the class's name (`Source.task`).
    needless : str
        Patterns of tensors that no head here reads.

    Returns
    -------
    list of str
        What to say to the user.

    Raises
    ------
    ConversionError
        A tensor is missing or has another shape, or the scores are made in a way that is not known.
    """
    task, notes = source.task, []
    has_head = task in heads and not is_sentence_model(source)
    if has_head and KINDS.get(task) == "words" and not any(tensors.has(f"{name}.weight") for name in heads[task].names):
        has_head = False  # some folders name the class that the model was trained as
        notes.append("the class has a head, and the checkpoint the model alone: no masked words")
    if has_head:
        head, width = heads[task], metadata["embedding_length"]
        if head.norm is not None or task == SPANS:
            notes.append(REFUSED)
        elif head.dense is not None and task == CLASSES and head.activation != "tanh":
            notes.append(
                f"llama.cpp computes tanh in this head, and the model has {head.activation}: its classes differ"
            )
        if head.dense is not None:
            width = tensors.shape(f"{head.dense}.weight")[0]
            plan_rows(tensors, [linear("cls", head.dense, width, metadata["embedding_length"], Bias.OPTIONAL)])
            metadata["head.activation"] = head.activation
        if head.norm is not None:
            plan_rows(tensors, [norm("cls.norm", head.norm, width, head.norm_bias)])
        if task in KINDS:
            metadata["head"] = KINDS[task]
        plan_output = plan_words if KINDS.get(task) == "words" else plan_classes
        plan_output(source, tensors, metadata, head, width)
    needless += tuple(f"{name}*" for head in heads.values() for name in head.names)  # of another class, or none
    left_out = tensors.ignore(*needless)
    if left_out:
        notes.append(f"left out, for nothing here needs them: {', '.join(left_out)}")
    return notes


def plan_words(source: Source, tensors: TensorPlan, metadata: dict[str, Any], head: Head, width: int) -> None:
    """The output matrix of masked words, if it is not the token embeddings', and its bias."""
    rows = next(tensor.shape[0] for tensor in tensors.tensors if tensor.name == "token_embd.weight")
    if is_own_head(tensors, source.config, "tie_word_embeddings", True, f"{head.output}.weight", "token_embd.weight"):
        plan_rows(tensors, [linear("output", head.output, rows, width)])
    bias = tensors.first(*filter(None, (head.output_bias, f"{head.output}.bias")))
    tensors.take("output.bias", bias, (rows,), optional=head.bias is Bias.OPTIONAL)
    tensors.ignore(f"{head.output}.bias")  # the same numbers again


def plan_classes(source: Source, tensors: TensorPlan, metadata: dict[str, Any], head: Head, width: int) -> None:
    """The output matrix of classes or spans, the classes' names, and how their numbers become scores."""
    config, task = source.config, source.task
    named = config.section("id2label") or Config({}, config.path)
    labels = [named.get(str(number), str) for number in range(len(named.values))]
    stored = tensors.shape(f"{head.output}.weight")[0]
    count = 2 if task == SPANS else len(labels) or config.count("num_labels", stored)
    plan_rows(tensors, [linear("cls.output", head.output, count, width, head.bias)])
    if task == SPANS:
        return
    metadata["classifier.output_labels"] = labels or [f"LABEL_{number}" for number in range(count)]
    metadata["classifier.scores"] = scores_of(source, count)
    if task == CLASSES:
        metadata["pooling_type"] = RANK
        metadata["classifier.pooling_type"] = POOLING_TYPES[head.pooling]


def scores_of(source: Source, count: int) -> str:
    """How the numbers of so many classes become scores: as the configuration says, else as transformers' pipeline does.

    A cross-encoder of sentence-transformers says it in a file of its own, or under keys of older versions.
    """
    config = source.config
    own = source.config_of("config_sentence_transformers.json")
    own.expect("default_prompt_name", None)
    section = config.section("sentence_transformers") or Config({}, config.path)
    older = config.get("sbert_ce_default_activation_function", str, "")
    activation = own.get("activation_fn", str, section.get("activation_fn", str, older))
    section.finish({"version"})
    if activation:
        name = activation.rsplit(".", 1)[-1]
        if name not in CROSS_ENCODER_SCORES:
            known = ", ".join(CROSS_ENCODER_SCORES)
            raise config.fail("sentence_transformers", f"scores by {quote(name)} are not supported; known are {known}")
        return CROSS_ENCODER_SCORES[name]
    problem = config.get("problem_type", str, "")
    if problem and problem not in PROBLEMS:
        raise config.fail("problem_type", f"not supported; known are {', '.join(PROBLEMS)}")
    return PROBLEMS.get(problem, "softmax" if count > 1 else "sigmoid")
