"""Stop strings: what is shown, what is held back, what is cut."""

from __future__ import annotations

from edgeformer.text.stop_strings import StopStrings
from hypothesis import given
from hypothesis import strategies as st


def run_stop(pieces: list[str], strings: list[str]) -> tuple[str, str | None, list[str]]:
    stop, shown = StopStrings(strings), []
    for piece in pieces:
        shown.append(stop.push(piece))
        if stop.found is not None:
            return "".join(shown), stop.found, shown
    shown.append(stop.finish())
    return "".join(shown), stop.found, shown


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_cut_where_the_first_one_starts(pieces, strings):
    text, found, shown = run_stop(pieces, strings)
    # The text as far as it was read when some stop string was first complete.
    read = ""
    for piece in pieces:
        read += piece
        if any(string in read for string in strings):
            break
    starts = [read.find(string) for string in strings if string in read]
    if starts:
        assert text == read[: min(starts)]
        assert read.startswith(found, min(starts))
    else:
        assert found is None
        assert text == read
    # What was shown at any time never has to be taken back.
    assert all(text.startswith("".join(shown[:count])) for count in range(len(shown)))


def test_stop_strings_hold_back_no_more_than_they_must():
    stop = StopStrings(["END"])
    assert [stop.push(piece) for piece in ["abE", "N", "xE", "END"]] == ["ab", "", "ENx", "E"]
    assert stop.found == "END"
