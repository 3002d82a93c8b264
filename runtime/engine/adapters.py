"""LoRA adapters beside a loaded model: low-rank products with programs of their own, over the same weights and caches.

The file is llama.cpp's: `general.type` is "adapter", and for each matrix there are the tensors NAME.lora_a and
NAME.lora_b.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .._kernels import core
from ..errors import InvalidInputError, ModelFormatError, UnsupportedModelError, quote
from ..files.gguf.reader import GGUFFile
from ..graph.adapters import LowRank, adapted
from ..graph.architecture import Architecture
from ..graph.recipe import Stack, VectorSpec
from .programs import compile_program, program_keys, weight_stacks
from .runner import Runner
from .session import Session
from .weights import Weights, WeightSource, supported_type

__all__ = ["Adapter", "load_adapter", "using"]

DOWN, UP = ".lora_a", ".lora_b"


class Adapter:
    """An adapter in memory, to be given to calls of the model that loaded it. A context manager.

    Attributes
    ----------
    path : str
        The file that it came from.
    """

    def __init__(self, path: str, model: Runner, runner: Runner) -> None:
        self.path, self.runner, self._model = path, runner, model
        model.beside.append(runner)

    @property
    def nbytes(self) -> int:
        """Memory that it takes beside the model: its matrices, and room for its programs to work in."""
        return sum(self.runner.binder.taken.values())

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory: neither it nor its model was let go."""
        return bool(self.runner.programs)

    def __repr__(self) -> str:
        return f"<edgeformer.Adapter {self.path!r}{'' if self.is_loaded else ', unloaded'}>"

    def unload(self) -> None:
        """Free its memory. Calls that are given it later raise `InvalidInputError`. May be called again."""
        with self._model.caches.lock:
            if self.is_loaded:
                self._model.beside.remove(self.runner)
                self.runner.close()
                self.runner.binder.give_back()

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.unload()


class _Weights:
    """The model's weights and the adapter's, as a program asks for them."""

    def __init__(self, model: WeightSource, own: Weights, names: frozenset[str]) -> None:
        self._model, self._own, self._names = model, own, names

    def type_of(self, name: str) -> int:
        return (self._own if name in self._names else self._model).type_of(name)

    def matrix(self, stack: Stack) -> core.Matrix:
        if stack[0].name in self._names:
            return self._own.matrix(stack)
        return self._model.matrix(stack)

    def vector(self, spec: VectorSpec) -> np.ndarray:
        return self._model.vector(spec)

    def floats(self, name: str) -> np.ndarray:
        return self._model.floats(name)

    def clear(self) -> None:
        self._own.clear()


def load_adapter(session: Session, path: str | os.PathLike[str]) -> Adapter:
    """Loads the adapter at `path`, a GGUF file, beside the session's model.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        There is no such file, or it is damaged, or no adapter.
    UnsupportedModelError
        It is an adapter of another model, of another kind, or of matrices that are no plain products.
    NotEnoughMemoryError
        It does not fit in memory.
    InvalidInputError
        The model is closed.
    """
    base = session._runner
    with GGUFFile(path) as file, base.caches.lock:
        base.check_open()
        model, binder = base.model, base.binder
        added = _read(file, session.architecture, model)
        own_shapes = {name: file.tensors[name].shape for part in added.values() for name in (part.down, part.up)}
        names = frozenset(own_shapes)

        def type_of(name: str) -> int:
            return supported_type(file, name) if name in names else binder.weights.type_of(name)

        graphs = {name: adapted(graph, added, own_shapes, type_of) for name, graph in model.programs.items()}
        architecture = replace(model, programs=graphs)
        recipes = {key: compile_program(graphs[key[0]], key[1], type_of) for key in program_keys(architecture)}
        stacks = {stack for stack in weight_stacks(recipes) if stack[0].name in names}
        there = {stack for program in base.programs.values() for stack in program.recipe.matrices}
        for apart in weight_stacks(recipes) - stacks - there:
            what = f"asks for {apart[0].name} apart: merge it into the checkpoint instead"
            raise UnsupportedModelError(f"{file.path}: the adapter {what}")
        weights = Weights(file, base.pool, stacks)
        room = sum(binder.room(recipe, base.max_rows) for recipe in recipes.values())
        own = binder.beside(_Weights(binder.weights, weights, names))
        own.take(f"the adapter {file.path}", weights.to_copy, room)
        try:
            runner = copy.copy(base)
            runner.beside, runner.binder, runner.model = [], own, architecture
            runner.programs = {key: own.bind(recipe) for key, recipe in recipes.items()}
        except BaseException:
            own.give_back()
            raise
        return Adapter(os.path.abspath(os.fsdecode(path)), base, runner)


