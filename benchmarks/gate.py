"""What the gate finds in single sentences whose author saw neither its phrases nor what its classifier learned from.

    python -m benchmarks.gate [FILE]     lines of problem or "ok", tab, text; tests/screening/frozen_replies.tsv

For each problem, the share withheld: by phrases and forms alone, and with the classifier, with Wilson's 95 % interval. Of "ok"
it is what is withheld wrongly. Half of those stand close to a problem by their words.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from support.crisis_lines import known_numbers
from support.screening import LEARNED, check_reply
from support.screening.gate import problems_in
from support.screening.report import wilson

FROZEN = Path(__file__).parent.parent / "tests" / "screening" / "frozen_replies.tsv"


def table(path: Path) -> str:
    numbers = known_numbers()
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").strip().split("\n"):
        problem, text = line.split("\t")
        found[problem].append((bool(problems_in("", text, numbers)), bool(check_reply(text, numbers))))
    lines = [f"classifier {LEARNED['reply_classifier'].state()['status']}"]
    lines.append(f"{'':<26}{'rows':>6}{'phrases':>9}{'with the classifier':>21}")
    for problem, rows in sorted(found.items(), key=lambda item: (item[0] == "ok", item[0])):
        alone, both = (sum(hits) for hits in zip(*rows, strict=True))
        low, high = wilson(both, len(rows))
        share = f"{both / len(rows):.2f} ({low:.2f}-{high:.2f})"
        lines.append(f"{problem:<26}{len(rows):>6}{alone / len(rows):>9.2f}{share:>21}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) if sys.argv[1:] else FROZEN))
