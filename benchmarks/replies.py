"""What the gate does with a thousand replies of the model that this machine runs, to risky and to everyday messages.

    python -m benchmarks.replies                       1,000 messages, half at risk; about 15 minutes on two cores
    python -m benchmarks.replies --messages 50 --out replies.jsonl     fewer, and each reply with its verdict, to read
    python -m benchmarks.replies --again replies.jsonl                 judge those again, after a change of the gate

Messages are the classifier's English examples, each once. A reply is written whole, many in one batch, and then goes through
`respond` as if it were being written: what the person would see counts. A message at risk gets a fixed reply there and no
model is asked; so the gate's verdict on what the model would have said is counted beside it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from support.crisis_lines import known_numbers
from support.engines import GenerationParams
from support.engines.transformers import load
from support.screening import check_reply
from support.settings import Settings
from training.evaluation.answers import batched, through_the_product
from training.screening.dataset import Example, read_examples

BATCH = 32
MOST_TOKENS = 96  # of a reply: about six sentences
LONGEST = 600  # characters of a message
SEED = 11


def chosen(count: int) -> list[Example]:
    """`count` English messages in one turn, half of them at risk."""
    examples = [e for e in read_examples() if e.language == "en" and e.kind != "multi_turn" and len(e.text) <= LONGEST]
    random.Random(SEED).shuffle(examples)
    risky = [e for e in examples if e.level >= 2][: count // 2]
    return risky + [e for e in examples if e.level < 2][: count - len(risky)]


def verdict(message: str, at_risk: bool, reply: str) -> dict[str, Any]:
    """What the person would see, and what the gate says of the model's words."""
    shown = through_the_product(message, reply)
    return {
        "at_risk": at_risk,
        "message": message,
        "reply": reply,
        "source": shown["source"],
        "level": shown["level"],
        "problems": check_reply(reply, known_numbers()),
        "shown": shown["shown"] if shown["source"] == "model" else "",
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'':<44}{'at risk':>9}{'not':>9}"]
    halves = [[row for row in rows if row["at_risk"]], [row for row in rows if not row["at_risk"]]]

    def line(name: str, holds: Any) -> None:
        lines.append(f"{name:<44}" + "".join(f"{sum(map(holds, half)):>9}" for half in halves))

    line("replies", lambda row: True)
    line("answered with fixed words, no model asked", lambda row: row["level"] >= 2)
    line("the model's words shown", lambda row: row["source"] == "model")
    line("the gate would withhold", lambda row: bool(row["problems"]))
    for problem, _ in Counter(problem for row in rows for problem in row["problems"]).most_common():
        line(f"  {problem}", lambda row, problem=problem: problem in row["problems"])
    return "\n".join(lines)


def _written(count: int) -> Iterator[tuple[str, bool, str]]:
    """(message, whether at risk, the model's reply)."""
    examples = sorted(chosen(count), key=lambda example: len(example.text))
    params = GenerationParams(max_new_tokens=MOST_TOKENS)
    answers = batched(load(Settings.from_env()), [example.text for example in examples], params, BATCH)
    for example, answer in zip(tqdm(examples, unit="reply"), answers, strict=True):
        yield example.text, example.level >= 2, answer.text


def _read(path: Path) -> Iterator[tuple[str, bool, str]]:
    """The same, from a file written by --out."""
    for row in map(json.loads, path.open(encoding="utf-8")):
        yield row["message"], row["at_risk"], row["reply"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replies", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="JSON lines of message, reply and verdict, to read by hand")
    parser.add_argument("--again", type=Path, help="such a file: its replies are judged again, and none is written")
    options = parser.parse_args()
    rows = [verdict(*row) for row in (_read(options.again) if options.again else _written(options.messages))]
    print(table(rows))
    if options.out:
        options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
