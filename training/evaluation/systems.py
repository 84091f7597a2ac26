"""What answers the questions of the test split, and everything that is measured on it: local models and servers.

    test = read_test(Path("outputs/data"), questions=150)
    system = local("base", settings, test, work)       system.values["loss"], system.product["words"], system.facts["seconds"]

Answers, losses and times are kept in `work` as they come (`answers.kept`). Knows nothing about comparing systems.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from support import crisis_lines, prompt
from support.conversation import respond
from support.engines import GenerationParams, embedded
from support.prompt import Message
from support.settings import Settings
from training import TrainingError
from training.encoding import SupervisedCollator, encode, read_split, with_padding
from training.evaluation import endpoints, measures, results
from training.evaluation.answers import as_row, batched, kept, streamed, through_the_product

LONGEST = 1024  # tokens of a row whose loss is measured
TIMED = 6  # questions asked one at a time, to see how long an answer takes
AT_RISK = Path(__file__).parent.parent.parent / "tests" / "screening" / "frozen" / "en.jsonl"
RISKY = 40  # messages of that file
SEED = 0

log = logging.getLogger(__name__)

Values = dict[str, dict[str, tuple[float, float]]]  # measure -> question -> value and weight


@dataclass
class System:
    """Something that answers, and what it was measured to do.

    Attributes:
        name: "base", "adapter", or an endpoint's.
        about: model, adapter, precision, sampling: for results.json.
        values: of what it writes.
        product: the same of what a person would be shown who asked, be it the model's words or fixed ones.
        answers: question -> what it wrote.
        fates: question -> what the product does with it; see `through_the_product`.
        facts: estimates that are not of the test's questions.
    """

    name: str
    about: dict[str, Any]
    values: Values = field(default_factory=dict)
    product: Values = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    fates: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Test:
    """The questions, each with the counsellors' answers to it. `sha256` is that of the split's file."""

    references: dict[str, list[str]]
    sha256: str

    @property
    def rows(self) -> list[dict[str, str]]:
        return [{"context": q, "response": r} for q, answers in self.references.items() for r in answers]

    @property
    def digest(self) -> str:
        """Of the questions that were drawn."""
        return digest("\n".join(sorted(self.references)))


def read_test(data: Path, questions: int) -> Test:
    """As many questions of the test split as wanted, drawn by SEED; 0: all.

    Raises:
        TrainingError: training.prepare has not written it, or it holds fewer.
    """
    rows, sha256 = read_split(data, "test")
    references: dict[str, list[str]] = {}
    for row in rows:
        references.setdefault(row["context"], []).append(row["response"])
    if questions > len(references):
        raise TrainingError(
            f"The test split holds {len(references)} questions; ask for so many with --questions, or 0 for all."
        )
    chosen = random.Random(SEED).sample(sorted(references), questions or len(references))
    return Test({question: references[question] for question in chosen}, sha256)


def local(name: str, settings: Settings, test: Test, work: Path) -> System:
    """A model that this machine runs, loaded as the app loads it.

    Raises:
        EngineError: it cannot be loaded.
        TrainingError: `work` holds answers of another model.
    """
    from support.engines.transformers import load, unload

    try:
        return _measured(name, load(settings), settings.context_tokens, test, work)
    finally:
        unload()  # the next one may not fit beside it


def _measured(name: str, loaded: Any, context_tokens: int, test: Test, work: Path) -> System:
    from support.engines.transformers import TransformersEngine

    choice, params = loaded.choice, GenerationParams()
    about = {"model": choice.model, "quantization": choice.quantization, "dtype": choice.dtype}
    system = System(name, {**about, **_adapter(choice.adapter), "params": asdict(params)})
    _demand_same(work, system, test)
    questions = sorted(test.references, key=len)  # like lengths share a batch

    def write(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        yield from map(as_row, _watched(batched(loaded, missing, params), len(missing), f"{name}: answers"))

    def lose(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        rows = {_key(row): row for row in test.rows}
        found = losses(loaded.model, loaded.tokenizer, [rows[key] for key in missing])
        for key, (loss, tokens) in zip(missing, _watched(found, len(missing), f"{name}: losses"), strict=True):
            yield key, {"loss": loss, "tokens": tokens}

    def take_time(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        with closing(TransformersEngine(loaded, context_tokens)) as engine:
            for question in _watched(missing, len(missing), f"{name}: times"):
                yield question, _timed(engine, loaded.tokenizer, question, params)

    def prompt_tokens(question: str) -> float:
        return len(prompt.render(prompt.build([Message(role="user", content=question)]), loaded.tokenizer))

    answers = kept(work / "answers.jsonl", questions, write)
    add_answers(system, answers, test)
    add_losses(system, kept(work / "losses.jsonl", [_key(row) for row in test.rows], lose), test)
    system.facts["tokens"] = {
        "answer": results.mean([row["tokens"] for row in answers.values()]),
        "prompt": results.mean([prompt_tokens(question) for question in questions]),
    }
    system.facts["at_risk"] = at_risk(kept(work / "at_risk.jsonl", risky_messages(), write))
    system.facts["seconds"] = _seconds(
        kept(work / "times.jsonl", questions[:: max(1, len(questions) // TIMED)], take_time)
    )
    return system


def remote(name: str, endpoint: endpoints.Endpoint, test: Test, work: Path) -> System:
    """A model behind an OpenAI-compatible address. Its token loss cannot be known, nor how many tokens it wrote.

    Questions that got no answer are left out and counted in the facts; the same command asks them again.

    Raises:
        GenerationFailed: the server refuses to be asked, for want of a key or of the model.
    """
    params = GenerationParams()
    sampling = {"max_new_tokens": params.max_new_tokens, "temperature": params.temperature, "top_p": params.top_p}
    system = System(name, {"model": endpoint.model, "address": endpoint.address, "params": sampling})
    _demand_same(work, system, test)

    def write(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        found = endpoints.ask_all(endpoint, missing, params)
        for answer, first, seconds in _watched(found, len(missing), f"{name}: answers"):
            key, row = as_row(answer)
            yield key, {**row, "first": first, "seconds": seconds}

    rows = kept(work / "answers.jsonl", [*test.references], write)
    risky = kept(work / "at_risk.jsonl", risky_messages(), write)
    add_answers(system, rows, test)
    system.facts["at_risk"] = at_risk(risky)
    system.facts["seconds"] = _seconds(rows)
    system.facts["asked_at_once"] = endpoints.AT_ONCE
    system.facts["unanswered"] = len(test.references) - len(rows)
    return system


# What is measured


def add_answers(system: System, rows: dict[str, dict], test: Test) -> None:
    """Measures of the answers, and of what the product shows in their place."""
    questions = list(rows)
    for question in _watched(questions, len(questions), f"{system.name}: measures"):
        text, references = rows[question]["text"], test.references[question]
        fate = through_the_product(question, text)
        system.answers[question], system.fates[question] = text, fate
        values = {**measures.of_answer(text, references), "shown": float(fate["source"] == "model")}
        if (whole := rows[question]["whole"]) is not None:
            values["whole"] = float(whole)
        for name, value in values.items():
            system.values.setdefault(name, {})[question] = value, 1.0
        for name, value in measures.of_text(fate["shown"], references).items():
            system.product.setdefault(name, {})[question] = value, 1.0
    texts = {question: rows[question]["text"] for question in questions if rows[question]["text"]}
    shown = {question: system.fates[question]["shown"] for question in questions}
    openings = measures.same_openings([*texts.values()])
    system.values["same_opening"] = {question: (value, 1.0) for question, value in zip(texts, openings, strict=True)}
    for values, said in ((system.values, texts), (system.product, shown)):
        alike = measures.similarities([*said.values()], [test.references[question] for question in said])
        values["similarity"] = {question: (value, 1.0) for question, value in zip(said, alike, strict=True)}
    withheld = [fate["withheld"] for fate in system.fates.values()]
    problems = sorted({problem for found in withheld for problem in found})
    system.facts["problems"] = {p: results.mean([float(p in found) for found in withheld]) for p in problems}


def add_losses(system: System, rows: dict[str, dict], test: Test) -> None:
    """Token loss by question: all tokens of all counsellors' answers to it."""
    by_question: dict[str, tuple[float, float]] = {}
    for row in test.rows:
        lost = rows[_key(row)]
        total, tokens = by_question.get(row["context"], (0.0, 0.0))
        by_question[row["context"]] = total + lost["loss"] * lost["tokens"], tokens + lost["tokens"]
    system.values["loss"] = {question: (total / tokens, tokens) for question, (total, tokens) in by_question.items()}


