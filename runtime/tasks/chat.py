"""`chat` and `apply_chat_template`: an answer to a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from ..errors import InvalidInputError
from ..generation.options import GenerationArguments, shows_options
from ..generation.results import GenerationResult
from ..generation.streams import AsyncGenerationStream, GenerationStream, run_in_thread
from ..text.chat.ids import encode_chat
from ..text.chat.template import ChatTemplate, Messages, choose_template, templates_of
from .base import VerbBase
from .job import GenerationJob, Results

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChatVerbs"]

Tools = Sequence[Mapping[str, Any] | Callable[..., Any]]


class ChatVerbs(VerbBase):
    """Verbs of models that were trained on conversations."""

    @property
    def chat_templates(self) -> dict[str, str]:
        """The file's chat templates by name, "default" first."""
        return templates_of(self._opened("chat_templates").metadata)

    @overload
    def apply_chat_template(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        tokenize: Literal[True] = True,
    ) -> list[int]: ...

    @overload
    def apply_chat_template(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        tokenize: Literal[False],
    ) -> str: ...

    def apply_chat_template(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        tokenize: bool = True,
    ) -> list[int] | str:
        """What a conversation is to the model: the text that its template makes of it, as transformers renders it.

        Templates run in Jinja's immutable sandbox, with a bound on steps and size. What the template's author wrote may
        spell control tokens, and so may roles; contents, tools and all else never do: there, the characters of a
        control token are text.

        Parameters
        ----------
        messages : sequence of mappings
            ``{"role": "user", "content": "Hi"}`` and the like, and what else the template reads.
        tools : sequence of mappings or functions, optional
            JSON schemas, or Python functions with annotations and Google-style docstrings.
        documents : sequence of mappings, optional
        template : str, optional
            The name of one of the file's `chat_templates`, or a template. Default: the file's for tools where there are
            tools and it has one, or else its default.
        add_generation_prompt : bool
            End with what begins the model's answer.
        continue_final_message : bool
            End within the last message, for the model to go on with.
        variables : mapping, optional
            More that the template reads, e.g. ``{"enable_thinking": False}``.
        tokenize : bool
            Give token ids; otherwise the text, in which control tokens cannot be told from their characters.

        Returns
        -------
        list of int, or str

        Raises
        ------
        ChatTemplateError
            The template refuses the messages, fails at them, or does what a template may not.
        InvalidInputError
            Messages, tools or documents are of another form, or the file carries no tokenizer.
        InvalidOptionError
            The file has no such template, or the last message cannot be continued.
        MissingDependencyError
            Jinja is not installed (the extra ``chat``).
        """
        session = self._opened("apply_chat_template")
        tokenizer = self.tokenizer
        if tokenizer is None:
            raise InvalidInputError("apply_chat_template: the file carries no tokenizer")
        source = choose_template(templates_of(session.metadata), template, bool(tools), self.path)
        roles = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
        roles |= {"unk": tokenizer.unk_token_id, "pad": tokenizer.pad_token_id}
        special = {f"{role}_token": tokenizer.token(token) for role, token in roles.items() if token is not None}
        text = ChatTemplate(source, special).render(
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables,
        )
        return encode_chat(tokenizer, text) if tokenize else str.__str__(text)

    @overload
    def chat(
        self,
        messages: Messages | str,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        n: None = None,
        stream: Literal[False] = False,
        **options: Unpack[GenerationArguments],
    ) -> GenerationResult: ...

    @overload
    def chat(
        self,
        messages: Messages | str,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        n: int,
        stream: Literal[False] = False,
        **options: Unpack[GenerationArguments],
    ) -> list[GenerationResult]: ...

    @overload
    def chat(
        self,
        messages: Messages | str,
        *,
        tools: Tools | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        n: int | None = None,
        stream: Literal[True],
        **options: Unpack[GenerationArguments],
    ) -> GenerationStream: ...

    @shows_options
    def chat(
        self,
        messages: Any,
        *,
        tools: Any = None,
        documents: Any = None,
        template: str | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        n: int | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Results | GenerationStream:
        """The model's answer to a conversation.

        Parameters
        ----------
        messages : sequence of mappings or str
            The conversation; a str is that of one message of a user.
        tools, documents, template, continue_final_message, variables : optional
            As in `apply_chat_template`.
        n, stream, **options
            As in `generate`.

        Returns
        -------
        GenerationResult, list of GenerationResult, or GenerationStream
            As from `generate`; `text` is the answer, without the control tokens in it.

        Raises
        ------
        ChatTemplateError, MissingDependencyError
            As in `apply_chat_template`.
        ContextOverflowError, InvalidInputError, InvalidOptionError, UnsupportedModelError
            As in `generate` and `apply_chat_template`.
        """
        given = (tools, documents, template, continue_final_message, variables)
        job = self._chat_job(messages, given, n, stream, options)
        return job.stream() if stream else job.run()

    @shows_options
    async def achat(
        self,
        messages: Any,
        *,
        tools: Any = None,
        documents: Any = None,
        template: str | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        n: int | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Results | AsyncGenerationStream:
        """`chat` as a coroutine, as `agenerate` is that of `generate`."""
        given = (tools, documents, template, continue_final_message, variables)
        job = self._chat_job(messages, given, n, stream, options)
        if stream:
            return AsyncGenerationStream(job.stream())
        return await run_in_thread(job.run, job.cancel.set)

    def _chat_job(
        self, messages: Any, given: tuple[Any, ...], n: int | None, stream: bool, options: Mapping[str, Any]
    ) -> GenerationJob:
        session = self._require("generate", options.get("adapter"))
        tools, documents, template, continued, variables = given
        ids = self.apply_chat_template(
            [{"role": "user", "content": messages}] if isinstance(messages, str) else messages,
            tools=tools,
            documents=documents,
            template=template,
            add_generation_prompt=not continued,
            continue_final_message=continued,
            variables=variables,
        )
        return GenerationJob(self, session, ids, options, stream, n)
