"""Pieces that are control tokens by their text, whatever type a file gives them; llama.cpp knows them as well."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["control_pieces_among", "end_pieces_among"]


def _pieces(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They end a turn in the published chat models.
_ENDS = _pieces(
    """
    <|eot_id|> <|eom_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|>
    <|end_of_text|> </s> <EOT> _<EOT> [EOT] [EOS] <end_of_utterance> <eos> <turn|> <|tool_response> [e~[
    <\uff5cend\u2581of\u2581sentence\uff5c>
    """
)
# They stand around the parts of a text with a hole, and between files.
_HOLES = _pieces(
    """
    <|fim_prefix|> <fim-prefix> <fim_prefix> <\uff5cfim\u2581begin\uff5c> <PRE> \u2581<PRE> <|code_prefix|> <|prefix|>
    <|fim_suffix|> <fim-suffix> <fim_suffix> <\uff5cfim\u2581hole\uff5c> <SUF> \u2581<SUF> <|code_suffix|> <|suffix|>
    <|fim_middle|> <fim-middle> <fim_middle> <\uff5cfim\u2581end\uff5c> <MID> \u2581<MID> <|code_middle|> <|middle|>
    <|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>
    """
)
# Each ends nothing where all that stand beside it are there: a message has several parts, or it is an ordinary word.
_NO_ENDS = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|flush|>", "<|calls|>"}),
    ("</s>", {"<|tool_response>"}),
)


def end_pieces_among(pieces: Iterable[str | None]) -> frozenset[str]:
    """Those of `pieces` that end a turn."""
    found = _ENDS.intersection(pieces)
    return found.difference(piece for piece, beside in _NO_ENDS if found >= beside)


def control_pieces_among(pieces: list[str]) -> frozenset[str]:
    """Those of `pieces` that a user's text must not be able to spell."""
    return end_pieces_among(pieces) | _HOLES.intersection(pieces)
