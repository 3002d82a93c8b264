"""Ops of a graph that apply a function to each row, or to each of equal groups of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ModelFormatError, UnsupportedModelError
from .values import Value


class RowFunctions:
    """Part of `Graph`: norms and kin. Weights and biases are tensors of the file, a number for each column."""

    path: str

    if TYPE_CHECKING:

        def _add(self, kind: str, inputs: Sequence[Value], width: int, **rest: Any) -> Value: ...
        def _expect(self, name: str, shape: tuple[int, ...]) -> str: ...

    def _row_function(
        self,
        function: str,
        x: Value,
        number: float,
        *,
        weight: str | None = None,
        bias: str | None = None,
        groups: int = 1,
        shape: tuple[int, ...] | None = None,
    ) -> Value:
        if x.width % groups:
            raise ModelFormatError(self.path, None, function, f"{groups} groups do not divide {x.width} columns")
        names = [name for name in (weight, bias) if name is not None]
        return self._add(
            "row_function",
            [x],
            x.width,
            tensors=tuple(self._expect(name, shape or (x.width // groups,)) for name in names),
            function=function,
            number=number,
            weight=weight,
            bias=bias,
            groups=groups,
        )

    def layer_norm(self, x: Value, name: str | None, epsilon: float, *, bias: bool = True, groups: int = 1) -> Value:
        """LayerNorm (Ba et al. 2016): (x - mean) / sqrt(variance + epsilon) * weight + bias, of each group of columns.

        The tensors are `name`.weight and `name`.bias, the latter only where there is to be a `bias`; without a name
        there are none.
        """
        if name is None:
            return self._row_function("layer_norm", x, epsilon, groups=groups)
        return self._row_function(
            "layer_norm", x, epsilon, weight=f"{name}.weight", bias=f"{name}.bias" if bias else None, groups=groups
        )

    def rms_norm(self, x: Value, name: str | None, epsilon: float, *, groups: int = 1) -> Value:
        """RMSNorm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + epsilon) * weight, of each group of columns.

        The tensor is `name`.weight; without a name there is none.
        """
        weight = None if name is None else f"{name}.weight"
        return self._row_function("rms_norm", x, epsilon, weight=weight, groups=groups)

    def l2_norm(self, x: Value, epsilon: float = 1e-12) -> Value:
        """x / max(|x|, epsilon)."""
        return self._row_function("l2_norm", x, epsilon)

    def affine(
        self,
        x: Value,
        *,
        factor: float = 1.0,
        weight: str | None = None,
        bias: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Value:
        """x * factor * weight + bias, with tensors of these names: LayerScale (Touvron et al. 2021) and kin.

        `shape` is that of the tensors where it is not [columns]; they are read end to end.
        """
        return self._row_function("affine", x, factor, weight=weight, bias=bias, shape=shape)

    def scale(self, x: Value, factor: float) -> Value:
        """x * factor."""
        return self.affine(x, factor=factor)

    def soft_cap(self, x: Value, cap: float) -> Value:
        """cap * tanh(x / cap), which stays between -cap and cap (Gemma 2, 2024)."""
        if not 0 < cap < float("inf"):
            raise UnsupportedModelError(f"{self.path}: a soft cap of {cap}; it must be above 0 and finite")
        return self._row_function("soft_cap", x, cap)

    def clip(self, x: Value, limit: float) -> Value:
        """x, between -limit and limit."""
        if not 0 < limit < float("inf"):
            raise UnsupportedModelError(f"{self.path}: clipped at {limit}; it must be above 0 and finite")
        return self._row_function("clip", x, limit)

    def softmax(self, x: Value, *, scale: float = 1.0, groups: int = 1) -> Value:
        """exp(scale * x) over its sum, of each group of columns."""
        return self._row_function("softmax", x, scale, groups=groups)
