"""Heads of tasks: classes, tokens, spans, words, and what a folder of a cross-encoder says of its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError, ModelFormatError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from edgeformer.files.gguf.writer import GGUFWriter
from support.checkpoints import BERT, LLAMA, bert_tensors, llama_tensors, random_tensors, write_folder

LABELS = {"0": "no", "1": "yes", "2": "perhaps"}


def classifier(tmp_path: Path, count: int = 3, **changes: Any) -> Path:
    """A folder of a BERT that tells so many classes of sequences apart."""
    tensors = bert_tensors("bert.") | random_tensors({"classifier.weight": (count, 32), "classifier.bias": (count,)})
    config = {**BERT, "architectures": ["BertForSequenceClassification"], **changes}
    return write_folder(tmp_path / "tiny", config, tensors)


def keys_of(folder: Path, out: Path) -> dict[str, Any]:
    with GGUFFile(convert(folder, out).path) as file:
        return {key: value for key, value in file.metadata.items() if key.startswith("bert.")}


def test_a_classifier_has_llama_cpps_keys_and_names(tmp_path: Path) -> None:
    keys = keys_of(classifier(tmp_path, id2label=LABELS), tmp_path / "out.gguf")
    assert keys["bert.pooling_type"] == 4
    assert keys["bert.classifier.pooling_type"] == 2
    assert keys["bert.classifier.output_labels"] == ["no", "yes", "perhaps"]
    assert keys["bert.classifier.scores"] == "softmax"
    with GGUFFile(tmp_path / "out.gguf") as file:
        names = [name for name in file.tensors if name.startswith("cls")]
    assert names == ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"]


def test_labels_without_names_are_numbered(tmp_path: Path) -> None:
    keys = keys_of(classifier(tmp_path, 2), tmp_path / "out.gguf")
    assert keys["bert.classifier.output_labels"] == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(
    ("count", "changes", "expected"),
    [
        (1, {}, "sigmoid"),
        (2, {}, "softmax"),
        (2, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (1, {"problem_type": "regression"}, "none"),
        (1, {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0"}}, "none"),
        (1, {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_how_numbers_become_scores(tmp_path: Path, count: int, changes: dict[str, Any], expected: str) -> None:
    assert keys_of(classifier(tmp_path, count, **changes), tmp_path / "out.gguf")["bert.classifier.scores"] == expected


def test_a_cross_encoder_says_it_in_a_file_of_its_own(tmp_path: Path) -> None:
    folder = classifier(tmp_path, 1)
    path = folder / "config_sentence_transformers.json"
    path.write_text('{"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}')
    assert keys_of(folder, tmp_path / "out.gguf")["bert.classifier.scores"] == "none"
    path.write_text('{"model_type": "CrossEncoder", "prompts": {"a": "b"}, "default_prompt_name": "a"}')
    with pytest.raises(ConversionError, match="default_prompt_name = 'a'"):
        convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "classifier.weight"),
        ({"id2label": {"0": "no", "2": "yes", "3": "x"}}, "1 is missing"),
        ({"problem_type": "guess"}, "problem_type = 'guess'"),
        ({"sentence_transformers": {"activation_fn": "my.Swish"}}, "Swish"),
        ({"sentence_transformers": {"trick": 1}}, "trick"),
        ({"architectures": ["BertForNextSentencePrediction"]}, "BertForNextSentencePrediction"),
    ],
)
def test_a_classifier_that_is_not_done_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(classifier(tmp_path, **changes), tmp_path / "out.gguf")


def test_a_missing_matrix_is_named(tmp_path: Path) -> None:
    config = {**BERT, "architectures": ["BertForQuestionAnswering"]}
    with pytest.raises(ConversionError, match=r"no tensor 'qa_outputs.weight'"):
        convert(write_folder(tmp_path / "tiny", config, bert_tensors("bert.")), tmp_path / "out.gguf")


def test_a_head_of_another_class_is_left_out_with_a_note(tmp_path: Path) -> None:
    tensors = bert_tensors("bert.") | random_tensors({"classifier.weight": (2, 32), "classifier.bias": (2,)})
    tensors |= random_tensors({"qa_outputs.weight": (2, 32), "cls.predictions.bias": (30,)})
    config = {**BERT, "architectures": ["BertForTokenClassification"]}
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf")
    (note,) = [note for note in report.notes if note.startswith("left out")]
    assert "qa_outputs.weight" in note and "cls.predictions.bias" in note and "classifier" not in note


def test_words_are_read_from_the_embeddings_unless_they_have_a_matrix_of_their_own(tmp_path: Path) -> None:
    names = {"transform.dense.weight": (32, 32), "transform.dense.bias": (32,), "bias": (30,)}
    names |= {"transform.LayerNorm.weight": (32,), "transform.LayerNorm.bias": (32,), "decoder.bias": (30,)}
    tensors = bert_tensors("bert.") | random_tensors({f"cls.predictions.{name}": s for name, s in names.items()})
    tensors |= random_tensors({"cls.seq_relationship.weight": (2, 32), "cls.seq_relationship.bias": (2,)})
    config = {**BERT, "architectures": ["BertForPreTraining"]}
    report = convert(write_folder(tmp_path / "tied", config, tensors), tmp_path / "out.gguf", type="f32")
    assert any("cls.seq_relationship.weight" in note for note in report.notes)
    with GGUFFile(report.path) as file:
        assert "output.weight" not in file.tensors
        assert np.array_equal(file.dequantize("output.bias"), tensors["cls.predictions.bias"])
        assert file.metadata["bert.head"] == "words"
        assert file.metadata["bert.pooling_type"] == 1  # it makes vectors, too
    own = {"cls.predictions.decoder.weight": random_tensors({"x": (30, 32)}, 5)["x"]}
    folder = write_folder(tmp_path / "own", {**config, "tie_word_embeddings": False}, tensors | own)
    with GGUFFile(convert(folder, tmp_path / "out.gguf", type="f32").path) as file:
        assert np.array_equal(file.dequantize("output.weight"), own["cls.predictions.decoder.weight"])


def decoder_folder(tmp_path: Path, name: str, spelling: str, **more: tuple[int, ...]) -> Path:
    """A folder of a Llama of this class whose model's tensors begin so, with more tensors in place of `lm_head`."""
    model = {key: value for key, value in llama_tensors(LLAMA).items() if key != "lm_head.weight"}
    tensors = {spelling + key.removeprefix("model."): value for key, value in model.items()}
    return write_folder(tmp_path / name, {**LLAMA, "architectures": [name]}, tensors | random_tensors(more))


