"""Measure a base model, its adapter and any server beside them on questions that nothing was trained on or stopped by.

    python -m training.evaluate --adapter outputs/adapter --out model_card/results/evaluation
    python -m training.evaluate --adapter outputs/adapter --endpoint chatgpt=gpt-4o-mini@https://api.openai.com/v1 \\
        --reference chatgpt --judge claude@https://some-server/v1

The local models are those that the app would serve, loaded as it loads them (MODEL_ID, QUANTIZATION and so on count). Each
question of the test split is asked once. What a model says is measured raw, and as the product shows it: screened and gated.
Writes results.json, results.md, results.png and samples.md, into the adapter's folder `evaluation` where nothing else is named.
Answers are kept in --work as they come: killed on the way, the same command goes on. Without a judge
the report says "not judged". With LANGSMITH_API_KEY set, the same values are uploaded as experiments.

Knows nothing about training.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from support.engines import EngineError
from support.engines.choice import Hardware, choose
from support.settings import Settings
from training import TrainingError, writable
from training.evaluation import endpoints, judge, measures, report, tracking
from training.evaluation.answers import kept
from training.evaluation.systems import System, digest, local, read_test, remote, with_base_of

RESULTS = Path("outputs/evaluation/results")


def judged(judge_at: endpoints.Endpoint, systems: Sequence[System], reference: str, work: Path) -> dict[str, Any]:
    """Every other system against the reference: for results.json, with each verdict under the digest of its question.

    Raises:
        GenerationFailed: the judge does not answer; the same command goes on.
    """
    theirs = next(system for system in systems if system.name == reference)
    found: dict[str, Any] = {"judge": judge_at.model, "reference": reference, "systems": {}, "verdicts": {}}
    for mine in (system for system in systems if system is not theirs):
        pairs = {
            digest(f"{judge.RUBRIC}\n{q}\n{mine.answers[q]}\n{theirs.answers[q]}"): q
            for q in mine.answers
            if q in theirs.answers
        }

        def compare(
            missing: Sequence[str], mine: System = mine, pairs: dict[str, str] = pairs
        ) -> Iterator[tuple[str, dict]]:
            for key in tqdm(missing, desc=f"{mine.name} against {reference}"):
                question = pairs[key]
                yield (
                    key,
                    {"both": judge.asked(judge_at.say, question, mine.answers[question], theirs.answers[question])},
                )

        rows = kept(work / f"{mine.name}-{reference}-by-{judge_at.model.replace('/', '-')}.jsonl", pairs, compare)
        words = [[len(measures.words_of(s.answers[q])) for q in pairs.values()] for s in (mine, theirs)]
        found["systems"][mine.name] = judge.summary(
            [rows[key]["both"] for key in pairs], list(zip(*words, strict=True))
        )
        found["verdicts"][mine.name] = {digest(question): rows[key]["both"] for key, question in pairs.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("outputs/data"), help="folder that training.prepare wrote")
    parser.add_argument("--adapter", help="folder or Hub id; without it, only the base model is measured")
    parser.add_argument("--endpoint", action="append", default=[], metavar="NAME=MODEL@ADDRESS", help=endpoints.ABOUT)
    parser.add_argument(
        "--judge", metavar="MODEL@ADDRESS", help="compares answers in pairs; of no compared model's family"
    )
    parser.add_argument("--reference", default="base", help="what the judge compares the others with (default base)")
    parser.add_argument("--questions", type=int, default=150, help="of the test split; 0: all (default 150)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder for the results (default: ADAPTER/evaluation, where training.publish looks; else {RESULTS})",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/evaluation"), help="folder for answers, kept as they come"
    )
    options = parser.parse_args()
    # A Hub id is no folder, and then there is nothing beside which the results could lie.
    beside = options.adapter and Path(options.adapter).is_dir()
    options.out = options.out or (Path(options.adapter) / "evaluation" if beside else RESULTS)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        asked = dict(endpoints.read(text) for text in options.endpoint)
        judge_at = endpoints.read(f"judge={options.judge}")[1] if options.judge else None
        names = ["base", *(["adapter"] if options.adapter else []), *asked]
        if judge_at and options.reference not in names:
            raise TrainingError(f"There is no {options.reference!r} to compare with; there are: {', '.join(names)}.")
        test = read_test(options.data, options.questions)
        writable(options.out), writable(options.work)
        settings = with_base_of(options.adapter, Settings.from_env())
        if judge_at:  # before hours of asking, not after
            base = choose(settings, Hardware.detect()).model
            judge.demand_outsider(judge_at.model, [base, *(endpoint.model for endpoint in asked.values())])
        systems = [local("base", replace(settings, adapter_id=""), test, options.work / "base")]
        report.write(systems, test, options.out)
        if options.adapter:
            systems.append(
                local("adapter", replace(settings, adapter_id=options.adapter), test, options.work / "adapter")
            )
            report.write(systems, test, options.out)
        for name, endpoint in asked.items():
            systems.append(remote(name, endpoint, test, options.work / name))
            report.write(systems, test, options.out)
        judgement = judged(judge_at, systems, options.reference, options.work) if judge_at else None
    except (TrainingError, EngineError) as error:
        raise SystemExit(str(error)) from None
    print(report.text(report.write(systems, test, options.out, judgement)))
    if os.environ.get(tracking.KEY):
        tracking.track(systems, test)
    for system in systems:
        if unanswered := system.facts.get("unanswered"):
            print(f"{system.name} left {unanswered} questions unanswered; the same command asks them again.")
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    main()
