"""Measure a base model, its adapter and any server beside them on questions that nothing was trained on or stopped by.

    python -m training.evaluate --adapter outputs/adapter --out model_card/results/evaluation
    python -m training.evaluate --adapter outputs/adapter --endpoint chatgpt=gpt-4o-mini@https://api.openai.com/v1 \
        --reference chatgpt --judge claude@https://some-server/v1

The local models are those that the app would serve, loaded as it loads them (MODEL_ID, QUANTIZATION and so on count). Each
question of the test split is asked once. What a model says is measured raw, and as the product shows it: screened and gated.
Writes results.json, results.md, results.png and samples.md. Answers are kept in --work as they come: killed on the way, the
same command goes on.

Without a judge the report says "not judged". With LANGSMITH_API_KEY set, the answers' measures are uploaded as experiments.

Knows nothing about training.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from support import crisis_lines, prompt
from support.conversation import respond
from support.engines import EngineError, GenerationParams, embedded
from support.prompt import Message
from support.settings import Settings
from training import TrainingError
from training.encoding import SupervisedCollator, encode, read_split
from training.evaluation import endpoints, judge, measures, results, tracking
from training.evaluation.answers import as_row, batched, kept, streamed, through_the_product
from training.record import device, versions

LONGEST = 1024  # tokens of a row whose loss is measured
TIMED = 10  # questions asked one at a time, to see how long an answer takes
SAMPLED = 8  # questions shown side by side
AT_RISK = Path(__file__).parent.parent / "tests" / "screening" / "frozen" / "en.jsonl"
RISKY = 40  # messages of that file
SEED = 0

log = logging.getLogger(__name__)


@dataclass
class System:
    """Something that answers, and what it was measured to do.

    Attributes:
        name: "base", "adapter", or an endpoint's.
        about: model, adapter, precision: for results.json.
        values: measure -> question -> (value, weight).
        answers: question -> what it wrote.
        facts: counts that are no mean over questions.
    """

    name: str
    about: dict[str, Any]
    values: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Test:
    """The questions, each with the counsellors' answers to it."""

    references: dict[str, list[str]]
    sha256: str

    @property
    def rows(self) -> list[dict[str, str]]:
        return [{"context": q, "response": r} for q, answers in self.references.items() for r in answers]


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
            f"The test split holds {len(references)} questions; ask for so many with --questions, or 0."
        )
    chosen = random.Random(SEED).sample(sorted(references), questions or len(references))
    return Test({question: references[question] for question in chosen}, sha256)


