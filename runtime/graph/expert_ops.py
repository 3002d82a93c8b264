"""Ops of a graph for routed experts (Shazeer et al. 2017): only those that a row chooses are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._kernels import core
from ..errors import ModelFormatError
from .domains import Split
from .values import Value

SCORINGS = ("softmax", "chosen_softmax", "sigmoid")  # in the order of ef_scoring


class ExpertOps:
    """Part of `Graph`: its ops over routed experts."""

    path: str

    if TYPE_CHECKING:

        def _add(self, kind: str, inputs: Sequence[Value], width: int, **rest: Any) -> Value: ...
        def _expect(self, name: str, shape: tuple[int, ...]) -> str: ...
        def _optional(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]: ...
        def _check_known(self, what: str, name: str, known: tuple[str, ...]) -> None: ...

    def route(
        self,
        logits: Value,
        used: int,
        *,
        scoring: str = "softmax",
        normalized: bool = True,
        scale: float = 1.0,
        bias: str | None = None,
    ) -> Value:
        """The `used` experts that each row chooses, by their logits, sorted by expert.

        Parameters
        ----------
        logits : Value
            A column for each expert.
        used : int
        scoring : {"softmax", "chosen_softmax", "sigmoid"}
            An expert's score: softmax over all experts, over the chosen ones, or the sigmoid of its logit.
        normalized : bool
            Whether the scores of the chosen are divided by their sum to become their weights.
        scale : float
            Of the weights.
        bias : str, optional
            A tensor [experts] added to the scores that are compared, not to the weights (DeepSeek-AI 2024).
        """
        if not 1 <= used <= logits.width <= core.EF_MAX_EXPERTS:
            what = f"{used} of {logits.width} experts; at most {core.EF_MAX_EXPERTS} are supported"
            raise ModelFormatError(self.path, None, "expert_used_count", what)
        self._check_known("scoring", scoring, SCORINGS)
        tensors = () if bias is None else (self._expect(bias, (logits.width,)),)
        return self._add(
            "route",
            [logits],
            core.ROUTE_COLUMNS,
            tensors=tensors,
            domain=Split(logits.domain, used),
            rows=logits.domain,
            num_experts=logits.width,
            used=used,
            scoring=scoring,
            normalized=int(normalized),
            scale=scale,
        )

    def dispatch(self, x: Value, routes: Value) -> Value:
        """Each row once for every expert that it chose, expert by expert."""
        return self._add("dispatch", [x, routes], x.width, domain=routes.domain, rows=x.domain)

    def expert_linear(self, x: Value, routes: Value, name: str, width: int, num_experts: int) -> Value:
        """x W^T + b with the matrix of each row's expert: `name`.weight [experts, width, x.width] and, where the file
        has it, `name`.bias [experts, width].
        """
        weight = self._expect(f"{name}.weight", (num_experts, width, x.width))
        tensors = (weight, *self._optional(f"{name}.bias", (num_experts, width)))
        return self._add("expert_linear", [x, routes], width, tensors=tensors, num_experts=num_experts)

    def combine(self, x: Value, routes: Value) -> Value:
        """The weighted sum of what a row's experts gave, in the order of its choices."""
        split = routes.domain
        assert isinstance(split, Split)  # as `route` makes them
        return self._add("combine", [x, routes], x.width, domain=split.rows, rows=x.domain, used=split.parts)
