"""The instruction sets that tests walk."""

from __future__ import annotations

from edgeformer._kernels import core


def other_isas() -> list[str]:
    """The instruction sets of this CPU but the scalar one, which defines the bits."""
    return [name for name in core.isa_names() if name != "scalar"]
