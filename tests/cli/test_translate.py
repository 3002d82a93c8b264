"""``edgeformer translate`` and ``edgeformer summarize``, with what Python has of them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import edgeformer
import pytest
from edgeformer.cli import main
from edgeformer.converters import convert
from golden import cases

LANGUAGES = {"source_language": "deu_Latn", "target_language": "eng_Latn"}
FLAGS = ["--source-language", "deu_Latn", "--target-language", "eng_Latn"]


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("nllb")
    source = Path(shutil.copytree(cases.FOLDER / "m2m100-fairseq", folder / "model"))
    shutil.copy(cases.FOLDER / "sentencepiece" / "unigram.model", source / "sentencepiece.bpe.model")
    codes = ["deu_Latn", "eng_Latn", "fra_Latn"]
    settings = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": codes}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    generation = {"max_length": 9, "no_repeat_ngram_size": 1, "suppress_tokens": [0, 1, 2, 3, *range(30, 71)]}
    (source / "generation_config.json").write_text(json.dumps({**generation, "decoder_start_token_id": 2}))
    return convert(source, folder / "model.gguf", type="f32").path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_translate_says_what_python_says(nllb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The sea. At sea."
    with edgeformer.load(nllb, threads=1) as model:
        wanted = [model.translate(text, **LANGUAGES), model.translate(text, **LANGUAGES, split=False)]
        ids = {"source_language": "deu_Latn", "target_language": "fra_Latn", "pivot_language": "eng_Latn"}
        through = model.translate(text, through=model, **ids)
        prefixed = model.translate(text, prefix="then ", **LANGUAGES)
    assert said(capsys, "translate", nllb, text, *FLAGS) == wanted[0] + "\n"
    assert said(capsys, "translate", nllb, text, *FLAGS, "--no-split") == wanted[1] + "\n"
    assert said(capsys, "translate", nllb, text, *FLAGS, "--prefix", "then ") == prefixed + "\n"
    pivot = ["-s", "deu_Latn", "-l", "fra_Latn", "--through", nllb, "--pivot-language", "eng_Latn"]
    assert said(capsys, "translate", nllb, text, *pivot) == through + "\n"
    assert len({*wanted, prefixed, through}) == 4


def test_summarize_takes_all_of_stdin_as_one_text(
    nllb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The sea.\n\nThese kings sang. At sea."
    with edgeformer.load(nllb, threads=1) as model:
        wanted = model.summarize(text, num_beams=2, prefix="then ", max_tokens=4)
    stdin = io.TextIOWrapper(io.BytesIO(text.encode() + b"\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    options = ["--num-beams", "2", "--prefix", "then ", "--max-tokens", "4"]
    assert said(capsys, "summarize", nllb, *options) == wanted + "\n"
    documents = json.loads(said(capsys, "summarize", nllb, text, *options, "--json"))
    assert documents == [{"source": text, "text": wanted}]


def test_nothing_to_summarize_is_an_error(nllb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summarize", nllb, "  "]) == 1
    assert "no text" in capsys.readouterr().err


def test_a_wrong_language_is_one_line(nllb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", nllb, "the sea", "--target-language", "xx"]) == 1
    assert "target_language: the model has no language 'xx'" in capsys.readouterr().err
