"""Result files -> the model card of an adapter, and the figures in README, through the templates in model_card/.

    python -m training.card --run outputs/adapter/run.json --out outputs/adapter/README.md
    python -m training.card --results model_card/results --out model_card/README.md --readme README.md

Every number comes from a result file; one that is missing is an error, never a blank. With `--results` all files in `COMMANDS`
must be there, and the run is the sweep's `seed`. Knows nothing about training, and uploads nothing.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined, UndefinedError

from support.screening.report import wilson
from training import TrainingError, cost, sweep, writable
from training.evaluation import judge
from training.evaluation import results as tables
from training.evaluation.measures import MEASURES
from training.prepare import HUB_ID as AMOD
from training.record import read_result

TEMPLATES = Path(__file__).parent.parent / "model_card"
COMPLIANCE = TEMPLATES / "compliance.yaml"
BLOCKS = (
    "start",
    "safety",
    "results",
    "speed",
)  # templates; README holds <!-- start --> twice, around what is written anew
COMMANDS = {  # result file -> the command that writes it
    "sweep/seed": "training.sweep",
    "evaluation/results": "training.evaluate",
    "cost/cost": "training.cost",
    "safety/frozen": "support.screening report --json",
    "safety/blind": "support.screening report --json",
    "safety/everyday": "support.screening report --json",
    "safety/asked": "benchmarks.asked --json",
    "safety/replies": "benchmarks.replies --json",
    "safety/read": "benchmarks.replies --out",
    "safety/gate_frozen": "benchmarks.gate --json",
    "safety/gate_second": "benchmarks.gate --json",
    "speed/start": "benchmarks.start --json",
    "speed/quantization": "benchmarks.quantization --json",
    "speed/screening": "benchmarks.screening --json",
    "speed/serving": "benchmarks.serving --json",
    "speed/training": "benchmarks.training --json",
}
LICENCES = {  # base model's Hub id begins with -> licence id on the Hub, sentence on the card
    "meta-llama/Llama-2-": (
        "llama2",
        "Llama 2 is licensed under the LLAMA 2 Community License, Copyright © Meta Platforms, Inc. All Rights "
        "Reserved. What is made from it here goes under the same licence and its acceptable use policy.",
    ),
    "HuggingFaceTB/SmolLM2-": (
        "apache-2.0",
        "The base model and what is made from it here are licensed under Apache-2.0.",
    ),
}
DEMONSTRATION = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Results:
    """A folder of results, as `COMMANDS` names them. That of a published adapter holds no more than its evaluation.

    Raises:
        TrainingError: on reading a file that is not there, with the command that makes it.
    """

    folder: Path
    whole: bool = True  # more than the evaluation is there

    @property
    def run_file(self) -> Path:
        return self.folder / "sweep" / "seed.json"

    def read(self, name: str) -> dict[str, Any]:
        """The result file of this name in `COMMANDS`."""
        return read_result(self.folder / f"{name}.json", COMMANDS[name])

    def group(self, folder: str) -> dict[str, dict[str, Any]]:
        """Name -> result file, of those in this folder."""
        return {name.removeprefix(f"{folder}/"): self.read(name) for name in COMMANDS if name.startswith(f"{folder}/")}

    def sweep(self) -> dict[str, dict[str, Any]]:
        """Name -> run.json, `seed` first."""
        others = sorted(file for file in self.run_file.parent.glob("*.json") if file != self.run_file)
        return {"seed": self.read("sweep/seed"), **{file.stem: read_result(file, "training.sweep") for file in others}}

    def safety(self) -> str:
        """Markdown of what screening and gate find, through model_card/safety.md.j2."""
        files = self.group("safety")
        found = {
            name: {(kind["name"], kind["risk"]): (kind["found"], kind["rows"]) for kind in files[name]["kinds"]}
            for name in ("frozen", "blind", "everyday")
        }
        return _rendered("safety", **files, found=found, share=_share_of)


def render(run_file: Path, licence: str = "", results: Results | None = None, merged_from: str = "") -> ModelCard:
    """The model card for a run.

    Args:
        run_file: run.json as training.qlora writes it.
        licence: the Hub's id of a licence; needed for base models that `LICENCES` does not know, where the run names none.
        results: what else was measured; None: the card says that nothing else was.
        merged_from: the adapter's repo, where the card is of base and adapter as one model.

    Raises:
        TrainingError: the file is missing or unreadable, lacks a number, or the licence is unknown.
    """
    run = read_result(run_file, "training.qlora")
    try:
        base, source = run["base_model"], run["data"]["source"]
        licence_id, sentence = licence_of(base, licence or run.get("licence", ""))
        amod = source == AMOD
        evaluation = results.read("evaluation/results") if results else None
        content = _rendered(
            "card",
            metadata=_metadata(base, licence_id, amod, evaluation, merged=bool(merged_from)).to_yaml(),
            **_measured(results, evaluation),
            compliance=yaml.safe_load(COMPLIANCE.read_text(encoding="utf-8")),
            share=_share,
            run=run,
            merged_from=merged_from,
            sources={file: _made(found) for file, found in _sources(run, results).items()},
            amod=amod,
            demonstration=base == DEMONSTRATION,
            base_licence=sentence,
            written_by="`python -m training.card`",
        )
    except (KeyError, TypeError, UndefinedError) as error:
        raise TrainingError(
            f"{run_file} or a file of the results lacks a value that the card shows ({error}); write it anew with "
            "`python -m training.qlora`, `training.evaluate` or `training.cost`."
        ) from None
    return ModelCard(content)


def _measured(results: Results | None, evaluation: dict[str, Any] | None) -> dict[str, Any]:
    """What the template shows beyond the run, ready to read."""
    if results is None or evaluation is None:
        return {"evaluation": None, "sweep": "", "cost": "", "safety": "", "folder": ""}
    apart = evaluation["differences"]["adapter"]
    for system in (evaluation["systems"]["base"], evaluation["systems"]["adapter"]):
        shown = [system["measures"][name] for name in MEASURES] + [system[group][name] for group, name in tables.FACTS]
        if not all(math.isfinite(estimate[key]) for estimate in shown for key in ("mean", "low", "high")):
            raise KeyError("a number that is none")
    return {
        "evaluation": evaluation,
        "evaluation_table": f"{tables.table(evaluation)}\n{tables.facts_table(evaluation)}",
        "worse": [MEASURES[name].about for name, found in apart.items() if tables.verdict(name, found) == "worse"],
        "judged": judge.table(evaluation["judged"]),
        "sweep": sweep.table(results.sweep()) if results.whole else "",
        "cost": cost.table(results.read("cost/cost")) if results.whole else "",
        "safety": results.safety() if results.whole else "",
        "folder": f"{results.folder.name}/" if results.whole else "",
    }


def _share_of(count: int, rows: int) -> str:
    """A share with Wilson's 95 % interval."""
    low, high = wilson(count, rows)
    return f"{count / rows:.2f} ({low:.2f}-{high:.2f})"


