"""The error tree: one base, the built-in meanings, messages that name things, pickling with fields."""

from __future__ import annotations

import inspect
import pickle

import pytest
from edgeformer import errors

EXAMPLES = [
    errors.EdgeformerError("plain"),
    errors.ModelNotFoundError("a.gguf", "no such file"),
    errors.ModelFormatError("a.gguf", 24, "tensor count", "is 2**60"),
    errors.CheckpointFormatError("a.pt", None, "pickle", "is cut short"),
    errors.ModelFileChangedError("a.gguf", "a read came back short"),
    errors.UnsupportedModelError("tensor 'w' has type IQ1_S"),
    errors.GraphError("a.gguf", "decode", "an attention reads what nothing stored"),
    errors.UnsupportedCPUError("neon is not here"),
    errors.UnsupportedInterpreterError("a subinterpreter"),
    errors.ContextOverflowError(300, 256, largest=512),
    errors.NotEnoughMemoryError("weights", 1000, 10),
    errors.InvalidInputError("empty prompt"),
    errors.InvalidOptionError("unknown option"),
    errors.ChatTemplateError("the chat template says: no system message"),
    errors.GenerationCancelled(),
    errors.NumericError("layer 3 gave NaN"),
    errors.MissingDependencyError("torch", "train"),
    errors.ConversionError("tensor 'w' holds NaN"),
    errors.OutputError("out.gguf", "no space left on the device", 4096),
]


def test_every_class_has_an_example_here_and_is_public() -> None:
    classes = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)}
    assert classes == {type(e) for e in EXAMPLES}
    assert {c.__name__ for c in classes} | {"quote"} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_is_edgeformer_error_and_survives_pickling(error: errors.EdgeformerError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(error, errors.EdgeformerError)
    assert type(copy) is type(error)
    assert str(copy) == str(error) != ""
    assert copy.__dict__ == error.__dict__
    assert copy.args == error.args


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.ModelNotFoundError, FileNotFoundError),
        (errors.NotEnoughMemoryError, MemoryError),
        (errors.InvalidInputError, ValueError),
        (errors.InvalidOptionError, ValueError),
        (errors.MissingDependencyError, ImportError),
        (errors.UnsupportedInterpreterError, ImportError),
        (errors.OutputError, OSError),
        (errors.CheckpointFormatError, errors.ModelFormatError),
    ],
)
def test_built_in_meaning(cls: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(cls, builtin)


def test_messages_name_the_fields() -> None:
    messages = [str(e) for e in EXAMPLES]
    assert "a.gguf: tensor count at byte 24: is 2**60" in messages
    assert "a.pt: pickle: is cut short" in messages
    assert any("300" in m and "256" in m and "n_ctx" in m for m in messages)
    assert any("1000 bytes" in m and "10 are available" in m for m in messages)
    assert any("edgeformer[train]" in m for m in messages)
    assert any("out.gguf" in m and "4096 bytes" in m for m in messages)


def test_a_context_overflow_advises_what_helps() -> None:
    def advice(**known: object) -> str:
        return str(errors.ContextOverflowError(300, 256, **known)).partition(": ")[2]

    assert advice() == advice(largest=256) == advice(new_tokens=1) == "shorten the input"
    assert advice(new_tokens=20) == "shorten the input or ask for fewer new tokens"
    assert advice(truncate="left") == "shorten the input or have it cut (truncate='left')"
    assert advice(largest=512).endswith("or load the model with a larger context (n_ctx, up to 512)")
    error = errors.ContextOverflowError(300, 256, truncate="left", largest=512)
    assert error.advise("--truncate", "--n-ctx") == (
        "300 positions are needed and the context has 256: shorten the input, have it cut (--truncate) "
        "or load the model with a larger context (--n-ctx, up to 512)"
    )


def test_fields_are_attributes() -> None:
    error = errors.ModelFormatError("a.gguf", 24, "tensor count", "is 2**60")
    assert (error.path, error.offset, error.field, error.what) == ("a.gguf", 24, "tensor count", "is 2**60")


def test_quote_escapes_and_cuts() -> None:
    assert quote_is_one_line(errors.quote("a\x1b[2J\nb"))
    assert len(errors.quote("x" * 10_000)) < 200
    assert len(errors.quote(["x"] * 10_000)) < 200


def quote_is_one_line(text: str) -> bool:
    return text.isprintable() and "\n" not in text
