"""`translate`: text to text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ..errors import GenerationCancelled, InvalidInputError, InvalidOptionError
from ..generation.options import GenerationArguments, reject_unknown, shows_options
from .base import is_single
from .generate import GenerationVerbs

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["TranslationVerbs"]


class TranslationVerbs(GenerationVerbs):
    """Verbs of encoder-decoders."""

    @overload
    def translate(self, text: str, **options: Unpack[GenerationArguments]) -> str: ...

    @overload
    def translate(self, text: list[str], **options: Unpack[GenerationArguments]) -> list[str]: ...

    @shows_options
    def translate(self, text: Any, **options: Any) -> str | list[str]:
        """Translate `text`, whatever the model was trained to make of it: another language, script or spelling.

        Parameters
        ----------
        text : str or list of str
            A list runs as one batch. Token ids are taken in place of a str, as in `generate`.
        **options
            As in `generate`, except `stream`; scores, hypotheses and timings are `generate`'s too.

        Returns
        -------
        str or list of str
            A str for a str, a list for a list.

        Raises
        ------
        ContextOverflowError
            If a source is longer than the model's context.
        GenerationCancelled
            If the `cancel` flag was set: a part of a translation is none.
        UnsupportedModelError
            If the model is no encoder-decoder.
        InvalidInputError, InvalidOptionError
            As in `generate`.
        """
        self._require("translate")
        if "stream" in options:
            raise InvalidOptionError("translate() has no option 'stream': generate() has it")
        reject_unknown("translate", options, GenerationArguments.__annotations__)
        if self.target_tokenizer is None:
            raise InvalidInputError("translate: the file carries no tokenizer; generate() gives token ids")
        results = self.generate([text] if is_single(text) else text, **options)
        if any(result.finish_reason == "cancelled" for result in results):
            raise GenerationCancelled()
        return results[0].text if is_single(text) else [result.text for result in results]
