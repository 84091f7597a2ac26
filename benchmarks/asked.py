"""How the screening does on questions that people really asked: 360 of Amod/mental_health_counseling_conversations.

    python -m benchmarks.asked [--data train.csv] [--json OUT]      a copy of the dataset; without it, from the Hub

The levels are one reader's, given before the classifier had read a line like these (`asked_levels.tsv`: a digest of the
question, no text of it). Level 2 there is mostly violence and rage at home, told in passing. Nothing is trained on the questions.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from support import measured
from support.screening import assess
from support.screening.report import wilson
from support.screening.state import AT_RISK
from training import TrainingError
from training.prepare import question_key, read_file, read_hub

LEVELS = Path(__file__).parent / "asked_levels.tsv"


def digest(question: str) -> str:
    return hashlib.sha256(question_key({"context": question}).encode()).hexdigest()[:16]


def counted(questions: list[str]) -> dict[str, Any]:
    """How many questions have a label, and level -> those in this data, and how many of them get a crisis reply."""
    levels = dict(line.split("\t") for line in LEVELS.read_text(encoding="utf-8").split("\n") if line)
    found: dict[str, list[bool]] = defaultdict(list)
    for key, question in {digest(question): question for question in questions}.items():
        if key in levels:
            found[levels[key]].append(assess([{"role": "user", "content": question}]).level >= AT_RISK)
    counts = {level: {"rows": len(hits), "found": sum(hits)} for level, hits in sorted(found.items())}
    return {"labelled": len(levels), "levels": counts}


def table(found: dict[str, Any]) -> str:
    lines = [f"{sum(c['rows'] for c in found['levels'].values())} of {found['labelled']} questions are in this data."]
    lines.append(f"{'level':<8}{'questions':>10}{'crisis reply':>14}  95 % interval")
    for level, counts in found["levels"].items():
        low, high = wilson(counts["found"], counts["rows"])
        share = counts["found"] / counts["rows"]
        lines.append(f"{level:<8}{counts['rows']:>10}{share:>14.3f}  {low:.3f} to {high:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asked", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="csv, json, jsonl or parquet with the columns Context and Response")
    parser.add_argument("--json", type=Path, help="where the counts are saved, for the model card and README")
    options = parser.parse_args()
    try:
        rows = read_file(options.data) if options.data else read_hub()
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    found = counted([row["context"] for row in rows])
    if options.json:
        measured.save(options.json, found, parser.prog)
    print(table(found))


if __name__ == "__main__":
    main()
