"""What changed between two reports beyond the noise.

Ratios are compared, not times: both sides of a ratio saw the same machine. A change counts where the rounds of the two
runs do not overlap and the values differ by more than a smallest change; what is missing on one side is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from .report import Check, Report

SMALLEST_CHANGE = 0.03  # relative; below it nobody would act


@dataclass(frozen=True)
class Comparison:
    """One check in two reports; `verdict`: "same", "better", "worse", "gone" or "new"."""

    row: str
    check: str
    old: float | None
    new: float | None
    verdict: str

    @property
    def change(self) -> float | None:
        """The new value over the old."""
        return self.new / self.old if self.old and self.new is not None else None


def verdict(old: Check, new: Check) -> str:
    """How `new` stands to `old`."""
    if old.value is None or new.value is None:
        return "same" if old.value is new.value else "gone" if new.value is None else "new"
    below, above = max(new.rounds) < min(old.rounds), min(new.rounds) > max(old.rounds)
    if not (below or above) or abs(new.value - old.value) <= SMALLEST_CHANGE * abs(old.value):
        return "same"
    return "better" if below == old.at_most else "worse"


def checks_by_name(report: Report) -> dict[tuple[str, str], Check]:
    """Every check by its row and name."""
    return {(result.row, check.name): check for result in report.results for check in result.checks}


def comparisons(old: Report, new: Report) -> list[Comparison]:
    """Every check of either report, in the order of the old one and then the new."""
    before, after = checks_by_name(old), checks_by_name(new)
    found = []
    for key in dict.fromkeys((*before, *after)):
        a, b = before.get(key), after.get(key)
        how = "new" if a is None else "gone" if b is None else verdict(a, b)
        found.append(Comparison(*key, a.value if a else None, b.value if b else None, how))
    return found


def table(found: list[Comparison]) -> str:
    """For people: all that both have, then a count."""
    lines = [f"{'row':26} {'check':28} {'old':>9} {'new':>9} {'new/old':>8}"]
    for one in found:
        old, new = ("-" if value is None else f"{value:.4g}" for value in (one.old, one.new))
        change = "-" if one.change is None else f"{one.change:.3f}"
        lines.append(
            f"{one.row:26} {one.check:28} {old:>9} {new:>9} {change:>8} "
            f"{'' if one.verdict == 'same' else one.verdict}".rstrip()
        )
    counts = {how: sum(one.verdict == how for one in found) for how in ("better", "worse", "gone", "new")}
    lines.append(", ".join(f"{count} {how}" for how, count in counts.items()) + f", of {len(found)}")
    return "\n".join(lines)