def using(session: Session, adapter: Adapter | None) -> Session:
    """The session whose runs have the adapter; the session itself without one.

    Raises
    ------
    InvalidInputError
        It is no adapter of this model, or was unloaded.
    """
    if adapter is None:
        return session
    if not isinstance(adapter, Adapter):
        raise InvalidInputError(f"adapter: what load_adapter gave is needed, not {quote(adapter)}")
    if not adapter.is_loaded:
        raise InvalidInputError(f"adapter: {adapter.path} was unloaded; load it again")
    if adapter.runner.caches is not session._runner.caches:
        raise InvalidInputError(f"adapter: {adapter.path} was loaded beside another model")
    view = copy.copy(session)
    view._runner, view._model = adapter.runner, adapter.runner.model
    return view


def _read(file: GGUFFile, architecture: str, model: Architecture) -> dict[str, LowRank]:
    """What an adapter's file adds to which matrix."""
    kind = file.get("general.type", str, "model")
    if kind != "adapter":
        what = (
            f"is of the kind {quote(kind)}, not an adapter; edgeformer convert makes one of PEFT's folder with --base"
        )
        raise UnsupportedModelError(f"{file.path}: {what}")
    of = file.get("general.architecture", str)
    if of != architecture:
        raise UnsupportedModelError(
            f"{file.path}: is an adapter of {quote(of)}, and the model is {quote(architecture)}"
        )
    if (lora := file.get("adapter.type", str)) != "lora":
        raise UnsupportedModelError(f"{file.path}: adapter.type is {quote(lora)}; supported: lora")
    if "adapter.alora.invocation_tokens" in file.metadata:
        raise UnsupportedModelError(f"{file.path}: adapter.alora.invocation_tokens is not supported")
    alpha = file.get("adapter.lora.alpha", float, 0.0)
    shapes = {name: shape for graph in model.programs.values() for name, shape in graph.tensor_shapes.items()}
    read = {tensor for graph in model.programs.values() for node in graph.nodes for tensor in node.tensors}
    names = {name.removesuffix(DOWN).removesuffix(UP) for name in file.tensors}
    if not names:
        raise ModelFormatError(file.path, None, "tensors", "the adapter has none")
    return {name: _pair(file, name, alpha, shapes if name in read else {}) for name in sorted(names)}


def _pair(file: GGUFFile, name: str, alpha: float, shapes: Mapping[str, tuple[int, ...]]) -> LowRank:
    if not {name + DOWN, name + UP} <= file.tensors.keys():
        raise ModelFormatError(file.path, None, name, f"the pair {DOWN} and {UP} is not there")
    down, up = (tuple(file.tensors[name + end].shape) for end in (DOWN, UP))
    if name not in shapes:
        raise UnsupportedModelError(f"{file.path}: the model has no tensor {quote(name)}, which the adapter changes")
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or (up[0], down[1]) != shapes[name]:
        what = f"{list(up)} times {list(down)} is added to a tensor of {list(shapes[name])}"
        raise UnsupportedModelError(f"{file.path}: {name}: {what}: it is an adapter of another model")
    if not np.isfinite(alpha):
        raise ModelFormatError(file.path, None, "adapter.lora.alpha", f"is {alpha}")
    return LowRank(name + DOWN, name + UP, down[0], alpha / down[0] if alpha else 1.0)