def local(name: str, settings: Settings, test: Test, work: Path) -> System:
    """A model that this machine runs.

    Raises:
        EngineError: it cannot be loaded.
        TrainingError: `work` holds answers of another model.
    """
    from support.engines.transformers import TransformersEngine, load

    loaded = load(settings)
    engine = TransformersEngine(loaded, settings.context_tokens)
    choice, params = loaded.choice, GenerationParams()
    about = {
        "model": choice.model,
        "quantization": choice.quantization,
        "dtype": choice.dtype,
        **_adapter(choice.adapter),
    }
    system = System(name, about)
    _demand_same(work, {**about, "params": asdict(params), "test": test.sha256})
    questions = sorted(test.references, key=len)  # like lengths share a batch

    def write(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        yield from map(as_row, _watched(batched(loaded, missing, params), len(missing), f"{name}: answers"))

    def lose(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        rows = {_key(row): row for row in test.rows}
        wanted = [rows[key] for key in missing]
        found = losses(loaded.model, loaded.tokenizer, wanted)
        for key, (loss, tokens) in zip(missing, _watched(found, len(missing), f"{name}: losses"), strict=True):
            yield key, {"loss": loss, "tokens": tokens}

    def prompt_tokens(question: str) -> int:
        return len(prompt.render(prompt.build([Message(role="user", content=question)]), loaded.tokenizer))

    def take_time(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        for question in _watched(missing, len(missing), f"{name}: times"):
            yield question, _timed(engine, loaded.tokenizer, question, params)

    answers = kept(work / "answers.jsonl", questions, write)
    add_answers(system, answers, test)
    system.facts["tokens"] = {
        "answer": sum(row["tokens"] for row in answers.values()) / len(answers),
        "prompt": sum(map(prompt_tokens, questions)) / len(questions),
    }
    add_losses(system, kept(work / "losses.jsonl", [_key(row) for row in test.rows], lose), test)
    system.facts["at_risk"] = at_risk(kept(work / "at_risk.jsonl", risky_messages(), write))
    system.facts["seconds"] = _seconds(
        kept(work / "times.jsonl", questions[:: max(1, len(questions) // TIMED)], take_time)
    )
    return system


def remote(name: str, endpoint: endpoints.Endpoint, test: Test, work: Path) -> System:
    """A model behind an OpenAI-compatible address. Its token loss cannot be known.

    Raises:
        TrainingError: some questions got no answer; the same command asks them again.
    """
    params = GenerationParams()
    about = {"model": endpoint.model, "address": endpoint.address}
    system = System(name, about)
    _demand_same(work, {**about, "params": asdict(params), "test": test.sha256})

    def write(missing: Sequence[str]) -> Iterator[tuple[str, dict]]:
        for answer, first, whole in _watched(
            endpoints.ask_all(endpoint, missing, params), len(missing), f"{name}: answers"
        ):
            key, row = as_row(answer)
            yield key, {**row, "first": first, "seconds": whole}

    rows = kept(work / "answers.jsonl", [*test.references], write)
    risky = kept(work / "at_risk.jsonl", risky_messages(), write)
    if missing := len(test.references) + len(risky_messages()) - len(rows) - len(risky):
        raise TrainingError(f"{name} left {missing} questions unanswered; the same command asks them again.")
    add_answers(system, rows, test)
    system.facts["at_risk"] = at_risk(risky)
    system.facts["seconds"] = _seconds(rows)
    return system


# What is measured


def add_answers(system: System, rows: dict[str, dict], test: Test) -> None:
    """Measures of the answers, raw and through the product."""
    questions = list(rows)
    texts = [rows[question]["text"] for question in questions]
    references = [test.references[question] for question in questions]
    problems: dict[str, int] = {}
    for question, text, group in zip(
        _watched(questions, len(questions), f"{system.name}: measures"), texts, references, strict=True
    ):
        system.answers[question] = text
        product = through_the_product(question, text)
        values = {**measures.of_answer(text, group), "shown": float(product["source"] == "model")}
        if (whole := rows[question]["whole"]) is not None:
            values["whole"] = float(whole)
        for name, value in values.items():
            if name.startswith("withheld."):
                problems[name.removeprefix("withheld.")] = problems.get(name.removeprefix("withheld."), 0) + 1
            else:
                system.values.setdefault(name, {})[question] = value, 1.0
    of_all = {"similarity": measures.similarities(texts, references), "same_opening": measures.same_openings(texts)}
    for name, values in of_all.items():
        system.values[name] = {question: (value, 1.0) for question, value in zip(questions, values, strict=True)}
    system.facts["problems"] = dict(sorted(problems.items(), key=lambda item: -item[1]))


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

    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    collate = SupervisedCollator(tokenizer)
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


def at_risk(rows: dict[str, dict]) -> dict[str, Any]:
    """Of people at risk: how many are shown a crisis line, by the model alone and by the product."""
    numbers = [number for number in crisis_lines.known_numbers() if len(number) >= 3]
    raw = [
        float(any(number in row["text"] for number in numbers) or "findahelpline" in row["text"])
        for row in rows.values()
    ]
    product = [through_the_product(message, row["text"]) for message, row in rows.items()]
    if not rows:
        return {}
    return {
        "model_names_a_line": results.mean(raw),
        "product_gives_crisis_reply": results.mean([float(shown["level"] >= 2) for shown in product]),
        "product_shows_model": results.mean([float(shown["source"] == "model") for shown in product]),
    }


def _timed(engine: Any, tokenizer: Any, question: str, params: GenerationParams) -> dict[str, Any]:
    """Seconds to the first piece and in all: of the engine alone, and until the product showed a first sentence."""
    answer, first, seconds = streamed(engine, question, params)
    started, first_shown = time.perf_counter(), None
    for reply in respond(question, [], "US", engine=engine, params=params):
        if reply.text and first_shown is None:
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
    timed = {name: [row[name] for row in rows.values() if row.get(name) is not None] for name in
             ("first", "seconds", "product_first", "product_seconds")}  # fmt: skip
    found = {name: results.mean(values) for name, values in timed.items() if values}
    counted = [row for row in rows.values() if row.get("tokens")]
    if counted:
        found["tokens_per_second"] = results.mean([row["tokens"] / row["seconds"] for row in counted])
    return found


# Compared by a judge


def judged(judge_at: endpoints.Endpoint, systems: Sequence[System], reference: str, work: Path) -> dict[str, Any]:
    """Every other system against the reference: for results.json, with each verdict under the digest of its question.

    Raises:
        TrainingError: there is no such reference, or the judge is kin to a model that it would judge.
        GenerationFailed: the judge does not answer; the same command goes on.
    """
    theirs = next((system for system in systems if system.name == reference), None)
    if theirs is None:
        raise TrainingError(
            f"There is no {reference!r} to compare with; there are: {', '.join(s.name for s in systems)}."
        )
    judge.demand_outsider(judge_at.model, [system.about["model"] for system in systems])
    found: dict[str, Any] = {"judge": judge_at.model, "reference": reference, "systems": {}, "verdicts": {}}
    for mine in (system for system in systems if system is not theirs):

        def compare(missing: Sequence[str], mine: System = mine) -> Iterator[tuple[str, dict]]:
            for question in _watched(missing, len(missing), f"{mine.name} against {reference}"):
                verdict = judge.compare(judge_at.say, question, mine.answers[question], theirs.answers[question])
                yield question, {"verdict": verdict}

        questions = [question for question in mine.answers if question in theirs.answers]
        rows = kept(work / f"{mine.name}-{reference}-by-{judge_at.model.replace('/', '-')}.jsonl", questions, compare)
        verdicts = [rows[question]["verdict"] for question in questions]
        words = [[len(measures.words_of(system.answers[q])) for q in questions] for system in (mine, theirs)]
        found["systems"][mine.name] = judge.summary(verdicts, list(zip(*words, strict=True)))
        found["verdicts"][mine.name] = {_digest(question): rows[question]["verdict"] for question in questions}
    return found


# What is written


def report(systems: Sequence[System], test: Test, judgement: dict[str, Any] | None = None) -> dict[str, Any]:
    """results.json: everything but the answers."""
    first, *others = systems
    return {
        "questions": len(test.references),
        "rows": len(test.rows),
        "test_sha256": test.sha256,
        "params": asdict(GenerationParams()),
        "versions": versions(),
        "device": device(),
        "judged": judgement,
        "systems": {
            system.name: {**system.about, "measures": results.summary(system.values), **system.facts}
            for system in systems
        },
        "differences": {system.name: results.differences(system.values, first.values) for system in others},
    }


def samples(systems: Sequence[System], test: Test) -> str:
    """Markdown: some questions, drawn by chance, with every answer as it was written."""
    chosen = random.Random(SEED + 1).sample(sorted(test.references), min(SAMPLED, len(test.references)))
    lines = [
        "# Answers side by side",
        "",
        f"{len(chosen)} questions of the test split, drawn by chance; every answer as the model wrote it, good or bad. "
        "What the product makes of it stands below it.",
    ]
    for question in chosen:
        lines += [
            "",
            "---",
            "",
            f"**Question.** {_quoted(question)}",
            "",
            f"**A counsellor.** {_quoted(test.references[question][0])}",
        ]
        for system in systems:
            text = system.answers[question]
            shown = through_the_product(question, text)
            fate = (
                "shown"
                if shown["source"] == "model"
                else f"a fixed reply instead ({', '.join(shown['withheld']) or 'level 2'})"
            )
            lines += ["", f"**{system.name}.** {_quoted(text)}", "", f"*In the product: {fate}.*"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Without line ends and Markdown of its own."""
    return " ".join(text.replace("*", "\\*").replace("<", "&lt;").split())


def write(systems: Sequence[System], test: Test, out: Path, judgement: dict[str, Any] | None = None) -> dict[str, Any]:
    """results.json, results.md, results.png and samples.md into `out`; the first of these is returned."""
    out.mkdir(parents=True, exist_ok=True)
    found = report(systems, test, judgement)
    (out / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(results.table(found) + "\n" + judge.table(judgement), encoding="utf-8")
    results.plot(found, out / "results.png")
    (out / "samples.md").write_text(samples(systems, test), encoding="utf-8")
    return found


# Kept between runs


def _adapter(adapter: str) -> dict[str, str]:
    """Its name without this machine's folders, and the digest of a local one's weights."""
    if not adapter:
        return {"adapter": ""}
    weights = Path(adapter) / "adapter_model.safetensors"
    if not weights.exists():
        return {"adapter": adapter}
    return {"adapter": Path(adapter).name, "adapter_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def _with_base_of(adapter: str | None, settings: Settings) -> Settings:
    """The settings with the base model that the adapter names, where MODEL_ID names none."""
    if not adapter or settings.model_id:
        return settings
    from peft import PeftConfig

    try:
        base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    except (OSError, ValueError) as error:
        raise TrainingError(f"There is no adapter at {adapter} ({type(error).__name__}); train one first.") from None
    return settings if not base or base == embedded.HUB_ID else replace(settings, model_id=base)


def _demand_same(work: Path, made_by: dict[str, Any]) -> None:
    """Raises TrainingError where `work` holds answers that something else made."""
    note = work / "made_by.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != made_by:
        raise TrainingError(
            f"{work} holds answers of another model, test split or sampling; choose another --work, or delete it."
        )
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(made_by, indent=2) + "\n", encoding="utf-8")


def _key(row: dict[str, str]) -> str:
    return _digest(f"{row['context']}\n{row['response']}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _watched(things: Iterable[Any], count: int, about: str) -> Any:
    return tqdm(things, total=count, desc=about)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("outputs/data"), help="folder that training.prepare wrote")
    parser.add_argument("--adapter", help="folder or Hub id; without it, only the base model is measured")
    parser.add_argument("--endpoint", action="append", default=[], metavar="NAME=MODEL@ADDRESS", help=endpoints.ABOUT)
    parser.add_argument("--judge", metavar="MODEL@ADDRESS", help="compares answers in pairs; of neither model's family")
    parser.add_argument("--reference", default="base", help="what the others are compared with (default base)")
    parser.add_argument("--questions", type=int, default=150, help="of the test split; 0: all (default 150)")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluation/results"), help="folder for the results")
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/evaluation"), help="folder for answers, kept as they come"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        asked = [endpoints.read(text) for text in options.endpoint]
        judge_at = endpoints.read(f"judge={options.judge}")[1] if options.judge else None
        test = read_test(options.data, options.questions)
        settings = _with_base_of(options.adapter, Settings.from_env())
        systems = [local("base", replace(settings, adapter_id=""), test, options.work / "base")]
        if options.adapter:
            systems.append(
                local("adapter", replace(settings, adapter_id=options.adapter), test, options.work / "adapter")
            )
        systems += [remote(name, endpoint, test, options.work / name) for name, endpoint in asked]
        judgement = judged(judge_at, systems, options.reference, options.work) if judge_at else None
    except (TrainingError, EngineError) as error:
        raise SystemExit(str(error)) from None
    write(systems, test, options.out, judgement)
    if os.environ.get(tracking.KEY):
        names = {system.name: system for system in systems}
        answers, abouts = {n: s.answers for n, s in names.items()}, {n: s.about for n, s in names.items()}
        tracking.track(answers, abouts, test.references, test.sha256)
    print((options.out / "results.md").read_text(encoding="utf-8"))
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
