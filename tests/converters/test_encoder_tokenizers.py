"""Tokenizers of encoders from the files of pieces alone: the ids that transformers gives, pairs and all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgeformer.converters.vocabularies.vocabulary import read_vocabulary
from edgeformer.errors import ConversionError
from edgeformer.files.json_file import read_json_object
from edgeformer.text.tokenizer import Tokenizer
from golden import cases
from support.probes import llama_cpp
from support.small_models import bert

FOLDER = cases.FOLDER / "encoder_tokenizers"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
NAMES = sorted(EXPECTED.keys() - {"transformers", "texts"})
TEXTS = EXPECTED["texts"]
OTHERS = [text or "and" for text in [*TEXTS[7:], *TEXTS[:7]]]
TYPED = {"albert", "deberta", "deberta-v2"}  # whose second texts have another type


def metadata_of(folder: Path) -> dict[str, Any]:
    return read_vocabulary(folder, read_json_object(folder / "config.json")).metadata()


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_metadata(metadata)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_transformers(name: str) -> None:
    tokenizer = tokenizer_of(metadata_of(FOLDER / name))
    for text, ids in zip(TEXTS, EXPECTED[name]["ids"], strict=True):
        assert tokenizer.encode(text) == ids, repr(text)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_those_of_transformers(name: str) -> None:
    tokenizer = tokenizer_of(metadata_of(FOLDER / name))
    for one, other, wanted in zip(TEXTS, OTHERS, EXPECTED[name]["pairs"], strict=True):
        ids, types = tokenizer.encode_pair(one, other)
        assert ids == wanted, repr((one, other))
        assert sorted(types) == types and set(types) == ({0, 1} if name in TYPED else {0})


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name]["masked"]])
def test_a_mask_takes_in_the_space_before_it(name: str) -> None:
    tokenizer = tokenizer_of(metadata_of(FOLDER / name))
    mask = "<mask>" if name in ("camembert", "mpnet", "xlm-roberta") else "[MASK]"
    assert tokenizer.encode(f"the {mask} sea", parse_special=True) == EXPECTED[name]["masked"]


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "camembert"])
def test_the_arrays_alone_give_the_same(name: str) -> None:
    metadata = metadata_of(FOLDER / name)
    del metadata["tokenizer.huggingface.json"]
    tokenizer = tokenizer_of(metadata)
    assert [tokenizer.encode(text) for text in TEXTS] == EXPECTED[name]["ids"]
    pairs = zip(TEXTS, OTHERS, strict=True)
    assert [tokenizer.encode_pair(one, other)[0] for one, other in pairs] == EXPECTED[name]["pairs"]


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "camembert"])
def test_llama_cpp_gives_the_same_ids(name: str, tmp_path: Path) -> None:
    model = bert()
    kept = {key: value for key, value in model.metadata.items() if not key.startswith("tokenizer.")}
    path = replace(model, metadata=kept | metadata_of(FOLDER / name)).write(tmp_path / "out.gguf")
    given = llama_cpp("tokens", {"path": str(path), "texts": TEXTS, "start": [], "length": 0})
    assert given["texts"] == EXPECTED[name]["ids"]


def test_a_class_that_is_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes((FOLDER / "deberta-v2" / "spm.model").read_bytes())
    with pytest.raises(ConversionError, match=r"no tokenizer\.json"):
        read_vocabulary(tmp_path, {})


@pytest.mark.parametrize(("name", "setting"), [("deberta-v2", "split_by_punct"), ("roberta", "add_prefix_space")])
def test_settings_that_are_not_done_are_named(name: str, setting: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(FOLDER / name, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({setting: True}))
    with pytest.raises(ConversionError, match=setting):
        read_vocabulary(folder, {})
