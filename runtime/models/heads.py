"""What stands on the last rows of a model: vectors of sentences, classes, spans, words. Each is an output by its name.

All heads but that of sentences have one shape: a linear layer with an activation and a norm, where the file has them,
and an output matrix. Tensor names and keys are llama.cpp's where it has them (`pooling_type`, `cls`, `cls.norm`,
`cls.output`, `classifier.output_labels`, `classifier.pooling_type`, `dense_2`, ...). Ours are `head`, which says what
the rows become, `head.activation`, `classifier.scores`, `dense_2_activation` and `normalize_embeddings`.
"""

from __future__ import annotations

from typing import TypedDict

from ..errors import ModelFormatError, UnsupportedModelError, quote
from ..graph.architecture import SCORES, Architecture, Classifier
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Sizes, language_head, table_rows

POOLINGS = {1: "mean", 2: "first", 3: "last"}  # by llama.cpp's numbers
NONE, RANK = 0, 4  # its numbers for no vectors, and for classes of whole sequences
CLASSES, TOKEN_CLASSES, SPANS, WORDS = HEADS = ("classes", "token_classes", "spans", "words")
NO_HEAD = "none"  # what a decoder says that generates nothing
FIRST_DENSE = 2  # llama.cpp numbers the linear layers of sentences so


class HeadSettings(TypedDict):
    """What heads add to an `Architecture`."""

    normalize_embeddings: bool
    classifier: Classifier | None


def head_of(metadata: Metadata) -> str | None:
    """Which of `HEADS` the file has, or `NO_HEAD`; None where it does not say: a decoder then generates."""
    if metadata.has("head"):
        return metadata.string("head", choices=(*HEADS, NO_HEAD))
    return CLASSES if metadata.integer("pooling_type", 0, low=0, high=100) == RANK else None


def encoder_heads(graph: Graph, metadata: Metadata, x: Value) -> HeadSettings:
    """The heads of a model that reads whole sequences, whose rows after the last norm are `x`."""
    head, pooling = head_of(metadata), read_pooling(metadata)
    if pooling is not None:
        sentence_vectors(graph, metadata, graph.pool(x, pooling))
    if head == CLASSES:
        kind = metadata.integer("classifier.pooling_type", 2, low=1, high=3)
        graph.output(CLASSES, class_logits(graph, metadata, graph.pool(x, POOLINGS[kind])))
    elif head == WORDS:
        graph.output(WORDS, word_logits(graph, metadata, graph.select(x)))
    elif head in (TOKEN_CLASSES, SPANS):
        graph.output(head, class_logits(graph, metadata, x))
    return settings(graph, metadata)


def decoder(
    graph: Graph,
    metadata: Metadata,
    x: Value,
    last: Value,
    sizes: Sizes,
    embedding: str = "token_embd",
    *,
    logit_scale: float = 1.0,
    soft_cap: float = 0.0,
) -> Architecture:
    """A decoder whose rows after the last norm are `x`, and those asked for `last`: with the head that the file names,
    else with logits of the next token, times `logit_scale`, and these with a soft cap where it is above 0.
    """
    graph.output("hidden", x)
    heads = decoder_heads(graph, metadata, x, last)
    if head_of(metadata) is None:
        logits = language_head(graph, last, embedding, sizes)
        logits = logits if logit_scale == 1.0 else graph.scale(logits, logit_scale)
        graph.output("logits", graph.soft_cap(logits, soft_cap) if soft_cap else logits)
    return Architecture({"decode": graph}, sizes.context_length, **heads)


