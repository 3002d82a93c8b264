"""The process that hosts one runtime: `PYTHON -m bench.worker`, by the interpreter that has the runtime installed.

It reads one JSON request a line and answers one JSON line each: `{"engine": name, "options": {...}}` first, then
`{"run": {...}, "repeat": n}`, answered with the seconds of every run, or `{"call": method, "arguments": {...}}`. What
fails ends the process, its complaint on stderr. Nothing of a runtime is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

ENGINES = {
    "edgeformer-decoder": ("engines_edgeformer", "Decoder"),
    "edgeformer-encoder": ("engines_edgeformer", "Encoder"),
    "memory-reader": ("engines_edgeformer", "MemoryReader"),
    "llama.cpp": ("engines_llama_cpp", "LlamaCpp"),
    "ik_llama.cpp": ("engines_llama_cpp", "IkLlamaCpp"),
    "onnxruntime": ("engines_encoders", "OnnxRuntime"),
    "openvino": ("engines_encoders", "OpenVino"),
    "ctranslate2": ("engines_encoders", "CTranslate2"),
}


def answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What a loaded engine says to a request."""
    if "call" in request:
        return {"result": getattr(engine, request["call"])(**request["arguments"])}
    return {"seconds": [engine.run(**request["run"]) for _ in range(request["repeat"])]}


def serve() -> None:
    """Answer requests until the pipe closes. Runtimes that print to stdout get stderr instead."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = None
    for line in sys.stdin:
        request = json.loads(line)
        if "engine" in request:
            module, name = ENGINES[request["engine"]]
            engine = getattr(importlib.import_module(f".{module}", __package__), name)(**request["options"])
            said: dict[str, Any] = {"version": engine.version}
        else:
            said = answer(engine, request)
        answers.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    serve()
