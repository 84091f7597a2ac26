"""What the gate finds in single sentences whose author saw neither its phrases nor what its classifier learned from.

    python -m benchmarks.gate [FILE] [--json OUT]     lines of problem or "ok", tab, text; tests/screening/frozen_replies.tsv

For each problem, the share withheld: by phrases and forms alone, and with the classifier, with Wilson's 95 % interval. Of "ok"
it is what is withheld wrongly. Half of those stand close to a problem by their words.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from support import measured
from support.crisis_lines import known_numbers
from support.screening import LEARNED, check_reply
from support.screening.gate import problems_in
from support.screening.report import wilson

FROZEN = Path(__file__).parent.parent / "tests" / "screening" / "frozen_replies.tsv"


def counted(path: Path) -> dict[str, Any]:
    """Problem -> rows, how many phrases and forms withhold alone, and how many with the classifier."""
    numbers = known_numbers()
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").strip().split("\n"):
        problem, text = line.split("\t")
        found[problem].append((bool(problems_in("", text, numbers)), bool(check_reply(text, numbers))))
    problems = {}
    for problem, rows in sorted(found.items(), key=lambda item: (item[0] == "ok", item[0])):
        alone, both = (sum(hits) for hits in zip(*rows, strict=True))
        problems[problem] = {"rows": len(rows), "alone": alone, "both": both}
    return {"classifier": LEARNED["reply_classifier"].state()["status"], "problems": problems}


def table(found: dict[str, Any]) -> str:
    lines = [f"classifier {found['classifier']}"]
    lines.append(f"{'':<26}{'rows':>6}{'phrases':>9}{'with the classifier':>21}")
    for problem, counts in found["problems"].items():
        low, high = wilson(counts["both"], counts["rows"])
        share = f"{counts['both'] / counts['rows']:.2f} ({low:.2f}-{high:.2f})"
        lines.append(f"{problem:<26}{counts['rows']:>6}{counts['alone'] / counts['rows']:>9.2f}{share:>21}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=FROZEN)
    parser.add_argument("--json", type=Path, help="where the counts are saved, for the model card and README")
    options = parser.parse_args()
    found = counted(options.file)
    if options.json:
        measured.save(options.json, found, parser.prog)
    print(table(found))


if __name__ == "__main__":
    main()
