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
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from support import measured
from support.crisis_lines import known_numbers
from support.prompt import Message
from support.screening import assess, check_reply, rules_version
from support.screening.report import as_json, by_kind, plotted, table
from support.screening.state import AT_RISK

MOST_LINES = 10_000  # of one run; more are refused, so that a wrong file shows at once


class LineError(ValueError):
    """A line cannot be used. The message says why, and holds nothing of the line."""


def main(arguments: list[str] | None = None, source: Iterable[str] | None = None, sink: TextIO | None = None) -> int:
    """Run one command. Returns the exit status: 0, also where lines were skipped."""
    options = _parser().parse_args(arguments)
    sink = sink or sys.stdout
    if options.command == "report":
        with Path(options.file).open(encoding="utf-8") as file:
            rows = list(_rows(file, _labelled))
        kinds = by_kind(rows)
        print(table(kinds), file=sink)
        print(plotted(kinds, options.plot), file=sys.stderr)
        if options.json:
            measured.save(options.json, as_json(kinds, by_kind(rows, "language")), "python -m support.screening")
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
    report.add_argument("--json", type=Path, help="where the counts are saved, for the model card and README")
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
    """kind, language, whether risk is there (None: not labelled), and the level found at any user turn.

    A row's kind is its own where it names one, as the frozen set does, else its source and level.
    """
    turns = _messages(row)
    level, at_risk = row.get("level"), row.get("at_risk")
    risk = level >= AT_RISK if isinstance(level, int) else bool(at_risk) if isinstance(at_risk, int) else None
    source = str(row.get("source", "all")) + ("" if level is None else f" level {level}")
    kind = str(row.get("kind", source))
    ends = [i + 1 for i, turn in enumerate(turns) if turn["role"] == "user"]
    found = max((assess(turns[:end]).level for end in ends), default=0)
    return {"kind": kind, "language": str(row.get("language", "")), "risk": risk, "found": found}


if __name__ == "__main__":
    sys.exit(main())