def _where(found: dict[str, Any]) -> str:
    """The machine on which a result file was measured, and the day."""
    machine = found["measured"]["machine"]
    if isinstance(machine, str):  # written by hand
        return f"machine {machine}, {found['measured']['date']}"
    card = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    bf16 = "with" if machine["bf16"] else "without"
    return f"{card}{machine['cores']} cores of {machine['processor']} {bf16} bf16, {found['measured']['date']}"


def _made(found: dict[str, Any]) -> str:
    """By which command a result file was made, where and when, as far as it tells."""
    told = found.get("measured", {})
    if "command" not in told:  # from before it was noted
        committed = f"; committed {told['committed']}" if "committed" in told else ""
        return f"command, day and machine were not recorded{committed}"
    by_hand = f". {told['transcribed']}" if "transcribed" in told else ""
    return f"`{told['command']}`, {_where(found)}{by_hand}"


def _sources(run: dict[str, Any], results: Results | None) -> dict[str, dict[str, Any]]:
    """Each result file that the card shows numbers from -> what it holds."""
    if results is None:
        return {"run.json": run}
    if not results.whole:
        return {"run.json": run, "evaluation/results.json": results.read("evaluation/results")}
    runs = {f"sweep/{name}.json": found for name, found in results.sweep().items()}
    shown = [name for name in COMMANDS if name.startswith(("evaluation/", "cost/", "safety/"))]
    return {**runs, **{f"{name}.json": results.read(name) for name in shown}}


