"""Commands in a pipe: what is known is written at once, a bad line costs only itself, Ctrl-C keeps what there is."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from edgeformer.cli import main
from edgeformer.cli.generate import _print_result, print_as_it_comes
from edgeformer.cli.inputs import line_batches
from edgeformer.converters import convert
from edgeformer.tools.demo import CHECKPOINT
from support.bigram import FakeSession, model_of, says

TOO_LONG = "4 March 1997 " * 40


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's encoder-decoder (context 64)."""
    path = tmp_path_factory.mktemp("pipes") / "dates.gguf"
    convert(CHECKPOINT, path, type="q8_0")
    return str(path)


def type_on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in a process of its own, with three pipes; killed if it is not done in a minute."""
    command = [sys.executable, "-m", "edgeformer", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        alarm = threading.Timer(60, process.kill)
        alarm.start()
        try:
            yield process
        finally:
            alarm.cancel()
            process.kill()


def test_translate_answers_each_line_as_it_comes(dates: str) -> None:
    with started("translate", dates) as process:
        for line, answer in (
            (b"4 March 1997\n", b"1997-03-04\n"),
            (b"\n", b"\n"),
            (b"1er mai 2020\r\n", b"2020-05-01\n"),
        ):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == answer, "before the next line is written"
        process.stdin.write(b"14. August 2003")
        process.stdin.close()
        assert process.stdout.read() == b"2003-08-14\n"
        assert process.wait() == 0 and process.stderr.read() == b""


def test_ctrl_c_keeps_what_was_translated(dates: str) -> None:
    with started("translate", dates, "--json") as process:
        process.stdin.write(b"4 March 1997\n")
        process.stdin.flush()
        wait_until_asleep_in_a_read(process.pid)
        process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.read()) == [{"source": "4 March 1997", "text": "1997-03-04"}]
        assert process.wait() == 130 and process.stderr.read() == b""


def wait_until_asleep_in_a_read(pid: int) -> None:
    """Wait until the process has read what was written and waits for more."""
    import time

    try:
        Path(f"/proc/{pid}/syscall").read_text()
    except OSError:
        pytest.skip("needs /proc/PID/syscall")
    deadline = time.monotonic() + 30
    calm = 0
    while calm < 10 and time.monotonic() < deadline:
        calm = calm + 1 if Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 ") else 0
        time.sleep(0.02)


def test_a_bad_line_is_named_and_ends_the_work(
    dates: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_on_stdin(monkeypatch, f"4 March 1997\n\n{TOO_LONG}\n5 May 2001\n".encode())
    assert main(["translate", dates]) == 1
    out, err = capsys.readouterr()
    assert out == "1997-03-04\n\n"
    assert err.startswith("edgeformer: error: line 3: ") and "(--truncate)" in err and err.count("\n") == 1


@pytest.mark.parametrize("bad", [TOO_LONG.encode(), b"caf\xe9"])
def test_a_bad_line_costs_only_itself_where_that_is_wished(
    dates: str, bad: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [b"4 March 1997", b"5 May 2001", b"1.2.2003"] * 12
    lines = [*good[:20], bad, *good[20:]]
    type_on_stdin(monkeypatch, b"\n".join(lines))
    assert main(["translate", dates, "--keep-going"]) == 1
    out, err = capsys.readouterr()
    answers = ["1997-03-04", "2001-05-05", "2003-02-01"] * 12
    assert out.splitlines() == [*answers[:20], "", *answers[20:]]
    assert err.startswith("edgeformer: error: line 21: ") and err.count("\n") == 1
    type_on_stdin(monkeypatch, b"\n".join(lines))
    assert main(["translate", dates, "--keep-going", "--json"]) == 1
    documents = json.loads(capsys.readouterr().out)
    assert [document["text"] for document in documents] == [*answers[:20], None, *answers[20:]]
    assert documents[20]["error"]


def test_a_text_that_is_an_argument_is_named_as_one(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", dates, "4 March 1997", TOO_LONG]) == 1
    out, err = capsys.readouterr()
    assert out == "1997-03-04\n" and err.startswith("edgeformer: error: text 2: ")
    assert main(["translate", dates, TOO_LONG, "--truncate"]) == 0


def test_lines_that_are_there_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    type_on_stdin(monkeypatch, b"\n".join(b"%d" % number for number in range(30_000)))
    batches = list(line_batches(32))
    assert [line for batch in batches for line in batch] == [b"%d" % number for number in range(30_000)]
    assert {len(batch) for batch in batches[:-1]} == {32}


def test_lines_that_are_not_written_yet_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader) as stdin, open(writer, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", stdin)
        batches = line_batches(4)
        pipe.write(b"a\nb\nhalf")
        assert next(batches) == [b"a", b"b"]
        pipe.write(b" a line\nc\nd\ne\nf\n")
        assert [next(batches), next(batches)] == [[b"half a line", b"c", b"d", b"e"], [b"f"]]
        pipe.write(b"last")
        pipe.close()
        assert list(batches) == [[b"last"]]


def test_a_text_in_a_pipe_is_written_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []

    class Pipe(io.StringIO):
        def flush(self) -> None:
            writes.append(self.getvalue())
            self.seek(0)
            self.truncate()

    monkeypatch.setattr(sys, "stdout", Pipe())
    print_as_it_comes(["On", "ce\nupon ", "a\n\nti", "me"])
    assert writes == ["Once\n", "upon a\n\n", "time\n"]


def test_what_was_generated_stays_when_it_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    def pieces(*texts: str) -> Iterator[str]:
        yield from texts
        raise KeyboardInterrupt

    for texts, printed in ((("Once\nup", "on"), "Once\nupon\n"), (("Once\n",), "Once\n"), ((), "")):
        with pytest.raises(KeyboardInterrupt):
            print_as_it_comes(pieces(*texts))
        assert capsys.readouterr().out == printed


def test_a_result_that_is_interrupted_is_printed_as_far_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    session = FakeSession(says("abcdefghij"))

    def interrupt() -> None:
        if session.steps == 4:
            raise KeyboardInterrupt

    session.before_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        _print_result(model_of(session).generate("a", stream=True))
    result = json.loads(capsys.readouterr().out)
    assert (result["text"], result["finish_reason"]) == ("bcd", "cancelled")


def test_a_prompt_on_stdin_loses_the_newline_of_echo(
    dates: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for data in (b"4 March 1997", b"4 March 1997\n"):
        type_on_stdin(monkeypatch, data)
        assert main(["generate", dates, "-p", "-", "--json"]) == 0
        texts.append(json.loads(capsys.readouterr().out))
    assert texts[0]["text"] == "1997-03-04"
    assert texts[0]["usage"] == texts[1]["usage"]
    for data in (b"", b"\n"):
        type_on_stdin(monkeypatch, data)
        assert main(["generate", dates, "-p", "-"]) == 1
        assert "stdin is empty" in capsys.readouterr().err


def test_generate_says_how_to_cut_a_prompt(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", dates, "-p", TOO_LONG]) == 1
    err = capsys.readouterr().err
    assert "have it cut (--truncate)" in err and "n-ctx" not in err, "the context is as large as the model has it"
    assert main(["generate", dates, "-p", TOO_LONG, "--n-ctx", "32"]) == 1
    assert "--n-ctx, up to 64" in capsys.readouterr().err
    assert main(["generate", dates, "-p", TOO_LONG, "--truncate"]) == 0
