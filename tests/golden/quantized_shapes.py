"""Small models on which every rule of llama.cpp's quantizer decides something."""

from __future__ import annotations

VOCABULARY = 64

MODELS = {
    "plain": ("llama", 18, 256, 4, 4, 512, False),
    "shared-tied": ("llama", 33, 256, 8, 2, 256, True),
    "rows-of-96": ("llama", 9, 96, 4, 4, 256, False),
    "rows-of-80": ("llama", 2, 80, 4, 2, 80, True),
    "70b": ("llama", 80, 256, 4, 2, 256, False),
    "bert": ("bert", 12, 256, 4, 4, 512, True),
}
"""By name: architecture, layers, width, heads, key and value heads, width of the feed-forward part, tied embeddings."""


def shapes(model: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a model, rows first."""
    architecture, layers, width, heads, shared, inner, tied = MODELS[model]
    keys = width // heads * shared
    named: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, width)}
    if architecture == "bert":
        named |= {"position_embd.weight": (32, width), "token_types.weight": (2, width)}
        named |= {"token_embd_norm.weight": (width,), "token_embd_norm.bias": (width,)}
    else:
        named |= {"output_norm.weight": (width,)}
    if not tied:
        named["output.weight"] = (VOCABULARY, width)
    for layer in range(layers):
        block = {"attn_q": (width, width), "attn_k": (keys, width), "attn_v": (keys, width)}
        block |= {"attn_output": (width, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
        if architecture == "llama":
            block |= {"ffn_gate": (inner, width)}
        for name, shape in block.items():
            named[f"blk.{layer}.{name}.weight"] = shape
        named[f"blk.{layer}.attn_norm.weight"] = (width,)
    return named


def grouped_by_role(model: str, types: dict[str, str]) -> dict[str, list[str]]:
    """Types of the matrices by name without layer, layers ascending; without tables that nothing quantizes."""
    roles: dict[str, list[str]] = {}
    for name, shape in shapes(model).items():
        if len(shape) == 2 and name not in ("position_embd.weight", "token_types.weight"):
            role = name.split(".", 2)[2] if name.startswith("blk.") else name
            roles.setdefault(role, []).append(types[name])
    return roles
