"""What all verbs share: the session behind the model, its tokenizers, and the checking of prompts."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.adapters import using
from ..errors import InvalidInputError, UnsupportedModelError, quote
from ..text.chat.ids import control_pattern
from ..text.chat.template import templates_of

if TYPE_CHECKING:
    from ..engine.adapters import Adapter
    from ..engine.session import Session
    from ..text.defaults import GenerationDefaults
    from ..text.languages import Languages
    from ..text.settings import SentencePrompts
    from ..text.task_settings import TaskSettings
    from ..text.tokenizer import Tokenizer

__all__ = ["Prompt", "Prompts", "VerbBase", "decoder_start", "is_single", "listed", "verbs_of"]

Prompt = str | Sequence[int] | np.ndarray
Prompts = list[str] | list[list[int]]


def tells(session: Session, output: str) -> bool:
    """Whether a model of texts gives this output of a head."""
    return session.features_taken is None and output in session.whole_outputs | session.step_outputs


def num_classes(session: Session) -> int:
    """How many classes a model tells apart."""
    return 0 if session.classifier is None else len(session.classifier.labels)


# What a verb needs of a model, in the order in which they are listed.
VERBS: Mapping[str, Callable[[Session], bool]] = {
    "translate": lambda session: session.needs_source and "logits" in session.step_outputs,
    "summarize": lambda session: session.needs_source and "logits" in session.step_outputs,
    "generate": lambda session: "logits" in session.step_outputs,
    "agenerate": lambda session: "logits" in session.step_outputs,
    "chat": lambda session: "logits" in session.step_outputs and bool(templates_of(session.metadata)),
    "achat": lambda session: "logits" in session.step_outputs and bool(templates_of(session.metadata)),
    "encode": lambda session: "pooled" in session.whole_outputs | session.step_outputs,
    "similarity": lambda session: "pooled" in session.whole_outputs | session.step_outputs,
    "classify": lambda session: tells(session, "classes"),
    "rank": lambda session: tells(session, "classes") and num_classes(session) == 1,
    "tokens": lambda session: tells(session, "token_classes"),
    "answer": lambda session: tells(session, "spans"),
    "fill_mask": lambda session: tells(session, "words"),
    "logits": lambda session: "logits" in session.step_outputs,
    "hidden_states": lambda session: "hidden" in session.whole_outputs | session.step_outputs,
    "attention_weights": lambda session: session.attends,
    "tokenize": lambda session: session.vocab_size > 0,
    "detokenize": lambda session: session.vocab_size > 0,
}


def verbs_of(session: Session) -> tuple[str, ...]:
    """The verbs that a model has: they follow from what its programs take and give."""
    return tuple(verb for verb, is_there in VERBS.items() if is_there(session))


class VerbBase:
    """The state that verbs work on; `Model` fills it in.

    Attributes
    ----------
    tokenizer : Tokenizer or None
        Of prompts and sources; None where the file carries none and the model takes token ids only.
    target_tokenizer : Tokenizer or None
        Of generated text; the same one unless an encoder-decoder has a vocabulary of its own for its target.
    """

    path: str
    _session: Session | None
    _defaults: GenerationDefaults
    _prompts: SentencePrompts
    _languages: Languages | None
    _tasks: TaskSettings
    tokenizer: Tokenizer | None
    target_tokenizer: Tokenizer | None

    def _opened(self, verb: str) -> Session:
        """The session, if the model is open."""
        if self._session is None:
            raise InvalidInputError(f"{verb}: the model is closed; load it again")
        return self._session

    def _require(self, verb: str, adapter: Adapter | None = None) -> Session:
        """The session, if the model is open and has `verb`; with an adapter, that whose runs have it."""
        session = self._opened(verb)
        if not VERBS[verb](session):
            article = "an" if session.family[0] in "aeiou" else "a"
            raise UnsupportedModelError(
                f"{verb}: {article} {session.family} model ({session.architecture}) does not have this verb; "
                f"it has {', '.join(verbs_of(session))}"
            )
        return using(session, adapter)

    def _ids(self, prompt: Any, what: str = "prompt", special_tokens: bool | None = None) -> list[int]:
        """Token ids of one prompt, text or ids; may be empty. Control tokens that a text spells are tokens with
        `special_tokens`; without it text, of which False warns.
        """
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise InvalidInputError(f"{what}: the file carries no tokenizer; token ids are needed instead of text")
            if special_tokens is False:
                _warn_of_control_tokens(self.tokenizer, prompt, what)
            return self.tokenizer.encode(prompt, parse_special=bool(special_tokens))
        if isinstance(prompt, np.ndarray):
            prompt = prompt.tolist() if prompt.ndim == 1 else prompt
        if not isinstance(prompt, (list, tuple, range)):
            raise InvalidInputError(f"{what}: a str or a list of token ids is needed, not {quote(prompt)}")
        for token in prompt:
            if not isinstance(token, (int, np.integer)) or isinstance(token, bool):
                raise InvalidInputError(f"{what}: token ids are integers, not {quote(token)}")
        return [int(token) for token in prompt]

    def _batch(
        self, prompts: Any, what: str = "prompt", special_tokens: bool | None = None
    ) -> tuple[list[list[int]], bool]:
        """Token ids of every prompt, and whether there was one prompt alone instead of a list of them.

        A str or a list of integers is one prompt; any other list is a batch, the empty list an empty batch.
        """
        if is_single(prompts):
            return [self._ids(prompts, what, special_tokens)], True
        several = enumerate(listed(prompts, what))
        return [self._ids(prompt, f"{what}[{index}]", special_tokens) for index, prompt in several], False


def _warn_of_control_tokens(tokenizer: Tokenizer, text: str, what: str) -> None:
    spelled = control_pattern(tokenizer).search(text)
    if spelled is None:
        return
    frame, level = sys._getframe(), 1
    inside = (__package__.partition(".")[0], "contextlib")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(inside):
        frame, level = frame.f_back, level + 1
    message = (
        f"{what}: {spelled.group(1)} is a token of the model's own and stays text here; special_tokens=True "
        "(--special-tokens) makes it the token, which is right for a text of yours, not for a user's"
    )
    warnings.warn(message, UserWarning, stacklevel=level)  # at the line outside edgeformer


def listed(prompts: Any, what: str) -> list[Any]:
    """The items of several prompts, a list, a tuple or an array of them; `what` names them in the error."""
    if not isinstance(prompts, (list, tuple, np.ndarray)) or getattr(prompts, "ndim", 1) == 0:
        raise InvalidInputError(
            f"{what}: a str, a list of token ids, or a list of either is needed, not {quote(prompts)}"
        )
    return list(prompts)


def decoder_start(session: Session) -> int:
    """The token that an encoder-decoder's decoder is given first."""
    if session.decoder_start_token_id is None:
        raise UnsupportedModelError(f"{session.architecture}: the file names no decoder_start_token_id")
    return session.decoder_start_token_id


def is_single(prompts: Any) -> bool:
    """Whether `prompts` is one prompt: a str, a range, or a non-empty sequence whose first item is a number."""
    if isinstance(prompts, np.ndarray):
        return prompts.ndim == 1 and prompts.dtype.kind in "biufc"  # an array of strings is a list of them
    if isinstance(prompts, (list, tuple)):
        return len(prompts) > 0 and isinstance(prompts[0], (int, np.integer))
    return isinstance(prompts, (str, range))
