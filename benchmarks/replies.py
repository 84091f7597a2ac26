"""What the gate does with a thousand replies of the model that this machine runs, to risky and to everyday messages.

    python -m benchmarks.replies                       1,000 messages, half at risk; about 15 minutes on two cores
    python -m benchmarks.replies --messages 50 --out replies.jsonl     fewer, and each reply with its verdict, to read
    python -m benchmarks.replies --again replies.jsonl                 judge those again, after a change of the gate
    python -m benchmarks.replies --json replies.json                   and the counts as a file, for the model card and README

Messages are the classifier's English examples, each once. It has learned most of them, so that screening catches more here than
of words that it has never met; what the gate does with the replies is not touched by that.

A reply is written whole, many in one batch, and then goes through `respond` as if it were being written: what the person
would see counts. A message at risk gets a fixed reply there and no model is asked; so the gate's verdict on what the model
would have said is counted beside it.
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

from support import measured
from support.crisis_lines import known_numbers
from support.engines import GenerationParams
from support.engines.transformers import load
from support.screening import check_reply
from support.screening.state import AT_RISK
from support.settings import Settings
from training.evaluation.answers import batched, through_the_product
from training.screening.dataset import Example, read_examples

BATCH = 32
MOST_TOKENS = 96  # of a reply: about six sentences
LONGEST = 600  # characters of a message
SEED = 11
ABOUT = {
    "replies": "replies",
    "answered with fixed words, no model asked": "fixed",
    "the model's words shown": "shown",
    "the model's words withheld by the gate": "withheld",
    "all that the model wrote: the gate finds": "flagged",
}


def chosen(count: int) -> list[Example]:
    """`count` English messages in one turn, half of them at risk."""
    examples = [e for e in read_examples() if e.language == "en" and e.kind != "multi_turn" and len(e.text) <= LONGEST]
    random.Random(SEED).shuffle(examples)
    risky = [e for e in examples if e.level >= AT_RISK][: count // 2]
    return risky + [e for e in examples if e.level < AT_RISK][: count - len(risky)]


def verdict(model: str, message: str, at_risk: bool, reply: str) -> dict[str, Any]:
    """What the person would see, and what the gate says of the model's words."""
    shown = through_the_product(message, reply)
    return {
        "model": model,
        "at_risk": at_risk,
        "message": message,
        "reply": reply,
        "source": shown["source"],
        "withheld": shown["withheld"],
        "problems": check_reply(reply, known_numbers()),
        "shown": shown["shown"] if shown["source"] == "model" else "",
    }


def counted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Messages at risk and others apart: how many, and what became of the reply to them.

    A message that got fixed words asked no model; `flagged` and `problems` are the gate's verdict on every reply, those too.
    """
    halves = {"at_risk": [row for row in rows if row["at_risk"]], "others": [row for row in rows if not row["at_risk"]]}
    models = sorted({row["model"] for row in rows})
    return {"model": " and ".join(models), **{half: _counts(of) for half, of in halves.items()}}


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shown = sum(row["source"] == "model" for row in rows)
    withheld = sum(bool(row["withheld"]) for row in rows)
    return {
        "replies": len(rows),
        "fixed": len(rows) - shown - withheld,
        "shown": shown,
        "withheld": withheld,
        "flagged": sum(bool(row["problems"]) for row in rows),
        "problems": dict(Counter(problem for row in rows for problem in set(row["problems"])).most_common()),
    }


def table(found: dict[str, Any]) -> str:
    at_risk, others = found["at_risk"], found["others"]
    lines = [f"{'':<44}{'at risk':>9}{'not':>9}"]
    for about, key in ABOUT.items():
        lines.append(f"{about:<44}{at_risk[key]:>9}{others[key]:>9}")
    for problem in {**others["problems"], **at_risk["problems"]}:
        lines.append(f"  {problem:<42}{at_risk['problems'].get(problem, 0):>9}{others['problems'].get(problem, 0):>9}")
    return "\n".join(lines)


def _written(count: int) -> Iterator[tuple[str, str, bool, str]]:
    """(model, message, whether at risk, the model's reply)."""
    examples = sorted(chosen(count), key=lambda example: len(example.text))
    params = GenerationParams(max_new_tokens=MOST_TOKENS)
    loaded = load(Settings.from_env())
    answers = batched(loaded, [example.text for example in examples], params, BATCH)
    for example, answer in zip(tqdm(examples, unit="reply"), answers, strict=True):
        yield loaded.choice.model, example.text, example.level >= AT_RISK, answer.text


def _read(path: Path) -> Iterator[tuple[str, str, bool, str]]:
    """The same, from a file written by --out."""
    for row in map(json.loads, path.open(encoding="utf-8")):
        yield row["model"], row["message"], row["at_risk"], row["reply"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replies", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="JSON lines of message, reply and verdict, to read by hand")
    parser.add_argument("--again", type=Path, help="such a file: its replies are judged again, and none is written")
    parser.add_argument("--json", type=Path, help="where the counts are saved, for the model card and README")
    options = parser.parse_args()
    rows = [verdict(*row) for row in (_read(options.again) if options.again else _written(options.messages))]
    found = counted(rows)
    if options.json:
        measured.save(options.json, found, parser.prog)
    print(table(found))
    if options.out:
        options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
