"""What a conversion did."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ConversionReport", "TensorReport"]


@dataclass(frozen=True)
class TensorReport:
    """One tensor of the file that was written.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Rows first.
    source_dtype, type : str
    nbytes : int
    error : float
        Root mean square of the change of its weights, relative to that of the weights.
    reason : str
        Why the type is not the one that was asked for, if it is not.
    """

    name: str
    shape: tuple[int, ...]
    source_dtype: str
    type: str
    nbytes: int
    error: float
    reason: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes
    ----------
    path : str
        Of the file that was written.
    architecture, type : str
    tensors : list of TensorReport
        In the file's order.
    notes : list of str
        What the user should know: things left out, things other readers of GGUF do otherwise.
    """

    path: str
    architecture: str
    type: str
    tensors: list[TensorReport]
    notes: list[str] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)
