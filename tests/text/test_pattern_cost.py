"""How long a pattern may take: published ones in proportion to the text, all others within what is foretold."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from edgeformer.errors import InvalidInputError
from edgeformer.text.pattern import check_pattern
from edgeformer.text.pattern_cost import choices_of, steps_over, steps_over_any, uneven_parts
from edgeformer.text.pre_tokenizers import PRE_TOKENIZERS
from support.descriptions import changed, made

PUBLISHED = {pattern for patterns in PRE_TOKENIZERS.values() for pattern in patterns} | {
    # As tokenizer.json files spell them: GPT-4o, Bloom, CLIP, Llama 3, DeepSeek, and normalizers of SentencePiece.
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+", r"[一-龥ࠀ-一가-퟿]+", " {2,}", r"\A | \z", r"(?:ab)+", r"\p{N}", r"[\r\n]",
}  # fmt: skip
WEIGHED = {r"\s+$", *PRE_TOKENIZERS["jais-2"]}  # published, and weighed all the same
SLOW = [*WEIGHED, r"(?=a*a*b)a", "a*b", r"\p{N}{1,3}(?=(?:\p{N}{3})*\b)", "a*a*b|a+", r"\s*[\r\n]+|\s|\s+", "(?:a+|b)c",
        "a+b|c?a+", "[ab]*c|a+"]  # fmt: skip


@pytest.mark.parametrize("pattern", sorted(PUBLISHED - WEIGHED))
def test_published_patterns_take_time_in_proportion(pattern: str) -> None:
    assert check_pattern(pattern) is None
    assert uneven_parts(pattern) == []
    assert choices_of(pattern) < 100


@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_scan_far_and_fail_are_weighed(pattern: str) -> None:
    assert check_pattern(pattern) is None
    assert uneven_parts(pattern) != []


def test_the_weight_is_that_of_the_longest_run() -> None:
    [part] = uneven_parts(r"\p{N}{1,3}(?=(?:\p{N}{3})*\b)")
    assert steps_over(part, "abc 123456 \u0664\u0665 x") == 15 * 3 * (1 + 6)
    assert steps_over_any(part, 15) == 3 * 16**2
    [part] = uneven_parts(r"[\p{Han}]+b")  # a script is not known here: the run may be the text
    assert steps_over(part, "x" * 50) == 50 * 51


@pytest.mark.parametrize(("pattern", "length"), [("(?=a*a*b)a", 2_000), ("a*b", 100_000)])
def test_a_text_that_may_take_too_long_is_refused(pattern: str, length: int) -> None:
    tokenizer = made(changed("pre_tokenizer", "pattern", value={"Regex": pattern}))
    with pytest.raises(InvalidInputError, match="may take"):
        tokenizer.encode("a" * length)
    assert tokenizer.encode("ab" * 100)[-1] == 5
    assert tokenizer.encode("ab" * length)[-1] == 5  # as long, and without a long run


def test_what_a_normalizer_makes_of_a_text_is_weighed() -> None:
    description = changed("pre_tokenizer", "pattern", value={"Regex": "(?=a*a*b)a"})
    with pytest.raises(InvalidInputError, match="may take"):
        made(description).encode("x" * 2_000)  # each becomes an a
    description = changed("normalizer", "pattern", value={"Regex": "(?=a*a*b)a"})
    with pytest.raises(InvalidInputError, match="may take"):
        made(description).encode("a" * 2_000)


class Matcher:
    """A backtracking matcher of the plainest kind, which counts the characters that it looks at."""

    def __init__(self, alternatives: list[list[tuple[str, str]]]) -> None:
        self.alternatives = alternatives
        self.steps = 0

    def ends(self, items: list[tuple[str, str]], text: str, at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        (atom, sign), rest = items[0], items[1:]
        if atom.startswith("("):
            inside = atom[3:-1]
            found = at < len(text) and text[at] in inside
            self.steps += 1
            if found == atom.startswith("(?="):
                yield from self.ends(rest, text, at)
            return
        least, most = {"": (1, 1), "?": (0, 1), "*": (0, 10**6), "+": (1, 10**6), "{1,3}": (1, 3)}[sign]
        end = at
        while end < len(text) and end - at < most and text[end] in atom.strip("[]"):
            self.steps += 1
            end += 1
        self.steps += 1
        for stop in range(end, at + least - 1, -1):
            yield from self.ends(rest, text, stop)

    def split(self, text: str) -> int:
        """Steps of finding every match, one after the other."""
        at = 0
        while at < len(text):
            ends = (end for items in self.alternatives for end in self.ends(items, text, at))
            at = max(next(ends, at), at + 1)
        return self.steps


def test_no_match_takes_longer_than_foretold() -> None:
    """Random patterns over random texts with long runs, against a matcher that counts."""
    generator = random.Random(0)
    atoms, signs = ["a", "b", "[ab]", "[bc]", "(?=a)", "(?!b)"], ["", "?", "*", "+", "{1,3}"]
    even = 0
    for _ in range(3_000):
        alternatives = []
        for _ in range(generator.randint(1, 3)):
            chosen = generator.choices(atoms, k=generator.randint(1, 4))
            alternatives.append([(atom, "" if atom[0] == "(" else generator.choice(signs)) for atom in chosen])
        pattern = "|".join("".join(atom + sign for atom, sign in items) for items in alternatives)
        if check_pattern(pattern) is not None:
            continue
        parts = uneven_parts(pattern)
        even += not parts
        runs = (generator.choice("abc") * generator.choice([1, 2, 60]) for _ in range(6))
        text = "".join(runs)
        allowed = len(text) * choices_of(pattern) * 16 + sum(steps_over(part, text) * 16 for part in parts)
        assert Matcher(alternatives).split(text) <= allowed, (pattern, text)
    assert even > 500