def decoder_heads(graph: Graph, metadata: Metadata, x: Value, last: Value) -> HeadSettings:
    """The heads of a decoder, but for its logits. It sees what a sequence is in its last row alone."""
    head, pooling = head_of(metadata), read_pooling(metadata)
    if pooling is not None and pooling != "last":
        what = f"{metadata.key('pooling_type')}: a decoder's vectors are those of its last rows, not {quote(pooling)}"
        raise UnsupportedModelError(f"{metadata.path}: {what}")
    if pooling is not None:
        sentence_vectors(graph, metadata, last)
    if head == WORDS:
        raise UnsupportedModelError(f"{metadata.path}: {metadata.key('head')}: a decoder fills no masks")
    if head in (CLASSES, TOKEN_CLASSES, SPANS):
        graph.output(head, class_logits(graph, metadata, last if head == CLASSES else x))
    return settings(graph, metadata)


def read_pooling(metadata: Metadata) -> str | None:
    """How the rows of a sentence become one, or None."""
    kind = metadata.integer("pooling_type", 0, low=0, high=100)
    if kind not in (NONE, RANK, *POOLINGS):
        raise UnsupportedModelError(f"{metadata.path}: {metadata.key('pooling_type')} {kind} is not supported")
    return POOLINGS.get(kind)


def sentence_vectors(graph: Graph, metadata: Metadata, pooled: Value) -> None:
    """The outputs of `encode`: a row through the linear layers of sentence-transformers, and the same of length 1."""
    number = FIRST_DENSE
    while graph.has(f"dense_{number}.weight"):
        name = f"dense_{number}"
        activation = metadata.string(f"{name}_activation", "none", choices=ACTIVATIONS)
        pooled = graph.linear(pooled, name, table_rows(graph.tensor_shapes, name))
        pooled = pooled if activation == "none" else graph.activation(pooled, activation)
        number += 1
    graph.output("pooled", pooled)
    graph.output("normalized", graph.l2_norm(pooled))


def transformed(graph: Graph, metadata: Metadata, x: Value) -> Value:
    """Rows before the output matrix of a head: through a linear layer, its activation and a norm, where there are."""
    if graph.has("cls.weight"):
        activation = metadata.string("head.activation", "tanh", choices=ACTIVATIONS)
        x = graph.linear(x, "cls", table_rows(graph.tensor_shapes, "cls"))
        x = x if activation == "none" else graph.activation(x, activation)
    if graph.has("cls.norm.weight"):
        epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
        x = graph.layer_norm(x, "cls.norm", epsilon, bias=graph.has("cls.norm.bias"))
    return x


def class_logits(graph: Graph, metadata: Metadata, x: Value) -> Value:
    """A number for each class, of every row."""
    return graph.linear(transformed(graph, metadata, x), "cls.output", table_rows(graph.tensor_shapes, "cls.output"))


def word_logits(graph: Graph, metadata: Metadata, x: Value) -> Value:
    """A number for each token of the vocabulary, of every row (Devlin et al. 2018); the matrix may be that of the
    token embeddings.
    """
    name = "output" if graph.has("output.weight") else "token_embd"
    rows = table_rows(graph.tensor_shapes, name)
    return graph.linear(transformed(graph, metadata, x), name, rows, bias_name="output.bias")


def settings(graph: Graph, metadata: Metadata) -> HeadSettings:
    """What the heads of a graph say beside their numbers."""
    normalize = metadata.boolean("normalize_embeddings", False)
    value = next((graph.outputs[name] for name in (CLASSES, TOKEN_CLASSES) if name in graph.outputs), None)
    classifier = None if value is None else read_classifier(metadata, value.width)
    return {"normalize_embeddings": normalize, "classifier": classifier}


def read_classifier(metadata: Metadata, count: int) -> Classifier:
    """Names of the classes, and how their numbers become scores; as transformers has it where the file does not say."""
    labels = metadata.strings("classifier.output_labels", [f"LABEL_{number}" for number in range(count)])
    if len(labels) != count:
        what = f"{len(labels)} labels for {count} classes"
        raise ModelFormatError(metadata.path, None, metadata.key("classifier.output_labels"), what)
    scores = metadata.string("classifier.scores", "softmax" if count > 1 else "sigmoid", choices=SCORES)
    return Classifier(tuple(labels), scores)
