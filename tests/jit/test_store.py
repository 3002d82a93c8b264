"""The folder for machine code: named by the environment, and used only where nobody else could put anything."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from edgeformer.jit import store

VARIABLES = ("EDGEFORMER_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, two folders deep in one of ours."""
    monkeypatch.setenv("EDGEFORMER_CACHE_DIR", str(tmp_path / "above" / "cache"))
    (tmp_path / "above" / "cache").mkdir(parents=True)
    return tmp_path / "above" / "cache"


def test_folder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"/somewhere/{variable}")
    monkeypatch.setenv("HOME", "/home/somebody")
    found = [store.cache_folder()]
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        found.append(store.cache_folder())
    expected = [*(f"/somewhere/{variable}" for variable in VARIABLES), "/home/somebody/.cache"]
    assert found == [Path(expected[0]), Path(expected[1]), *(Path(name) / "edgeformer" for name in expected[2:])]


def test_without_a_home_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    for variable in (*VARIABLES, "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert store.trusted_folder() is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_relative_folder_is_not_used(tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "cache")
    monkeypatch.chdir(tmp_path)
    assert store.trusted_folder() is None
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_made_for_us_alone(folder: Path) -> None:
    folder.rmdir()
    assert store.trusted_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_none(folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"a file")
    assert store.trusted_folder() is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int) -> None:
    assert store.trusted_folder() == folder
    folder.chmod(mode)
    assert store.trusted_folder() is None


@pytest.mark.parametrize(("mode", "used"), [(0o770, False), (0o707, False), (0o777, False), (0o1777, True)])
def test_a_folder_below_one_that_others_may_write_is_not_used(folder: Path, mode: int, used: bool) -> None:
    """But for sticky ones, like /tmp, where nobody can move what is ours."""
    folder.parent.chmod(mode)
    assert store.trusted_folder() == (folder if used else None)


@pytest.mark.parametrize("links", ["folder", "parent"])
def test_a_link_is_used_if_all_on_its_way_is_ours(
    folder: Path, links: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder if links == "folder" else folder.parent)
    named = link if links == "folder" else link / folder.name
    monkeypatch.setenv("EDGEFORMER_CACHE_DIR", str(named))
    assert store.trusted_folder() == named
    folder.parent.chmod(0o777)
    assert store.trusted_folder() is None


@pytest.mark.parametrize("part", ["folder", "above", "link"])
def test_what_another_user_owns_is_not_used(
    folder: Path, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only the superuser can give files away")
    link = tmp_path / "link"
    link.symlink_to(folder.parent)
    monkeypatch.setenv("EDGEFORMER_CACHE_DIR", str(link / folder.name))
    assert store.trusted_folder() is not None
    os.chown({"folder": folder, "above": folder.parent, "link": link}[part], 54321, 54321, follow_symlinks=False)
    assert store.trusted_folder() is None


def test_what_is_written_is_read(folder: Path) -> None:
    path = folder / "norms-0123.jit"
    store.write(path, b"code")
    assert store.read(path) == b"code" and path.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602):
        path.chmod(mode)
        assert store.read(path) is None
