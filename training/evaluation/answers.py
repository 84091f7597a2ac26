"""Answers of a model to the questions of a split, written once and kept: in batches from a local model, or from an endpoint.

    for answer in batched(loaded, questions): ...          Answer(question, text, tokens, whole)
    shown = through_the_product(question, answer.text)     what a person would have seen of it

Knows nothing about what makes an answer good.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support import prompt
from support.conversation import respond
from support.engines import Engine, GenerationParams
from support.prompt import Message
from training.encoding import with_padding

BATCH = 8  # a T4 holds so many of Llama 2 7B beside its weights
SEED = 11


@dataclass(frozen=True)
class Answer:
    """What a model wrote to a question.

    Attributes:
        question: as in the split.
        text: without special tokens.
        tokens: how many were written; None where the server does not say.
        whole: it came to its own end, and was not cut at the longest reply; None where the server does not say.
    """

    question: str
    text: str
    tokens: int | None = None
    whole: bool | None = None


@dataclass(frozen=True)
class Spoken:
    """An engine that says one reply, written before, word by word."""

    reply: str

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        for word in self.reply.split(" "):
            if stop.is_set():
                return
            yield word + " "

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        return {"status": "ready", "model": "written before", "adapter": None}


def through_the_product(question: str, text: str) -> dict[str, Any]:
    """What a person would see who asked `question` where the model says `text`: "source", "shown", "level", "withheld"."""
    *_, last = respond(question, [], "US", engine=Spoken(text))
    return {
        "source": last.receipt["source"],
        "shown": last.text,
        "level": last.receipt["level"],
        "withheld": last.receipt["withheld"],
    }


def batched(
    loaded: Any, questions: Sequence[str], params: GenerationParams | None = None, batch: int = BATCH
) -> Iterator[Answer]:
    """One sampled answer to each question from a `support.engines.transformers.Loaded`, as the app would ask it.

    Every batch is drawn from the same seed, so that a run which goes on after a whole batch writes what it would have.
    """
    import torch

    params = params or GenerationParams()
    tokenizer = with_padding(loaded.tokenizer, "left")
    ends = _ends(loaded.model, tokenizer)
    sampling: dict[str, Any] = {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p, "top_k": 0}
    if not params.temperature:
        sampling = {"do_sample": False, "temperature": None, "top_p": None}
    for start in range(0, len(questions), batch):
        chosen = questions[start : start + batch]
        prompts = [prompt.render(prompt.build([Message(role="user", content=text)]), tokenizer) for text in chosen]
        inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(loaded.model.device)
        torch.manual_seed(SEED)
        with torch.inference_mode():
            output = loaded.model.generate(
                **inputs,
                **sampling,
                repetition_penalty=params.repetition_penalty,
                no_repeat_ngram_size=params.no_repeat_ngram_size,
                max_new_tokens=params.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        for question, ids in zip(chosen, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((i for i, token in enumerate(ids) if token in ends), None)
            written = ids if end is None else ids[:end]
            text = tokenizer.decode(written, skip_special_tokens=True).strip()
            yield Answer(question, text, len(written), end is not None)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Ids at which generation stops."""
    ends = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}


def streamed(engine: Engine, question: str, params: GenerationParams | None = None) -> tuple[Answer, float, float]:
    """One answer as it comes: (answer, seconds to its first piece, seconds in all).

    Raises:
        EngineError: no answer can come.
    """
    started, first, pieces = time.perf_counter(), 0.0, []
    messages = prompt.build([Message(role="user", content=question)])
    for piece in engine.stream(messages, params or GenerationParams(), threading.Event()):
        if piece and not first:
            first = time.perf_counter() - started
        pieces.append(piece)
    return Answer(question, "".join(pieces).strip()), first, time.perf_counter() - started


# Kept answers


def kept(
    path: Path, keys: Iterable[str], make: Callable[[Sequence[str]], Iterable[tuple[str, dict]]]
) -> dict[str, dict]:
    """The row of each key out of a file of JSON lines; those that are not there are made, and written as they come.

    A run that was killed goes on where it was: a last line that was half written is left out and made again.

    Args:
        path: made where it is not there.
        keys: what identifies a row, such as the question.
        make: the missing keys -> (key, row), in any order, each at most once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict] = {}
    if path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")
        whole, rest = lines[:-1], lines[-1]
        rows = {entry["key"]: entry["row"] for entry in map(json.loads, whole)}
        if rest:
            path.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    wanted = list(dict.fromkeys(keys))
    missing = [key for key in wanted if key not in rows]
    if missing:
        with path.open("a", encoding="utf-8") as file:
            for key, row in make(missing):
                file.write(json.dumps({"key": key, "row": row}) + "\n")
                file.flush()
                rows[key] = row
    return {key: rows[key] for key in wanted if key in rows}


def as_row(answer: Answer) -> tuple[str, dict[str, Any]]:
    """An answer as `kept` keeps it."""
    row = asdict(answer)
    return row.pop("question"), row
