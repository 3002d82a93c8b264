"""Templates that would leave the sandbox, hold a thread or take memory are refused by name."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2")
from edgeformer.errors import ChatTemplateError
from edgeformer.generation.results import peak_memory_bytes
from edgeformer.text.chat.template import ChatTemplate
from golden.chats import ASKED

LAUGHS = "{% set a = ['ha' * 1000] %}" + "{% set a = [a, a] %}" * 40
RAISED = "{% set s = 'ab' * 1000 %}" + "{% set s = s + s %}" * 40


def refused(source: str) -> str:
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate(source, {}).render(ASKED)
    return str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ ('' | attr('__class__')).mro() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ namespace(_x=1) }}",
        "{{ dict.__class__ }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ '{0.__class__}'.format_map({'0': ''}) }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ 'x'.encode() }}",
        "{{ (5).to_bytes(10, 'big') }}",
        "{{ 'x'.translate({}) }}",
        "{{ raise_exception }}",
        "{{ [namespace()] }}",
    ],
)
def test_what_is_not_for_templates_is_refused(source: str) -> None:
    assert "the chat template" in refused(source)
    assert "is refused" in refused(source) or "fails" in refused(source)


ENDLESS = [
    "{% for i in range(10**6) %}{% for j in range(10**6) %}{% endfor %}{% endfor %}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for i in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ '%1000000000d' % 5 }}",
    "{{ '%*d' % (1000000000, 5) }}",
    "{{ '{:>1000000000}'.format(5) }}",
    "{{ '{:{}}'.format(5, 1000000000) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a\n' * 1000 | indent(10**9) }}",
    "{{ [1] | batch(10**9, 0) | list }}",
    "{{ 5 | round(10**9, 'ceil') }}",
    "{{ ('a' * 100000) | replace('', 'a' * 100000) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('x' * 100000).join(['a'] * 100000) }}",
    "{{ (['a'] * 100000) | join('x' * 100000) }}",
    "{{ ('{0}' * 100000).format('x' * 100000) }}",
    "{{ ('%(a)s' * 100000) % {'a': 'x' * 100000} }}",
    "{{ ('%s' * 100000) | format('x' * 100000) }}",
    LAUGHS,
    LAUGHS + "{{ a | tojson }}",
    "{% set a = 'ha' * 1000 %}{% set b = [a] * 1000 %}{% set c = b * 1000 %}{{ c }}",
    "{% set b = ['a' * 1000] * 1000 %}{% set c = [b] * 1000 %}{{ c | string }}",
    "{% set t = (1,) * 1000 %}{% set u = (t,) * 1000 %}{% set v = (u,) * 1000 %}{{ {v: 1} }}",
    "{% set t = (1,) * 1000 %}{% set u = (t,) * 1000 %}{% set v = (u,) * 1000 %}{{ [v, v] | unique | list }}",
    RAISED,
    RAISED.replace("+", "~"),
    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set l = range(100000) | list %}{% for i in l %}{% if i in l %}{% endif %}{% endfor %}",
    "{% set l = range(100000) | list %}{{ l | select('in', l) | list | length }}",
    "{% set l = [0] * 100000 %}{% for i in l %}{% for j in l if false %}{% endfor %}{% endfor %}",
    "{{ range(100000) | map('string') | map('center', 100000) | join }}",
    "{{ ([[1] * 10000] * 10000) | sum(start=[]) }}",
    "{% set x %}{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}{% endset %}",
    "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ {'a': 1} | tojson(indent=10**9) }}",
]


@pytest.mark.parametrize("source", ENDLESS, ids=range(len(ENDLESS)))
def test_what_would_not_end_or_fit_is_refused_soon(source: str) -> None:
    before = peak_memory_bytes()
    refused(source)
    after = peak_memory_bytes()
    assert before is None or after is None or after - before < 300 << 20


def test_fuel_suffices_for_long_conversations() -> None:
    messages = [{"role": "user", "content": "word " * 2000}, {"role": "assistant", "content": "more " * 2000}] * 100
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim }}{% endfor %}"
    assert len(ChatTemplate(source, {}).render(messages)) > 1_900_000
