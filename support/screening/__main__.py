"""Screen many messages or replies at once, and tell how well the rules do. JSON lines in, JSON lines out.

    python -m support.screening messages < in.jsonl > out.jsonl    {"id", "messages": [{"role", "content"}, ...]}
    python -m support.screening replies  < in.jsonl > out.jsonl    {"id", "user", "reply"}
    python -m support.screening report dev.jsonl                   rows with "messages", and "level" or "at_risk";
                                                                   a table, and a plot beside it (--plot FILE)

A line that cannot be read is named by its number on stderr and skipped. No message text is ever printed. As in the app,
a reply may name the phone numbers of the crisis lines and no others.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from support.crisis_lines import known_numbers
from support.prompt import Message
from support.screening import LEARNED, assess, check_reply, rules_version
from support.screening.state import AT_RISK

MOST_LINES = 10_000  # of one run; more are refused, so that a wrong file shows at once
ALL = "~ all"  # sorts behind the kinds
Z_95 = 1.959964


class LineError(ValueError):
    """A line cannot be used. The message says why, and holds nothing of the line."""


def main(arguments: list[str] | None = None, source: Iterable[str] | None = None, sink: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0, also where lines were skipped."""
    options = _parser().parse_args(arguments)
    sink = sink or sys.stdout
    if options.command == "report":
        with Path(options.file).open(encoding="utf-8") as file:
            kinds = by_kind(_rows(file, _labelled))
        print(table(kinds), file=sink)
        print(_plotted(kinds, options.plot), file=sys.stderr)
        return 0
    screen = _message_row if options.command == "messages" else _reply_row
    for row in _rows(sys.stdin if source is None else source, screen):
        print(json.dumps(row, ensure_ascii=False), file=sink)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m support.screening", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("messages", help="assess conversations from stdin")
    commands.add_parser("replies", help="check replies from stdin")
    report = commands.add_parser("report", help="recall and false positives by kind, with a plot")
    report.add_argument("file")
    report.add_argument("--plot", type=Path, default=Path("screening-report.png"), help="where the plot is saved")
    return parser


def _rows(lines: Iterable[str], screen: Callable[[Any], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What `screen` makes of each line that can be used."""
    for number, line in enumerate(lines, start=1):
        if number > MOST_LINES:
            print(f"line {number}: more than {MOST_LINES} lines in one run; the rest is left out", file=sys.stderr)
            return
        if not line.strip():
            continue
        try:
            yield screen(json.loads(line))
        except LineError as error:
            print(f"line {number}: {error}", file=sys.stderr)
        except (json.JSONDecodeError, RecursionError):  # their own words may quote the line
            print(f"line {number}: not JSON", file=sys.stderr)


def _message_row(row: Any) -> dict[str, Any]:
    assessment = assess(_messages(row))
    return {
        "id": row.get("id"),
        "level": assessment.level,
        "category": assessment.category,
        "evidence": list(assessment.evidence),
        "carried": assessment.carried,
        "crisis_reply": assessment.level >= AT_RISK and not assessment.carried,
        "rules_version": rules_version(),
    }


def _reply_row(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("reply"), str):
        raise LineError("`reply` is missing or not text")
    problems = check_reply(row["reply"], known_numbers())
    return {"id": row.get("id"), "ok": not problems, "problems": problems}


def _messages(row: Any) -> list[Message]:
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise LineError("`messages` is missing or not a list")
    turns = row["messages"]
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise LineError("a message needs `role`: system, user or assistant")
        if not isinstance(turn.get("content"), str):
            raise LineError("a message needs `content`, text")
    return turns


# report


def _labelled(row: Any) -> dict[str, Any]:
    """kind, whether risk is there (None: not labelled), and the level found at any user turn.

    A row's kind is its own where it names one, as the frozen set does, else its source and level.
    """
    turns = _messages(row)
    level, at_risk = row.get("level"), row.get("at_risk")
    risk = level >= AT_RISK if isinstance(level, int) else bool(at_risk) if isinstance(at_risk, int) else None
    source = str(row.get("source", "all")) + ("" if level is None else f" level {level}")
    kind = str(row.get("kind", source))
    ends = [i + 1 for i, turn in enumerate(turns) if turn["role"] == "user"]
    return {"kind": kind, "risk": risk, "found": max((assess(turns[:end]).level for end in ends), default=0)}


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


def by_kind(rows: Iterable[dict[str, Any]]) -> list[Kind]:
    """Rows as `_labelled` makes them, counted: those with and without risk apart, and all of each."""
    counts: dict[tuple[str, bool | None], list[int]] = defaultdict(list)
    for row in rows:
        for name in (row["kind"], ALL):
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


def _plotted(kinds: Sequence[Kind], path: Path) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
