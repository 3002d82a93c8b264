"""`edgeformer chat`: in a pipe with a model whose answers are known, and at a terminal (a pty)."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgeformer.cli import main
from support.bigram import EOS, VOCABULARY, FakeSession, byte_metadata, model_of

pytest.importorskip("jinja2")
TEMPLATE = "{% for m in messages %}[{{ m.role[0] }}:{{ m.content }}]{% endfor %}a"
Run = Callable[..., str]


def session_of(**options) -> FakeSession:
    """It answers "bcd"."""
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    for token, following in zip(b"abcd", [*b"bcd", EOS], strict=True):
        table[token, following] = 10.0
    metadata = byte_metadata(**{"tokenizer.chat_template": TEMPLATE})
    return FakeSession(table, metadata=options.pop("metadata", metadata), **options)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command over lines of stdin; gives stdout, keeps what was fed and stderr as attributes."""

    def run(stdin: bytes | str, *arguments: str, code: int = 0, **options: object) -> str:
        session = session_of(**options)
        fed: list[str] = []
        forward = session.forward

        def recording(feeds, **more):
            fed.extend(bytes(i for i in ids if i < 256).decode() for _, ids in feeds if len(ids) > 1)
            return forward(feeds, **more)

        session.forward = recording
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        monkeypatch.setattr("edgeformer.cli.chat.load_model", lambda *_, **__: model_of(session))
        assert main(["chat", "model.gguf", *arguments]) == code
        out, run.error = capsys.readouterr()
        run.fed = fed
        return out

    return run


def test_every_line_is_answered_with_what_came_before(run: Run) -> None:
    assert run("Hi\nAnd?\n", "--system", "Be.") == "bcd\nbcd\n"
    assert run.fed == ["[s:Be.][u:Hi]a", "[s:Be.][u:Hi][a:bcd][u:And?]a"]
    assert run.error == ""


def test_options_reach_the_model(run: Run) -> None:
    assert run("Hi\n", "--max-tokens", "1", "--temperature", "0.01", "--seed", "3") == "b\n"
    assert run("Hi\n", "--max-tokens", "0", code=0) == ""
    assert "max_tokens: from 1" in run.error


def test_messages_of_several_lines(run: Run) -> None:
    run('one\\\ntwo\n"""\n/help\n\nthree\n"""\nfour')
    assert [fed.rpartition("[u:")[2] for fed in run.fed] == ["one\ntwo]a", "/help\n\nthree]a", "four]a"]


def test_commands(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    run(f"Hi\n/system Short.\nYo\n/save {path}\n/clear\nNew\n/system\n/load {path}\nOn\n/exit\nlost\n")
    assert run.fed == [
        "[u:Hi]a",
        "[s:Short.][u:Hi][a:bcd][u:Yo]a",
        "[s:Short.][u:New]a",
        "[s:Short.][u:Hi][a:bcd][u:Yo][a:bcd][u:On]a",
    ]
    assert [m["content"] for m in json.loads(path.read_text())] == ["Short.", "Hi", "bcd", "Yo", "bcd"]
    assert "5 messages are in" in run.error and run.error.endswith("5 messages\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/sav x", "there is no command '/sav'"),
        ("/save", "/save needs the name of a file"),
        ("/load", "/load needs the name of a file"),
        ("/load /nowhere/talk.json", "No such file"),
        ("/save /nowhere/talk.json", "No such file"),
        ("x" * 100, "the context"),
    ],
)
def test_what_goes_wrong_costs_only_its_line(run: Run, line: str, words: str) -> None:
    assert run(f"{line}\nHi\n") == "bcd\n"
    assert words in run.error and run.error.count("\n") == 1
    assert run.fed == ["[u:Hi]a"]


@pytest.mark.parametrize("content", ["nothing", "{}", "[5]", '[{"content": "x"}]'])
def test_a_file_that_is_no_conversation_is_named(run: Run, content: str, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(content)
    run(f"/load {tmp_path}/talk.json\n")
    assert "no conversation" in run.error


def test_the_oldest_messages_are_forgotten_where_the_context_is_full(run: Run) -> None:
    run("a" * 20 + "\n" + "b" * 20 + "\nlast\n", "--system", "S", n_ctx=60)
    assert run.fed[-1].startswith("[s:S][u:b") and "[u:last]" in run.fed[-1]
    assert "the oldest messages are forgotten" in run.error


def test_a_template_by_file_and_what_it_reads(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{{ style }}{{ n + 1 }}{{ messages[-1].content }}a")
    run("Hi\n", "--template", str(path), "--variable", "n=4", "--variable", "style=plain")
    assert run.fed == ["plain5Hia"]


def test_what_cannot_begin_is_an_error(run: Run) -> None:
    run("Hi\n", code=1, metadata=byte_metadata())
    assert "the file has no chat template" in run.error
    run("Hi\n", "--template", "other", code=1)
    assert "of names the file has 'default'" in run.error
    run("Hi\n", "--variable", "x", code=1)
    assert "NAME=JSON" in run.error
    run(b"Hi\n\xff\n", code=1)
    assert "stdin is not UTF-8" in run.error


AT_A_TERMINAL = """
import sys, time
import numpy as np
from edgeformer.cli import chat, main
from support.bigram import FakeSession, byte_metadata, model_of, VOCABULARY
table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
table[:, ord("x")] = 10.0  # it never ends
session = FakeSession(table, n_ctx=100000, metadata=byte_metadata(**{"tokenizer.chat_template":
    "{% for m in messages %}{{ m.role[0] + m.content }}{% endfor %}"}))
session.before_step = lambda: time.sleep(0.01)
chat.load_model = lambda *_, **__: model_of(session)
sys.exit(main(["chat", "model.gguf"]))
"""


def read_until(master: int, wanted: bytes, again: Callable[[], None] | None = None) -> bytes:
    """What the terminal shows up to `wanted`; `again` is called now, and after each second of silence."""
    seen, end, silent = b"", time.monotonic() + 30, True
    while wanted not in seen:
        assert time.monotonic() < end, seen
        if silent and again is not None:
            again()
        silent = not select.select([master], [], [], 1.0)[0]
        if not silent:
            seen += os.read(master, 4096)
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_at_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends(tmp_path: Path) -> None:
    import pty

    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL], stdin=slave, stdout=slave, stderr=slave, env=environment,
        start_new_session=True, close_fds=True,
    )  # fmt: skip
    os.close(slave)
    try:
        read_until(master, b"> ")
        os.write(master, b"Hi\n")
        read_until(master, b"xxxx")  # it comes as it is made
        process.send_signal(signal.SIGINT)
        read_until(master, b"> ")
        # Python's readline sleeps through a signal that comes between its prompt and its wait.
        read_until(master, b"(Ctrl-D ends)", lambda: process.send_signal(signal.SIGINT))
        os.write(master, b"begun \\\n")
        read_until(master, b"| ")
        os.write(master, b"ended\n")
        read_until(master, b"xx")
        process.send_signal(signal.SIGINT)
        read_until(master, b"> ")
        talk = tmp_path / "talk.json"
        os.write(master, f"/save {talk}\n".encode())
        said = read_until(master, b"4 messages are in")
        if b"> " not in said.partition(b"4 messages are in")[2]:
            read_until(master, b"> ")  # readline has the terminal: before that, Ctrl-D would be lost
        os.write(master, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    contents = [message["content"] for message in json.loads(talk.read_text())]
    assert contents[0] == "Hi" and set(contents[1]) == {"x"} and contents[2] == "begun \nended"
