"""The command line's manners: help, exit codes, errors on one line, quiet pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from edgeformer.cli import main
from edgeformer.cli.app import COMMANDS

RUN = [sys.executable, "-m", "edgeformer"]


def check_error(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """Nothing on stdout, and on stderr one line that names the program and holds `parts`."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgeformer: error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "Example:" in out and f"edgeformer {name}" in out and err == ""


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert all(name in out for name in COMMANDS) and err == ""


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    import edgeformer

    assert main([option]) == 0
    assert capsys.readouterr().out == f"edgeformer {edgeformer.__version__}\n"


def test_the_package_runs_as_a_program() -> None:
    for arguments, code in ((["--version"], 0), (["plan", "absent.gguf"], 1), (["talk"], 2)):
        done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert bool(done.stderr) == bool(code)
    assert done.stderr == "edgeformer: error: No such command 'talk' (see: edgeformer --help)\n"


def test_the_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        count = str(len(line.split()) - 1)
        asking = {"_EDGEFORMER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": count}
        done = subprocess.run(RUN, capture_output=True, text=True, check=True, env={**os.environ, **asking})
        return done.stdout.split()

    assert completed("edgeformer tr") == ["translate"]
    assert completed("edgeformer generate --top") == ["--top-p", "--top-k", "--top-n-sigma"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "nonsense"),
        (["plan"], "FILE"),
        (["generate", "x.gguf"], "--prompt"),
        (["generate", "x.gguf", "--prompt", "a", "--top-k", "many"], "--top-k"),
        (["bench", "-m", "x.gguf", "-o", "xml"], "--output"),
        (["inspect", "--colour", "x.gguf"], "--colour"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    check_error(capsys, part, "--help")


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["plan"],
        ["hash"],
        ["generate", "--prompt", "a"],
        ["translate", "text"],
        ["encode", "text"],
        ["bench", "-m"],
    ],
)
def test_a_missing_model_is_one_line_and_exit_code_1(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "absent.gguf")
    command = [*arguments, missing] if arguments[-1] == "-m" else [arguments[0], missing, *arguments[1:]]
    assert main(command) == 1
    check_error(capsys, missing)


def test_a_file_that_is_no_model_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "letter.gguf"
    path.write_text("Dear Sir or Madam,\n" * 20)
    assert main(["inspect", str(path)]) == 1
    check_error(capsys, str(path))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from edgeformer.cli import main; main(['generate', '--help'])\n"
        "loaded = {'numpy', 'numba', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_terminal_without_unicode_gets_escapes() -> None:
    command = [*RUN, "inspect", "caf\u00e9.gguf"]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1 and b"caf\\xe9.gguf" in done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*RUN, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""


def test_ctrl_c_is_quiet_and_exit_code_130() -> None:
    # encode waits for all of its lines: a place where an interrupt surely arrives.
    with subprocess.Popen(
        [*RUN, "encode", "absent.gguf"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"one line\n")
        process.stdin.flush()
        wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == b""


def wait_until_reading(pid: int) -> None:
    """Wait until the process sleeps in read(0, ...)."""
    import time

    try:
        syscall = Path(f"/proc/{pid}/syscall").read_text()
    except OSError:
        pytest.skip("needs /proc/PID/syscall")
    deadline = time.monotonic() + 20
    while not syscall.startswith("0 0x0 ") and time.monotonic() < deadline:
        time.sleep(0.05)
        syscall = Path(f"/proc/{pid}/syscall").read_text()
