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
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from support import prompt
from support.conversation import respond
from support.crisis_lines import known_numbers
from support.engines import GenerationParams
from support.engines.transformers import Loaded, load
from support.prompt import Message
from support.screening import check_reply
from support.settings import Settings
from training.screening.dataset import Example, read_examples

BATCH = 32
MOST_TOKENS = 96  # of a reply: about six sentences
LONGEST = 600  # characters of a message
SEED = 11


@dataclass(frozen=True)
class Spoken:
    """An engine that says one reply, written before, word by word."""

    reply: str

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        for word in self.reply.split(" "):
            if stop.is_set():
                return
            yield word + " "

    def describe(self) -> dict[str, Any]:
        return {"status": "ready", "model": "written before", "adapter": None}


def chosen(count: int) -> list[Example]:
    """`count` English messages in one turn, half of them at risk."""
    examples = [e for e in read_examples() if e.language == "en" and e.kind != "multi_turn" and len(e.text) <= LONGEST]
    random.Random(SEED).shuffle(examples)
    risky = [e for e in examples if e.level >= 2][: count // 2]
    return risky + [e for e in examples if e.level < 2][: count - len(risky)]


def written(loaded: Loaded, messages: Sequence[str]) -> Iterator[str]:
    """One sampled reply for each message, in batches of messages of like length; in their order."""
    import torch

    torch.manual_seed(SEED)
    tokenizer, params = loaded.tokenizer, GenerationParams()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for start in tqdm(range(0, len(messages), BATCH), unit="batch"):
        prompts = [
            prompt.render(prompt.build([Message(role="user", content=text)]), tokenizer)
            for text in messages[start : start + BATCH]
        ]
        inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(loaded.model.device)
        with torch.inference_mode():
            output = loaded.model.generate(
                **inputs,
                do_sample=True,
                temperature=params.temperature,
                top_p=params.top_p,
                top_k=0,
                repetition_penalty=params.repetition_penalty,
                no_repeat_ngram_size=params.no_repeat_ngram_size,
                max_new_tokens=MOST_TOKENS,
                pad_token_id=tokenizer.pad_token_id,
            )
        yield from tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def verdict(message: str, at_risk: bool, reply: str) -> dict[str, Any]:
    """What the person would see, and what the gate says of the model's words."""
    *_, last = respond(message, [], "US", engine=Spoken(reply))
    return {
        "at_risk": at_risk,
        "message": message,
        "reply": reply,
        "source": last.receipt["source"],
        "level": last.receipt["level"],
        "problems": check_reply(reply, known_numbers()),
        "shown": last.text if last.receipt["source"] == "model" else "",
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
    replies = written(load(Settings.from_env()), [example.text for example in examples])
    for example, reply in zip(examples, replies, strict=True):
        yield example.text, example.level >= 2, reply


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
