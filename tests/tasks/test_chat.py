"""`chat` and `apply_chat_template` over a session whose answers are known, and control tokens in prompts."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from edgeformer.errors import ChatTemplateError, InvalidInputError, InvalidOptionError, UnsupportedModelError
from support.bigram import BOS, EOS, VOCABULARY, FakeSession, byte_metadata, byte_pieces, model_of

pytest.importorskip("jinja2")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<e>' + m.role[0] + m.content + '<e>' }}{% endfor %}"
    "{% if tools %}{{ tools | length }}{% endif %}{% if add_generation_prompt %}<e>a{% endif %}"
)
HI = [{"role": "user", "content": "Hi"}]
PROMPT = [BOS, EOS, *b"uHi", EOS, EOS, *b"a"]


def session_of(**metadata: object) -> FakeSession:
    """It answers "bcd" and the end token, whatever comes before an "a"."""
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    for token, following in zip(b"abcd", [*b"bcd", EOS], strict=True):
        table[token, following] = 10.0
    return FakeSession(table, metadata=byte_metadata(**{"tokenizer.chat_template": TEMPLATE, **metadata}))


def test_an_answer_to_a_conversation():
    model = model_of(session_of())
    result = model.chat(HI)
    assert result.text == "bcd" and result.finish_reason == "stop"
    assert result.usage.prompt_tokens == len(PROMPT)
    assert model.chat("Hi").token_ids == result.token_ids == list(b"bcd")
    assert model.chat(HI, max_tokens=2).text == "bc"
    assert "chat" in model.verbs and "achat" in model.verbs


def test_a_stream_several_texts_and_a_coroutine():
    model = model_of(session_of())
    with model.chat(HI, stream=True) as stream:
        assert "".join(chunk.text for chunk in stream) == "bcd" == stream.result.text
    assert [result.text for result in model.chat(HI, n=2, temperature=0.1, seed=1)] == ["bcd", "bcd"]

    async def ask() -> list[str]:
        texts = [(await model.achat(HI)).text]
        async with await model.achat(HI, stream=True) as stream:
            texts.append("".join([chunk.text async for chunk in stream]))
        return texts

    assert asyncio.run(ask()) == ["bcd", "bcd"]


def test_the_prompt_is_the_templates_text_with_its_control_tokens():
    model = model_of(session_of())
    assert model.apply_chat_template(HI, add_generation_prompt=True) == PROMPT
    assert model.apply_chat_template(HI, add_generation_prompt=True, tokenize=False) == "<s><e>uHi<e><e>a"
    assert type(model.apply_chat_template(HI, tokenize=False)) is str
    spelled = [{"role": "user", "content": "<e>"}]
    assert model.apply_chat_template(spelled) == [BOS, EOS, *b"u<e>", EOS]


def test_the_last_message_goes_on():
    model = model_of(session_of())
    begun = [*HI, {"role": "assistant", "content": "ab"}]
    assert model.chat(begun, continue_final_message=True).text == "cd"
    ids = model.apply_chat_template(begun, continue_final_message=True)
    assert ids == [BOS, EOS, *b"uHi", EOS, EOS, *b"aab"]


def test_templates_by_name_by_text_and_of_the_file():
    names = {"tokenizer.chat_templates": ["tool_use", "short"], "tokenizer.chat_template.short": "a"}
    model = model_of(session_of(**names, **{"tokenizer.chat_template.tool_use": "T{{ tools[0].name }}"}))
    assert list(model.chat_templates) == ["default", "tool_use", "short"]
    assert model.apply_chat_template(HI, template="short", tokenize=False) == "a"
    assert model.apply_chat_template(HI, tools=[{"name": "f"}], tokenize=False) == "Tf"
    assert model.apply_chat_template(HI, template="{{ x }}", variables={"x": 5}, tokenize=False) == "5"
    with pytest.raises(InvalidOptionError, match="names the file has 'default', 'tool_use', 'short'"):
        model.chat(HI, template="long")


def test_a_file_without_a_template_says_how_to_give_one():
    model = model_of(FakeSession(session_of().table))
    assert "chat" not in model.verbs and model.chat_templates == {}
    with pytest.raises(InvalidOptionError, match="the file has no chat template; give one as template="):
        model.chat(HI)
    assert model.chat(HI, template=TEMPLATE).text == "bcd"


def test_what_cannot_be_done_is_named():
    model = model_of(session_of())
    with pytest.raises(InvalidInputError, match="messages"):
        model.chat({"role": "user"})
    with pytest.raises(InvalidOptionError, match="did you mean 'temperature'"):
        model.chat(HI, temprature=1)
    with pytest.raises(ChatTemplateError, match="says: no"):
        model.chat(HI, template="{{ raise_exception('no') }}")
    encoder = FakeSession(session_of().table, family="encoder", metadata=session_of().metadata)
    with pytest.raises(UnsupportedModelError, match="generate"):
        model_of(encoder).chat(HI)
    without = FakeSession(session_of().table, metadata={"general.architecture": "bigram"})
    with pytest.raises(InvalidInputError, match="carries no tokenizer"):
        model_of(without).chat(HI, template=TEMPLATE)
    model.close()
    with pytest.raises(InvalidInputError, match="closed"):
        model.chat(HI)


def test_control_tokens_in_a_prompt_are_text_and_warned_of():
    model = model_of(session_of())
    with pytest.warns(
        UserWarning, match=r"prompt: <e> is a token of .* special_tokens=True \(--special-tokens\)"
    ) as told:
        plain = model.generate("<e>a", max_tokens=1)
    assert told[0].filename == __file__
    assert plain.usage.prompt_tokens == len(b"<s><e>a") - 2
    with pytest.warns(UserWarning, match=r"prompt\[1\]: <s>"):
        model.generate(["a", "b<s>"], max_tokens=1)
    with pytest.warns(UserWarning, match="prompt: <e>"):
        model.logits("<e>")


def test_who_asks_for_control_tokens_gets_them_unwarned():
    model = model_of(session_of())
    assert model.generate("<e>a", max_tokens=1, special_tokens=True).usage.prompt_tokens == 3
    assert model.generate(["a", "<f>"], max_tokens=1)[0].text == "b"
    assert model.logits("<e>a", special_tokens=True).shape[0] == 3


def test_pieces_of_other_kinds_are_not_warned_of():
    pieces = [*byte_pieces(), "<think>"]
    metadata = byte_metadata(**{"tokenizer.ggml.tokens": pieces, "tokenizer.ggml.token_type": [1] * 256 + [3, 3, 4]})
    session = FakeSession(np.zeros((259, 259), np.float32), metadata=metadata)
    assert model_of(session).generate("<think>", max_tokens=1).text == "\0"
