"""Recall and false positives by kind of message, with their intervals: a table and a plot.

Knows nothing about where the rows come from: `__main__` reads them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support.screening import LEARNED, rules_version
from support.screening.state import AT_RISK

ALL = "~ all"  # sorts behind the kinds
Z_95 = 1.959964


@dataclass(frozen=True)
class Kind:
    """Rows of one kind: how many, of how many a level of 2 or more was found; `risk` says whether that is right."""

    name: str
    rows: int
    found: int
    risk: bool | None

    @property
    def measure(self) -> str:
        return {True: "recall", False: "false positives", None: "not labelled"}[self.risk]


def by_kind(rows: Iterable[dict[str, Any]], of: str = "kind") -> list[Kind]:
    """Rows of kind, language, risk (None: not labelled) and level found, counted by kind or by language (`of`): those with and
    without risk apart, and all of each."""
    counts: dict[tuple[str, bool | None], list[int]] = defaultdict(list)
    for row in rows:
        for name in (row[of], ALL):
            counts[name, row["risk"]].append(row["found"] >= AT_RISK)
    order = {True: 0, False: 1, None: 2}
    return [
        Kind(name, len(found), sum(found), risk)
        for (name, risk), found in sorted(counts.items(), key=lambda item: (order[item[0][1]], item[0][0]))
    ]


def table(kinds: Sequence[Kind]) -> str:
    """By kind, the share found at risk with its Wilson 95 % interval."""
    lines = [f"rules {rules_version()}, classifier {LEARNED['classifier'].state()['status']}"]
    lines.append(f"{'kind':<34}{'rows':>6}  {'measure':<15}{'level >= 2':>11}  95 % interval")
    for kind in kinds:
        low, high = wilson(kind.found, kind.rows)
        share = kind.found / kind.rows
        lines.append(f"{kind.name:<34}{kind.rows:>6}  {kind.measure:<15}{share:>11.3f}  {low:.3f} to {high:.3f}")
    return "\n".join(lines)


def as_json(kinds: Sequence[Kind], languages: Sequence[Kind]) -> dict[str, Any]:
    """The counts, and what was counted with."""
    return {
        "rules": rules_version(),
        "classifier": LEARNED["classifier"].state()["status"],
        "kinds": [asdict(kind) for kind in kinds],
        "languages": [asdict(language) for language in languages],
    }


def plotted(kinds: Sequence[Kind], path: Path) -> str:
    """Saves the table as bars with their intervals. Returns a sentence that says where, or what is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "No plot: pip install matplotlib"
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    colours = {True: "tab:green", False: "tab:red", None: "tab:gray"}
    for place, kind in enumerate(reversed(kinds)):
        share, (low, high) = kind.found / kind.rows, wilson(kind.found, kind.rows)
        axes.barh(place, share, color=colours[kind.risk], alpha=0.6)
        axes.plot([low, high], [place, place], color="black", linewidth=1.2)
    axes.set_yticks(range(len(kinds)), [f"{kind.name} ({kind.measure}, n={kind.rows})" for kind in reversed(kinds)])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share with a crisis level (2 or 3), Wilson 95 % interval")
    axes.set_title(f"Screening, rules {rules_version()}", fontsize=9)
    figure.savefig(path, dpi=120)
    return f"Plot: {path}"


def wilson(hits: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953); (0, 1) for no rows."""
    if total == 0:
        return 0.0, 1.0
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
