"""`load`, and the `Model` that it gives."""

from __future__ import annotations

import logging
import os
import weakref
from _blake2 import blake2b  # hashlib would load OpenSSL, several MB for one digest
from typing import TYPE_CHECKING, Any, NoReturn

from ._kernels import core
from .engine.adapters import Adapter, load_adapter
from .engine.loading import LoadOptions, load_model
from .engine.session import Session
from .errors import InvalidInputError, ModelFileChangedError
from .files.gguf.reader import GGUFFile
from .generation.options import reject_unknown
from .generation.streams import run_in_thread
from .host.memory import ShortMemory
from .models.registry import build_architecture
from .tasks import (
    AnswerVerbs,
    ChatVerbs,
    ClassificationVerbs,
    EmbeddingVerbs,
    InspectionVerbs,
    MaskVerbs,
    RankingVerbs,
    TokenVerbs,
    TranslationVerbs,
)
from .tasks.base import verbs_of
from .text.settings import TextSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Model", "load"]

logger = logging.getLogger("edgeformer")

LOAD_OPTIONS = ("threads", "n_ctx", "max_memory", "kv_type", "isa", "progress")
# A fingerprint reads whole files up to so many bytes, and of larger ones so many from the start and from samples.
FINGERPRINT_BYTES = 1 << 20  # of BLAKE2b, for which each takes a millisecond of the load
FINGERPRINT_SAMPLES = 64


