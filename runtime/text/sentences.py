"""Texts of any length as sentences and back: lines stay lines, and what stands around them is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..host.packages import required

__all__ = ["Passage", "cut_to_fit", "split_sentences"]

_LINE_END = re.compile(r"(\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")
# After these the next sentence follows without a space: full stops of Chinese and Japanese, and what closes there.
_CLOSED_UP = "\u3002\uff01\uff1f\uff61\u300d\u300f\uff09\u3011"
# Two letters for three, of languages whose abbreviations the splitter knows; others begin alike or go by its rules.
_SHORT = dict(
    re.findall(
        r"(\w+):(\w+)",
        """
    ben:bn bul:bg ces:cs dan:da deu:de ell:el eng:en est:et eus:eu fas:fa fin:fi fra:fr gle:ga heb:he hin:hi hrv:hr
    hun:hu hye:hy ind:id isl:is ita:it jpn:ja kan:kn kat:ka kaz:kk kor:ko lav:lv lit:lt mal:ml mar:mr mya:my nld:nl
    nob:no pol:pl por:pt ron:ro rus:ru slk:sk slv:sl spa:es srp:sr swe:sv tam:ta tel:te tur:tr ukr:uk urd:ur vie:vi
    zho:zh
        """,
    )
)


@dataclass
class Passage:
    """A text taken apart.

    Attributes
    ----------
    sentences : list of str
        Without white space around them.
    gaps : list of str or None
        What stands before each sentence, and after the last; None between two of a line, where the joined text has a
        space unless it is of a script that has none.
    """

    sentences: list[str] = field(default_factory=list)
    gaps: list[str | None] = field(default_factory=lambda: [""])

    @classmethod
    def of(cls, text: str, language: str = "") -> Passage:
        """The sentences of `text`, line by line.

        Raises
        ------
        MissingDependencyError
            The splitter is not installed.
        """
        passage = cls()
        for index, part in enumerate(_LINE_END.split(text)):
            if index % 2 or not part.strip():
                passage._put(part)
                continue
            core = part.strip()
            begin = part.index(core)
            passage._put(part[:begin])
            for number, sentence in enumerate(split_sentences(core, language)):
                if number:
                    passage.gaps[-1] = None
                passage._add(sentence)
            passage._put(part[begin + len(core) :])
        return passage

    def _put(self, text: str) -> None:
        self.gaps[-1] = (self.gaps[-1] or "") + text

    def _add(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self.gaps.append("")

    def cut(self, fits: Callable[[str], bool]) -> Passage:
        """The same passage with no sentence that does not fit."""
        result = Passage(gaps=self.gaps[:1])
        for sentence, gap in zip(self.sentences, self.gaps[1:], strict=True):
            for number, piece in enumerate(cut_to_fit(sentence, fits)):
                if number:
                    result.gaps[-1] = None
                result._add(piece)
            result.gaps[-1] = gap
        return result

    def packed(self, fits: Callable[[str], bool]) -> list[str]:
        """As few texts as hold the sentences in their order, each of which fits; line ends within are kept."""
        packs: list[str] = []
        for sentence, gap in zip(self.sentences, self.gaps, strict=False):
            joined = f"{packs[-1]}{' ' if gap is None else gap}{sentence}" if packs else sentence
            if packs and fits(joined):
                packs[-1] = joined
            else:
                packs.append(sentence)
        return packs

    def joined(self, sentences: Sequence[str]) -> str:
        """`sentences` in the places of this passage's own."""
        text = self.gaps[0] or ""
        for sentence, gap in zip(sentences, self.gaps[1:], strict=True):
            text += sentence
            closed_up = not text or text[-1].isspace() or text[-1] in _CLOSED_UP
            text += ("" if closed_up else " ") if gap is None else gap
        return text


def split_sentences(line: str, language: str = "") -> list[str]:
    """The sentences of a line, by the rules of `language` (``"en"``, ``"eng_Latn"``, ``"en_XX"``), English ones where
    that is unknown.

    Raises
    ------
    MissingDependencyError
        The splitter is not installed.
    """
    with required("sentencex", "text"):
        import sentencex

    code = re.split("[_-]", language)[0]
    found = [sentence.strip() for sentence in sentencex.segment(_SHORT.get(code, code) or "en", line)]
    return [sentence for sentence in found if sentence]


def cut_to_fit(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """`sentence` in pieces that fit: halved between words, and where there are none, between characters."""
    if len(sentence) < 2 or fits(sentence):
        return [sentence]
    middle = len(sentence) // 2
    spaces = [match.start() for match in re.finditer(r"\s+", sentence)]
    at = min(spaces, key=lambda place: abs(place - middle), default=middle)
    halves = (sentence[:at].rstrip(), sentence[at:].lstrip())
    return [piece for half in halves if half for piece in cut_to_fit(half, fits)]
