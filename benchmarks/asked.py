"""How the screening does on questions that people really asked: 360 of Amod/mental_health_counseling_conversations.

    python -m benchmarks.asked --data train.csv      a copy of the dataset; without it, from the Hub

The levels are one reader's, given before the classifier had read a line like these (`asked_levels.tsv`: a digest of the
question, no text of it). Level 2 there is mostly violence and rage at home, told in passing. Nothing is trained on the questions.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

from support.screening import assess
from support.screening.report import wilson
from support.screening.state import AT_RISK
from training import TrainingError
from training.prepare import question_key, read_file, read_hub

LEVELS = Path(__file__).parent / "asked_levels.tsv"


def digest(question: str) -> str:
    return hashlib.sha256(question_key({"context": question}).encode()).hexdigest()[:16]


def table(questions: list[str]) -> str:
    levels = dict(line.split("\t") for line in LEVELS.read_text(encoding="utf-8").split("\n") if line)
    found: dict[str, list[bool]] = defaultdict(list)
    for key, question in {digest(question): question for question in questions}.items():
        if key in levels:
            found[levels[key]].append(assess([{"role": "user", "content": question}]).level >= AT_RISK)
    lines = [f"{sum(map(len, found.values()))} of {len(levels)} questions are in this data."]
    lines.append(f"{'level':<8}{'questions':>10}{'crisis reply':>14}  95 % interval")
    for level, replies in sorted(found.items()):
        low, high = wilson(sum(replies), len(replies))
        lines.append(f"{level:<8}{len(replies):>10}{sum(replies) / len(replies):>14.3f}  {low:.3f} to {high:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asked", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="csv, json, jsonl or parquet with the columns Context and Response")
    options = parser.parse_args()
    try:
        rows = read_file(options.data) if options.data else read_hub()
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    print(table([row["context"] for row in rows]))


if __name__ == "__main__":
    main()