def _rendered(template: str, **values: Any) -> str:
    """A template filled; a value that is missing or null is an error. Not `ModelCard.from_template`: it renders nothing there."""
    environment = Environment(undefined=StrictUndefined, finalize=_not_null, keep_trailing_newline=True)
    text = (TEMPLATES / f"{template}.md.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(**values, where=_where)


def _share(estimate: dict[str, float]) -> str:
    return f"{estimate['mean']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def fill(readme: str, results: Results) -> str:
    """README with the figures between its marks written anew.

    Raises:
        TrainingError: the marks or a result file are missing.
    """
    try:
        evaluation = results.read("evaluation/results")
        values = {**_measured(results, evaluation), "run": results.read("sweep/seed"), "speed": results.group("speed")}
        blocks = {name: values["safety"] if name == "safety" else _rendered(name, **values) for name in BLOCKS}
    except (KeyError, TypeError, UndefinedError) as error:
        raise TrainingError(
            f"A file in {results.folder} lacks a value that README shows ({error}); make it anew."
        ) from None
    for name, block in blocks.items():
        mark = f"<!-- {name} -->"
        parts = readme.split(mark)
        if len(parts) != 3:
            raise TrainingError(f"README must hold the line {mark} twice, around its figures.")
        readme = f"{parts[0]}{mark}\n{block.strip()}\n{mark}{parts[2]}"
    return readme


def licence_of(base: str, chosen: str = "") -> tuple[str, str]:
    """(the Hub's id, a sentence for the card). Raises TrainingError where the base is not known here and none was chosen."""
    if chosen:
        return chosen, f"What is here goes under {chosen}; the licence of {base} applies beside it."
    for beginning, known in LICENCES.items():
        if base.startswith(beginning):
            return known
    raise TrainingError(
        f"The licence of {base} is not known here; look it up on the Hub and pass it with --licence, or set "
        "`licence` in the recipe."
    )


def _metadata(
    base: str, licence: str, amod: bool, evaluation: dict[str, Any] | None, merged: bool = False
) -> ModelCardData:
    measured: dict[str, Any] = {}
    if evaluation:
        measured = {"model_name": "counselling-lora", "eval_results": _eval_results(evaluation, amod)}
    return ModelCardData(
        **measured,
        base_model=base,
        # "merge" is the Hub's word for several models made one.
        base_model_relation="finetune" if merged else "adapter",
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        language="en",
        license=licence,
        datasets=[AMOD] if amod else None,
        tags=[*([] if merged else ["lora"]), "qlora", "self-help", "mental-health"],
    )


def _eval_results(evaluation: dict[str, Any], amod: bool) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=AMOD if amod else "private",
            dataset_name=f"held-out questions ({evaluation['questions']})",
            metric_type=name,
            metric_name=MEASURES[name].about,
            metric_value=evaluation["systems"]["adapter"]["measures"][name]["mean"],
        )
        for name in ("loss", "rouge_l", "similarity")
    ]


def _not_null(value: Any) -> Any:
    """StrictUndefined finds keys that are not there; a null in the file is as missing."""
    if value is None:
        raise UndefinedError("a value is null")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, help="default: outputs/adapter/run.json, or that of --results")
    parser.add_argument(
        "--results", type=Path, help="folder with evaluation, sweep and cost, such as model_card/results"
    )
    parser.add_argument("--readme", type=Path, help="write the figures between its marks anew; needs --results")
    parser.add_argument("--out", type=Path, help="default: README.md beside the run")
    parser.add_argument(
        "--licence", "--license", default="", help="Hub id of the licence, for base models that are not known here"
    )
    options = parser.parse_args()
    if options.readme and not options.results:
        parser.error("--readme needs --results")
    results = Results(options.results) if options.results else None
    run_file = options.run or (results.run_file if results else Path("outputs/adapter/run.json"))
    out = options.out or (options.results.parent / "README.md" if options.results else run_file.with_name("README.md"))
    try:
        card = render(run_file, options.licence, results)
        writable(out.parent)
        if options.readme and results:
            options.readme.write_text(fill(options.readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    card.save(out)
    print(f"Wrote {out}. Read it before you publish it.")


if __name__ == "__main__":
    main()
