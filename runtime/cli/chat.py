"""``edgeformer chat``"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ContextOverflowError, EdgeformerError, InvalidInputError, InvalidOptionError, quote
from . import options
from .complaints import complain, in_flags
from .generate import print_as_it_comes
from .output import load_model

if TYPE_CHECKING:
    from .. import Model

HELP = """\
/system TEXT  what the model is told first; without a text, nothing
/save FILE    write the conversation, in JSON
/load FILE    go on with a conversation that was saved
/clear        begin again
/help         this list
/exit         end, as Ctrl-D does
A line that ends in \\ goes on in the next one; lines between two lines of \"\"\" are one message.
Ctrl-C stops an answer.
"""
FENCE = '"""'


def chat(
    file: options.ModelFile,
    system: Annotated[str | None, options.option("--system", help="What the model is told first.")] = None,
    template: Annotated[
        str | None, options.option("--template", help="A chat template: one of the file's by name, or a file of Jinja.")
    ] = None,
    variables: Annotated[
        list[str] | None,
        options.option("--variable", metavar="NAME=JSON", help="More that the template reads; may be repeated."),
    ] = None,
    max_tokens: Annotated[int | None, options.option("--max-tokens", "-n", help="Tokens of an answer at most.")] = None,
    temperature: Annotated[
        float | None, options.option("--temperature", help="0 is greedy; default: the model's own.")
    ] = None,
    top_p: Annotated[float | None, options.option("--top-p", help="Draw from this share of the probability.")] = None,
    top_k: Annotated[int | None, options.option("--top-k", help="Draw from the k most likely tokens.")] = None,
    min_p: Annotated[
        float | None, options.option("--min-p", help="Leave out tokens below this share of the most likely one.")
    ] = None,
    repeat_penalty: Annotated[
        float | None, options.option("--repeat-penalty", help="Above 1: tokens that occurred become less likely.")
    ] = None,
    seed: Annotated[int | None, options.option("--seed", help="The same seed draws the same texts.")] = None,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    kv_type: options.KvType = "f16",
) -> None:
    """Talk with a model. Ctrl-C stops an answer, Ctrl-D ends; /help lists the commands.

    Without a terminal, every line of stdin is a message, and only the answers are printed.

    Example: edgeformer chat my-model.gguf --system "You are brief."
    """
    choices: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": seed,
    }
    choices |= {"template": _template(template), "variables": dict(map(_variable, variables or []))}
    with load_model(file, threads=threads, n_ctx=n_ctx, kv_type=kv_type) as model:
        conversation = _Conversation(model, choices)
        conversation.tell(system or "")
        conversation.check()
        if sys.stdin.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (lets lines be edited)
            print(f"{model.architecture}, {model.n_ctx} tokens of context; /help lists the commands.", file=sys.stderr)
        for text in _messages(sys.stdin.isatty()):
            if not conversation.take(text):
                break


class _Conversation:
    """The messages so far, and what is done with a new one."""

    def __init__(self, model: Model, choices: dict[str, Any]) -> None:
        self._model = model
        self._choices = choices
        self._messages: list[dict[str, Any]] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "/system": self.tell,
            "/save": self._save,
            "/load": self._load,
            "/clear": self._clear,
            "/help": lambda _: print(HELP, end="", file=sys.stderr),
        }

    def check(self) -> None:
        """Raises what a first message would raise: there is no template, or no Jinja."""
        choices = {name: self._choices[name] for name in ("template", "variables")}
        self._model.apply_chat_template([*self._messages, {"role": "user", "content": ""}], tokenize=False, **choices)

    def take(self, text: str) -> bool:
        """Answers a message or does what a command says; False where it says to end. Errors are told, not raised."""
        name, _, argument = text.partition(" ")
        if name in ("/exit", "/quit"):
            return False
        try:
            if name in self._commands:
                self._commands[name](argument.strip())
            elif name.startswith("/") and name[1:].isalpha():
                raise InvalidInputError(f"there is no command {quote(name)}; /help lists those that there are")
            elif text.strip():
                self._answer(text)
        except (EdgeformerError, OSError) as error:
            complain(in_flags(error))
        return True

    def tell(self, system: str) -> None:
        """Puts `system` in front of the conversation, in place of what is there."""
        rest = [message for message in self._messages if message["role"] != "system"]
        self._messages = [{"role": "system", "content": system}, *rest] if system else rest

    def _answer(self, text: str) -> None:
        before = list(self._messages)
        self._messages.append({"role": "user", "content": text})
        try:
            stream = self._begun()
            with contextlib.suppress(KeyboardInterrupt), stream:
                print_as_it_comes(chunk.text for chunk in stream)
            self._messages.append({"role": "assistant", "content": "".join(result.text for result in stream.results)})
        except BaseException:
            self._messages = before  # as if it had not been asked
            raise

    def _begun(self) -> Any:
        """The stream of an answer; where the conversation is too long, its oldest messages are forgotten."""
        while True:
            try:
                return self._model.chat(self._messages, stream=True, **self._choices)
            except ContextOverflowError:
                first = 1 if self._messages[0]["role"] == "system" else 0
                if len(self._messages) <= first + 1:
                    raise
                later = [i for i, m in enumerate(self._messages) if i > first and m["role"] == "user"]
                del self._messages[first : later[0]]
                print("edgeformer: the oldest messages are forgotten: the context is full", file=sys.stderr)

    def _clear(self, _: str) -> None:
        self._messages = [message for message in self._messages if message["role"] == "system"]

    def _save(self, path: str) -> None:
        if not path:
            raise InvalidInputError("/save needs the name of a file")
        Path(path).write_text(json.dumps(self._messages, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        print(f"{len(self._messages)} messages are in {path}", file=sys.stderr)

    def _load(self, path: str) -> None:
        if not path:
            raise InvalidInputError("/load needs the name of a file")
        try:
            loaded = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidInputError(f"{path}: no conversation: {error}") from error
        good = isinstance(loaded, list) and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in loaded)
        if not good:
            raise InvalidInputError(f"{path}: no conversation: a list of messages with a role and a content is needed")
        self._messages = loaded
        print(f"{len(loaded)} messages", file=sys.stderr)


def _messages(terminal: bool) -> Iterator[str]:
    """What is written on stdin, message by message, to its end. Ctrl-C at a terminal drops what is being written."""
    lines: list[str] = []
    fenced = False
    while True:
        try:
            line = input("" if not terminal else "| " if lines or fenced else "> ")
        except EOFError:
            if terminal:
                print()
            if lines:
                yield "\n".join(lines)
            return
        except KeyboardInterrupt:
            if not terminal:
                raise
            print("\n(Ctrl-D ends)", file=sys.stderr)
            lines, fenced = [], False
            continue
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"stdin is not UTF-8: {error.reason} at byte {error.start}") from error
        if line.strip() == FENCE:
            fenced = not fenced
        elif not fenced and line.endswith("\\"):
            lines.append(line[:-1])
            continue
        else:
            lines.append(line)
        if not fenced and lines:
            yield "\n".join(lines)
            lines = []


def _template(wanted: str | None) -> str | None:
    """A template by its name, or the content of a file."""
    if wanted is None or not Path(wanted).is_file():
        return wanted
    try:
        return Path(wanted).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{wanted} is not UTF-8: {error.reason} at byte {error.start}") from error


def _variable(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        if not sign:
            raise InvalidOptionError(f"--variable: NAME=JSON is needed, not {quote(text)}") from None
        return name, value
