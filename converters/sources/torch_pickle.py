"""The pickles inside torch's checkpoints, run by an interpreter of their own.

Python's `pickle` calls what a file tells it to call, and every filter put before it has been walked around. This is
not a filter: it knows the opcodes that torch.save emits and nothing else, calls nothing, imports nothing, and builds
tensors' descriptions, dicts, lists, tuples, strings and numbers. Anything else is refused by its name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ...errors import CheckpointFormatError, PathLike, quote

__all__ = ["Storage", "TensorRef", "load_pickle"]

MAX_PICKLE_BYTES = 1 << 26
MAX_OPCODES = 1 << 21
MAX_CONTAINERS = 1 << 18  # about forty thousand tensors
MAX_STACK = 1 << 18
MAX_DEPTH = 64
MAX_RANK = 16
MAX_LINE = 256
ADVICE = "save only the tensors: torch.save(model.state_dict(), path)"


@dataclass(frozen=True)
class Storage:
    """A record of the archive: numbers of one type."""

    key: str
    dtype: str
    num_elements: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor that is not read yet: a view, in elements, that stays inside its storage and has no more elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    """A name that a pickle may refer to: a function to be understood, or a type of storage."""

    name: str
    dtype: str = ""


_STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_ORDERED_DICT = _Global("collections.OrderedDict")
_SIZE = _Global("torch.Size")
_REBUILD_TENSOR = _Global("torch._utils._rebuild_tensor_v2")
_REBUILD_PARAMETER = _Global("torch._utils._rebuild_parameter")
_GLOBALS: Final[dict[tuple[str, str], _Global]] = {
    ("collections", "OrderedDict"): _ORDERED_DICT,
    ("torch", "Size"): _SIZE,
    ("torch._utils", "_rebuild_tensor_v2"): _REBUILD_TENSOR,
    ("torch._utils", "_rebuild_parameter"): _REBUILD_PARAMETER,
    **{("torch", name): _Global(f"torch.{name}", dtype) for name, dtype in _STORAGE_TYPES.items()},
}

_CONTAINERS = (dict, list, tuple)

# Names, for messages, of opcodes that make objects and that torch.save does not write.
_REFUSED = {ord("P"): "PERSID", ord("i"): "INST", ord("o"): "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX"}
_REFUSED |= {0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4"}


def load_pickle(raw: bytes, path: PathLike, offset: int = 0) -> Any:
    """Run a pickle of torch.save.

    Parameters
    ----------
    raw : bytes
    path, offset : path-like, int
        The file that it is in and its byte position there, for messages.

    Returns
    -------
    TensorRef, dict, list, tuple, str, int, float, bool or None
        Ordered dicts come out as dicts. Nothing is nested deeper than 64 levels, or in itself.

    Raises
    ------
    CheckpointFormatError
        It is not what torch.save writes of a state dict.
    """
    return _Interpreter(raw, path, offset).run()


class _Interpreter:
    def __init__(self, raw: bytes, path: PathLike, offset: int) -> None:
        self.raw = raw
        self.path = path
        self.offset = offset
        self.position = 0
        self.opcode = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.storages: dict[str, Storage] = {}
        self.num_containers = 0

    def error(self, what: str) -> CheckpointFormatError:
        name = _OPCODES[self.opcode][0] if self.opcode in _OPCODES else _REFUSED.get(self.opcode, f"{self.opcode:#04x}")
        return CheckpointFormatError(self.path, self.offset + self.position, f"pickle opcode {name}", what)

    def run(self) -> Any:
        raw, stack, table = self.raw, self.stack, _OPCODES
        if len(raw) > MAX_PICKLE_BYTES:
            raise self.error(f"the pickle has {len(raw)} bytes, and at most {MAX_PICKLE_BYTES} are read")
        if raw[:1] != b"\x80":
            raise self.error("the pickle does not begin with its protocol")
        for _ in range(MAX_OPCODES):
            if self.position >= len(raw):
                raise self.error("the pickle is cut short")
            self.opcode = raw[self.position]
            if self.opcode not in table:
                raise self.error("torch.save does not write this")
            self.position += 1
            table[self.opcode][1](self)
            if len(stack) > MAX_STACK:
                raise self.error(f"more than {MAX_STACK} values are on the stack")
            if self.opcode == _STOP:
                return self.result()
        raise self.error(f"the pickle has more than {MAX_OPCODES} opcodes")

    def result(self) -> Any:
        if self.position != len(self.raw):
            raise self.error(f"{len(self.raw) - self.position} bytes follow the end of the pickle")
        if len(self.stack) != 1 or self.marks:
            raise self.error(f"{len(self.stack)} values are left in place of one")
        self.check_tree(self.stack[0])
        return self.stack[0]

    def check_tree(self, root: Any) -> None:
        """Refuse what is nested too deep or in itself, and names left where values should be."""
        heights: dict[int, int] = {}  # of containers that are done; -1 while their items are being visited
        pending: list[tuple[Any, bool]] = [(root, False)]
        while pending:
            value, is_done = pending.pop()
            if isinstance(value, (_Global, Storage)):
                raise self.error(f"a bare name or storage stands where a tensor or value should: {ADVICE}")
            if not isinstance(value, _CONTAINERS) or not value:
                continue
            items = value.values() if isinstance(value, dict) else value
            if is_done:
                height = 1 + max(heights.get(id(item), isinstance(item, _CONTAINERS)) for item in items)
                if height > MAX_DEPTH:
                    raise self.error(f"values are nested more than {MAX_DEPTH} levels deep")
                heights[id(value)] = height
            elif heights.get(id(value)) == -1:
                raise self.error("a container holds itself")
            elif id(value) not in heights:
                heights[id(value)] = -1
                pending.append((value, True))
                pending.extend((item, False) for item in items)

    # Bytes of the pickle

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.raw):
            raise self.error(f"takes {count} bytes, and {len(self.raw) - self.position} are left")
        data = self.raw[self.position : end]
        self.position = end
        return data

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, length: int) -> str:
        data = self.take(length)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.error("text is not UTF-8") from None

    def line(self) -> str:
        end = self.raw.find(b"\n", self.position, self.position + MAX_LINE)
        if end < 0:
            raise self.error(f"a name has no end within {MAX_LINE} bytes")
        name = self.text(end - self.position)
        self.position += 1
        return name

    # The stack

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("the stack is empty")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("there is no mark on the stack")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def top(self, kind: type, what: str) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise self.error(f"the target is not a {what}")
        return self.stack[-1]

    # Opcodes

    def protocol(self) -> None:
        version = self.unsigned(1)
        if self.position != 2 or not 2 <= version <= 5:
            raise self.error(f"protocol {version} is not 2 to 5, or not at the start")

    def frame(self) -> None:
        length = self.unsigned(8)
        if length > len(self.raw) - self.position:
            raise self.error(f"a frame of {length} bytes, and {len(self.raw) - self.position} are left")

    def mark(self) -> None:
        if len(self.marks) >= MAX_STACK:
            raise self.error(f"more than {MAX_STACK} marks are open")
        self.marks.append(len(self.stack))

    def put(self, index: int) -> None:
        # Picklers number the memo in order, so a larger index can only be an attempt to make it grow.
        if index > len(self.memo):
            raise self.error(f"memo index {index}, where {len(self.memo)} is the next")
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("the stack is empty")
        self.memo[index : index + 1] = [self.stack[-1]]

    def get(self, index: int) -> None:
        if index >= len(self.memo):
            raise self.error(f"memo index {index}, and there are {len(self.memo)}")
        self.stack.append(self.memo[index])

    def push_container(self, container: Any) -> None:
        self.num_containers += 1
        if self.num_containers > MAX_CONTAINERS:
            raise self.error(f"the pickle makes more than {MAX_CONTAINERS} containers")
        self.stack.append(container)

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push_container(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        self.top(list, "list").extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict, "dict")
        if len(items) % 2:
            raise self.error("a key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only these can be hashed without walking into them, which crashes Python on tuples a million deep. Large
            # integers could be chosen to collide.
            if type(key) is not str and not (type(key) is int and abs(key) < 1 << 31):
                raise self.error(f"a key is a {type(key).__name__}, and must be text or a small number")
            target[key] = value

    def find_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise self.error("the name of a global is not text")
        if (module, name) not in _GLOBALS:
            raise self.error(f"the pickle refers to {quote(module)} {quote(name)}, which is not read: {ADVICE}")
        self.stack.append(_GLOBALS[module, name])

    def stack_global(self) -> None:
        name = self.pop()
        self.find_global(self.pop(), name)

    def build(self) -> None:
        """torch.save hangs the versions of modules onto a state dict this way; they mean nothing here."""
        state = self.pop()
        self.top(dict, "dict")
        if type(state) is not dict or set(state) - {"_metadata"}:
            raise self.error("a dict gets attributes other than torch's _metadata")

    def persistent_id(self) -> None:
        pid = self.pop()
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
            raise self.error("the reference is not ('storage', type, key, device, count)")
        _, kind, key, _, count = pid
        if not isinstance(kind, _Global) or not kind.dtype:
            raise self.error("the reference to a storage names no storage type")
        if not isinstance(key, str) or not (key.isascii() and key.isdecimal() and len(key) < 20):
            raise self.error("the key of a storage is not a number")
        if type(count) is not int or not 0 <= count < 1 << 60:
            raise self.error("the element count of a storage is not a number that can be")
        storage = Storage(key, kind.dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise self.error(f"storage {key} is said to be two different things")
        self.stack.append(storage)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or not isinstance(function, _Global):
            raise self.error("what is called is not a function that is known, with a tuple of arguments")
        if function is _ORDERED_DICT and not arguments:
            self.push_container({})
        elif function is _SIZE and len(arguments) == 1:
            self.stack.append(self.extents(arguments[0], "size"))
        elif function is _REBUILD_PARAMETER and len(arguments) == 3 and isinstance(arguments[0], TensorRef):
            self.stack.append(arguments[0])
        elif function is _REBUILD_TENSOR and len(arguments) in (6, 7):
            self.stack.append(self.tensor(*arguments[:4]))
        else:
            raise self.error(f"{function.name} is called with {len(arguments)} arguments that do not fit it")

    def extents(self, values: Any, what: str) -> tuple[int, ...]:
        if type(values) is not tuple or len(values) > MAX_RANK:
            raise self.error(f"the {what} of a tensor is not a tuple of at most {MAX_RANK} numbers")
        for value in values:
            if type(value) is not int or not 0 <= value < 1 << 60:
                got = value if type(value) is int else type(value).__name__
                raise self.error(f"the {what} of a tensor holds {got}, which is no length that can be")
        return values

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> TensorRef:
        if not isinstance(storage, Storage) or type(offset) is not int or not 0 <= offset <= storage.num_elements:
            raise self.error("a tensor has no storage, or an offset outside it")
        shape, strides = self.extents(shape, "shape"), self.extents(strides, "stride")
        if len(shape) != len(strides) or (0 in shape and math.prod(filter(None, shape)) >= 1 << 59):
            raise self.error(f"a tensor has shape {shape} and strides {strides}, which not even an empty array has")
        count = math.prod(shape)
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        if count and (last >= storage.num_elements or count > storage.num_elements):
            what = f"a tensor of shape {shape}, strides {strides} and offset {offset} needs more"
            raise self.error(f"{what} than the {storage.num_elements} elements of its storage")
        return TensorRef(storage, offset, shape, strides)


Action = Callable[[_Interpreter], None]


def _push(make: Callable[[_Interpreter], Any]) -> Action:
    """An opcode that puts a value on the stack."""
    return lambda machine: machine.stack.append(make(machine))


_STOP = ord(".")
_OPCODES: Final[dict[int, tuple[str, Action]]] = {
    0x80: ("PROTO", _Interpreter.protocol),
    0x95: ("FRAME", _Interpreter.frame),
    _STOP: ("STOP", lambda machine: None),
    ord("("): ("MARK", _Interpreter.mark),
    ord("N"): ("NONE", _push(lambda machine: None)),
    0x88: ("NEWTRUE", _push(lambda machine: True)),
    0x89: ("NEWFALSE", _push(lambda machine: False)),
    ord("K"): ("BININT1", _push(lambda machine: machine.unsigned(1))),
    ord("M"): ("BININT2", _push(lambda machine: machine.unsigned(2))),
    ord("J"): ("BININT", _push(lambda machine: int.from_bytes(machine.take(4), "little", signed=True))),
    0x8A: ("LONG1", _push(lambda machine: int.from_bytes(machine.take(machine.unsigned(1)), "little", signed=True))),
    ord("G"): ("BINFLOAT", _push(lambda machine: struct.unpack(">d", machine.take(8))[0])),
    0x8C: ("SHORT_BINUNICODE", _push(lambda machine: machine.text(machine.unsigned(1)))),
    ord("X"): ("BINUNICODE", _push(lambda machine: machine.text(machine.unsigned(4)))),
    0x8D: ("BINUNICODE8", _push(lambda machine: machine.text(machine.unsigned(8)))),
    ord(")"): ("EMPTY_TUPLE", _push(lambda machine: ())),
    0x85: ("TUPLE1", lambda machine: machine.tuple_of(1)),
    0x86: ("TUPLE2", lambda machine: machine.tuple_of(2)),
    0x87: ("TUPLE3", lambda machine: machine.tuple_of(3)),
    ord("t"): ("TUPLE", lambda machine: machine.push_container(tuple(machine.pop_to_mark()))),
    ord("]"): ("EMPTY_LIST", lambda machine: machine.push_container([])),
    ord("a"): ("APPEND", lambda machine: machine.append([machine.pop()])),
    ord("e"): ("APPENDS", lambda machine: machine.append(machine.pop_to_mark())),
    ord("}"): ("EMPTY_DICT", lambda machine: machine.push_container({})),
    ord("s"): ("SETITEM", lambda machine: machine.set_items([machine.pop(), machine.pop()][::-1])),
    ord("u"): ("SETITEMS", lambda machine: machine.set_items(machine.pop_to_mark())),
    ord("q"): ("BINPUT", lambda machine: machine.put(machine.unsigned(1))),
    ord("r"): ("LONG_BINPUT", lambda machine: machine.put(machine.unsigned(4))),
    0x94: ("MEMOIZE", lambda machine: machine.put(len(machine.memo))),
    ord("h"): ("BINGET", lambda machine: machine.get(machine.unsigned(1))),
    ord("j"): ("LONG_BINGET", lambda machine: machine.get(machine.unsigned(4))),
    ord("c"): ("GLOBAL", lambda machine: machine.find_global(machine.line(), machine.line())),
    0x93: ("STACK_GLOBAL", _Interpreter.stack_global),
    ord("Q"): ("BINPERSID", _Interpreter.persistent_id),
    ord("R"): ("REDUCE", _Interpreter.reduce),
    ord("b"): ("BUILD", _Interpreter.build),
}
"""Every opcode that is understood: its name in Python's pickletools, and what it does."""