class Model(
    EmbeddingVerbs,
    TranslationVerbs,
    ChatVerbs,
    ClassificationVerbs,
    RankingVerbs,
    TokenVerbs,
    AnswerVerbs,
    MaskVerbs,
    InspectionVerbs,
):
    """A model in memory. `load` makes one; the class itself is not called.

    Which verbs it has follows from what it computes (`verbs` lists them); the others raise `UnsupportedModelError`. One
    model serves many threads: their steps take turns, and each gets what it would have got alone. It is a context
    manager. It pickles as the path, the options of `load` and a fingerprint of the file: unpickling loads the file
    again, and raises `ModelFileChangedError` if it is not the same. After a fork the child's copy works on its own.

    Attributes
    ----------
    path : str
        Absolute.
    tokenizer, target_tokenizer : Tokenizer or None
        Of what goes in and of what comes out; the same one except for encoder-decoders with two vocabularies.
    """

    def __init__(
        self, session: Session, path: str, options: Mapping[str, Any], fingerprint: str, texts: TextSettings
    ) -> None:
        self.path = path
        self._options = dict(options)
        self._fingerprint = fingerprint
        self._session: Session | None = session
        self.tokenizer, self.target_tokenizer = texts.tokenizer, texts.target_tokenizer
        self._defaults, self._prompts = texts.defaults, texts.prompts
        self._languages, self._tasks = texts.languages, texts.tasks
        # Not at exit: by then other threads may still be inside, and the system frees everything anyway.
        self._finalizer = weakref.finalize(self, session.close)
        self._finalizer.atexit = False
        if self._defaults.unsupported:
            logger.warning("%s: generation defaults not honoured: %s", path, ", ".join(self._defaults.unsupported))

    @property
    def session(self) -> Session:
        """The `Session` underneath: sequences, ragged batches and raw logits.

        Raises
        ------
        InvalidInputError
            If the model is closed.
        """
        if self._session is None:
            raise InvalidInputError(f"{self.path}: the model is closed; load it again")
        return self._session

    @property
    def family(self) -> str:
        """ "decoder", "encoder" or "encoder-decoder"."""
        return self.session.family

    @property
    def architecture(self) -> str:
        """The file's ``general.architecture``."""
        return self.session.architecture

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that this model has."""
        return verbs_of(self.session)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Everything that the file says about itself, by GGUF key."""
        return self.session.metadata

    @property
    def n_ctx(self) -> int:
        """Positions of the context: prompt and new tokens together; source and target each."""
        return self.session.n_ctx

    @property
    def vocab_size(self) -> int:
        """Columns of `logits`."""
        return self.session.vocab_size

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self.session.threads

    @property
    def isa(self) -> str:
        """The instruction set that runs here; results do not depend on it."""
        return self.session.isa

    @property
    def memory(self) -> dict[str, int]:
        """Bytes planned, by purpose."""
        return dict(self.session.memory)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._session is None

    @ShortMemory("load_adapter")
    def load_adapter(self, path: str | os.PathLike[str]) -> Adapter:
        """Load a LoRA adapter beside the model, for calls that are given it: ``generate(..., adapter=adapter)``.

        Any number of them share the model's weights and caches. A call without one gives what it always did. The
        adapter stays until `Adapter.unload` or `close`.

        Parameters
        ----------
        path : str or path-like
            A GGUF file of llama.cpp's form: ``edgeformer convert ADAPTER OUT.gguf --base CHECKPOINT`` makes one of
            PEFT's folder.

        Raises
        ------
        ModelNotFoundError, ModelFormatError
            If there is no such file, or it is damaged or no adapter.
        UnsupportedModelError
            If it belongs to another model, or changes more than matrices of products.
        NotEnoughMemoryError
            If it does not fit in memory.
        InvalidInputError
            If `path` is PEFT's folder, or the model is closed.
        """
        if os.path.isdir(path):
            how = f"edgeformer convert {os.fsdecode(path)} OUT.gguf --base CHECKPOINT"
            raise InvalidInputError(f"{os.fsdecode(path)}: is a folder; make a file of the adapter: {how}")
        return load_adapter(self.session, path)

    def close(self) -> None:
        """Free the model's memory. Waits for a step that is running; every later call raises. May be called again."""
        self._session = None
        self._finalizer()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Model:
        return self

    async def __aexit__(self, *_: object) -> None:
        await run_in_thread(self.close, lambda: None)  # it waits for a step that is running

    def __repr__(self) -> str:
        if self._session is None:
            return f"<edgeformer.Model {self.path!r}, closed>"
        return (
            f"<edgeformer.Model {self.path!r}: {self.architecture} {self.family}, "
            f"n_ctx={self.n_ctx}, threads={self.threads}, isa={self.isa!r}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self.path, self._options, self._fingerprint)


@ShortMemory("load")
def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    n_ctx: int | None = None,
    max_memory: int | None = None,
    kv_type: str = "f16",
    isa: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **unknown: NoReturn,
) -> Model:
    """Load a model file.

    Parameters
    ----------
    path : str or path-like
        A GGUF file, from `edgeformer convert` or elsewhere.
    threads : int, optional
        Threads that compute. Default: as many as the process may use (affinity, cgroup quota, ``OMP_NUM_THREADS``).
    n_ctx : int, optional
        Positions of the context. Default: the model's own, less if memory does not allow it (`Model.n_ctx` tells).
    max_memory : int, optional
        Bytes that weights, cache and scratch may take together.
    kv_type : {"f16", "f32", "q8_0"}
        Type of cached keys and values. ``"q8_0"`` takes little more than half the memory of ``"f16"`` and reads a long
        context faster; what it costs in accuracy is about what Q8_0 weights cost.
    isa : str, optional
        Force an instruction set, for tests. Default: the best that this CPU has. Results do not depend on it.
    progress : callable, optional
        Called with (bytes read, bytes in all) while weights load.

    Returns
    -------
    Model

    Raises
    ------
    ModelNotFoundError
        If there is no readable file at `path`.
    ModelFormatError
        If the file is damaged or no GGUF.
    ModelFileChangedError
        If the file changes while it is read.
    UnsupportedModelError
        If the architecture, or something that the file asks for, is not known here.
    UnsupportedCPUError
        If `isa` is not one that runs here.
    NotEnoughMemoryError
        If the model does not fit in memory or in `max_memory`; nothing was loaded.
    InvalidOptionError
        For an unknown or wrong option.
    """
    reject_unknown("load", unknown, LOAD_OPTIONS)
    options: dict[str, Any] = {"threads": threads, "n_ctx": n_ctx, "max_memory": max_memory}
    options |= {"kv_type": kv_type, "isa": isa}
    location = os.path.abspath(os.fsdecode(path))
    before = _identity(location)
    load_options = LoadOptions(**options, progress=progress)
    with GGUFFile(location) as file:
        architecture = build_architecture(file, n_ctx)
        texts = TextSettings.from_metadata(file.metadata, location, architecture.vocab_size)  # faults before weights
        core.trim_heap()  # of what describing the vocabulary took
        session = Session(load_model(file, architecture, load_options))
    try:
        try:
            fingerprint = file_fingerprint(location)
        except OSError as error:
            raise ModelFileChangedError(location, f"it cannot be read any more: {error.strerror}") from error
        if before != _identity(location):
            raise ModelFileChangedError(location, "it was replaced or rewritten while it was loaded")
        model = Model(session, location, options, fingerprint, texts)
    except BaseException:
        session.close()
        raise
    logger.info("%s: %s, context of %d positions, %s bytes", location, model.architecture, model.n_ctx, model.memory)
    return model


def file_fingerprint(path: str) -> str:
    """Hexadecimal BLAKE2b of a file's size and content; of the content of large files, their start and samples.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = blake2b(size.to_bytes(8, "little"), digest_size=16)
        digest.update(file.read(FINGERPRINT_BYTES))
        remaining = max(size - FINGERPRINT_BYTES, 0)
        block = min(FINGERPRINT_BYTES, remaining) // FINGERPRINT_SAMPLES + 1
        for sample in range(FINGERPRINT_SAMPLES if remaining else 0):
            file.seek(max(size - block - remaining * sample // FINGERPRINT_SAMPLES, 0))
            digest.update(file.read(block))
    return digest.hexdigest()


def _identity(path: str) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written to; None if it is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a path with a null byte is none
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _load_again(path: str, options: Mapping[str, Any], fingerprint: str) -> Model:
    """Unpickle a model: load the file at `path`, which must be what it was."""
    model = load(path, **options)
    if model._fingerprint != fingerprint:
        model.close()
        raise ModelFileChangedError(path, "it is not the file that the pickled model was loaded from")
    return model
