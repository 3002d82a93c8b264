"""What stacks of torch.nn's layers share: their settings, and norms before a sublayer or behind its sum."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from ..graph.values import Value


@dataclass(frozen=True)
class LayerSettings:
    """What all layers go by."""

    activation: str
    norm_first: bool
    epsilon: float
    embedding_scale: float


def read_settings(metadata: Metadata) -> LayerSettings:
    """The settings from the file's metadata."""
    return LayerSettings(
        activation=metadata.string("activation", choices=ACTIVATIONS[1:]),
        norm_first=metadata.boolean("norm_first"),
        epsilon=metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0),
        embedding_scale=metadata.number("embedding_scale", 1.0, high=1e6),
    )


def before(graph: Graph, settings: LayerSettings, x: Value, norm: str) -> Value:
    """What a sublayer reads: x, normalized in pre-norm models."""
    return graph.layer_norm(x, norm, settings.epsilon) if settings.norm_first else x


def after(graph: Graph, settings: LayerSettings, x: Value, norm: str) -> Value:
    """What follows a sublayer's residual sum: x, normalized in post-norm models."""
    return x if settings.norm_first else graph.layer_norm(x, norm, settings.epsilon)


def final_norm(graph: Graph, settings: LayerSettings, x: Value, name: str) -> Value:
    """LayerNorm where the file has it, else x."""
    return graph.layer_norm(x, name, settings.epsilon) if graph.has(f"{name}.weight") else x