def test_heads_of_decoders_take_the_place_of_the_next_token(tmp_path: Path) -> None:
    score, spans = {"score.weight": (2, 64)}, {"qa_outputs.weight": (2, 64), "qa_outputs.bias": (2,)}
    for name, spelling, more, verb in (
        ("LlamaForSequenceClassification", "model.", score, "classes"),
        ("LlamaForTokenClassification", "model.", {**score, "score.bias": (2,)}, "token_classes"),
        ("LlamaForQuestionAnswering", "transformer.", spans, "spans"),
        ("LlamaModel", "", {}, "hidden"),
    ):
        path = convert(decoder_folder(tmp_path, name, spelling, **more), tmp_path / "out.gguf", type="f32").path
        with edgeformer.load(path, threads=1) as model:
            assert verb in model.session.step_outputs
            assert "generate" not in model.verbs
            with pytest.raises(UnsupportedModelError, match="generate"):
                model.generate([1, 2])


def test_vectors_of_decoders_are_those_of_the_last_row(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, "LlamaModel", "")
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text('[{"path": "1_Pooling", "type": "st.models.Pooling"}]')
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    with edgeformer.load(convert(folder, tmp_path / "out.gguf", type="f32").path, threads=1, kv_type="f32") as model:
        sentences = [[1, 5, 7], [3], list(range(3, 30))]
        vectors = model.encode(sentences)
        for ids, vector in zip(sentences, vectors, strict=True):
            assert np.array_equal(vector, model.hidden_states(ids)[-1])
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    with pytest.raises(ConversionError, match="a decoder's vectors are those of its last rows, not 'mean'"):
        convert(folder, tmp_path / "out.gguf")


def test_more_labels_than_classes_are_refused(tmp_path: Path) -> None:
    folder = classifier(tmp_path, id2label=LABELS)
    path = Path(convert(folder, tmp_path / "a.gguf", type="f32").path)
    with GGUFFile(path) as file, GGUFWriter(tmp_path / "b.gguf", "bert") as writer:
        for key in file.metadata:
            if key not in ("general.architecture", "bert.classifier.output_labels"):
                writer.add_encoded(key, file.encoded(key))
        writer.add("bert.classifier.output_labels", ["one", "two"])
        for name, info in file.tensors.items():
            writer.declare(name, info.shape, info.type)
        for name in file.tensors:
            writer.write(name, file.read_rows(name, 0, file.tensors[name].num_rows))
    with pytest.raises(ModelFormatError, match="2 labels for 3 classes"):
        edgeformer.load(tmp_path / "b.gguf")