def losses(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> Iterator[tuple[float, int]]:
    """For each row the mean loss of its response's tokens, in nats, and how many these are."""
    import torch

    collate = SupervisedCollator(with_padding(tokenizer, "right"))
    for row in rows:  # one at a time: rows of all lengths, in any order
        batch = {name: tensor.to(model.device) for name, tensor in collate([encode(row, tokenizer, LONGEST)]).items()}
        labels = batch.pop("shift_labels")
        del batch["labels"]
        with torch.inference_mode():
            logits = model(**batch, use_cache=False).logits
        logits = logits.reshape(-1, logits.shape[-1]).float()
        yield torch.nn.functional.cross_entropy(logits, labels).item(), len(labels)


def risky_messages() -> list[str]:
    """Messages at risk, written for the tests of the screening by someone who had no part in it."""
    if not AT_RISK.exists():
        return []
    rows = map(json.loads, AT_RISK.read_text(encoding="utf-8").split("\n")[:-1])
    texts = [row["messages"][0]["content"] for row in rows if row["level"] >= 2 and len(row["messages"]) == 1]
    return random.Random(SEED).sample(texts, min(RISKY, len(texts)))


def at_risk(rows: dict[str, dict]) -> dict[str, results.Estimate]:
    """Of people at risk: how many are named a crisis line, by the model alone and by the product. {} for no rows."""
    if not rows:
        return {}
    fates = [through_the_product(message, row["text"]) for message, row in rows.items()]
    return {
        "model_names_a_line": results.mean([float(crisis_lines.names_a_line(row["text"])) for row in rows.values()]),
        "product_names_a_line": results.mean([float(crisis_lines.names_a_line(fate["shown"])) for fate in fates]),
        "product_gives_crisis_reply": results.mean([float(fate["level"] >= 2) for fate in fates]),
        "product_shows_model": results.mean([float(fate["source"] == "model") for fate in fates]),
    }


def _timed(engine: Any, tokenizer: Any, question: str, params: GenerationParams) -> dict[str, Any]:
    """Seconds to the first piece and in all: of the engine alone, and until the product showed the model's first sentence."""
    answer, first, seconds = streamed(engine, question, params)
    started, first_shown = time.perf_counter(), None
    for reply in respond(question, [], "US", engine=engine, params=params):
        if reply.text and first_shown is None and reply.receipt["source"] == "model":
            first_shown = time.perf_counter() - started
    return {
        "first": first,
        "seconds": seconds,
        "tokens": len(tokenizer.encode(answer.text, add_special_tokens=False)),
        "product_first": first_shown,
        "product_seconds": time.perf_counter() - started,
    }


def _seconds(rows: dict[str, dict]) -> dict[str, results.Estimate]:
    """Means of what was timed."""
    found = {}
    for name in ("first", "seconds", "product_first", "product_seconds"):
        if values := [row[name] for row in rows.values() if row.get(name) is not None]:
            found[name] = results.mean(values)
    if counted := [row for row in rows.values() if row.get("tokens")]:
        found["tokens_per_second"] = results.mean([row["tokens"] / row["seconds"] for row in counted])
    return found


# Which model


def with_base_of(adapter: str | None, settings: Settings) -> Settings:
    """The settings with the base model that the adapter names, where MODEL_ID names none.

    Raises:
        TrainingError: there is no such adapter.
    """
    if not adapter or settings.model_id:
        return settings
    import torch
    from peft import PeftConfig

    try:
        base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    except (OSError, ValueError) as error:
        raise TrainingError(f"There is no adapter at {adapter} ({type(error).__name__}); train one first.") from None
    embedded_here = base == embedded.HUB_ID and not torch.cuda.is_available()  # what an empty MODEL_ID means there
    return settings if not base or embedded_here else replace(settings, model_id=base)


def _adapter(adapter: str) -> dict[str, str]:
    """Its name without this machine's folders, and the digest of a local one's weights."""
    weights = Path(adapter) / "adapter_model.safetensors"
    if not adapter or not weights.exists():
        return {"adapter": adapter}
    return {"adapter": Path(adapter).name, "adapter_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def _demand_same(work: Path, system: System, test: Test) -> None:
    """Raises TrainingError where `work` holds answers that something else made."""
    made_by = {**system.about, "test": test.sha256, "system_prompt": digest(prompt.SYSTEM_PROMPT)}
    note = work / "made_by.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != made_by:
        raise TrainingError(
            f"{work} holds answers of another model, test split, prompt or sampling; choose another --work, or delete it."
        )
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(made_by, indent=2) + "\n", encoding="utf-8")


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key(row: dict[str, str]) -> str:
    return digest(f"{row['context']}\n{row['response']}")


def _watched(things: Iterable[Any], count: int, about: str) -> Any:
    return tqdm(things, total=count, desc=about)
