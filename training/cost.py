"""What an answer costs: on hardware of one's own at a measured speed, and from an API. What training costs, in hours and memory.

    python -m training.cost --hardware T4 --tokens-per-second 35 --utilisation 0.3
    python -m training.cost --evaluation model_card/results/evaluation/results.json --run outputs/adapter/run.json --out DIR

Prices are in `prices.yaml`, with their date. Without a speed only the break-even is told: how many tokens a second, all chats
together, the hardware must write so that an answer costs less by the share that is claimed. No operations are compared: how
many a vendor's model needs is not known.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from training import TrainingError, plan, record, writable
from training.recipe import Recipe

PRICES = Path(__file__).parent / "prices.yaml"
LESS = 0.85  # the share that the project's claim says
FULL_BYTES = (
    2 + 2 + 4 + 8
)  # of a weight in full fine-tuning: weight and gradient in bf16, a copy and Adam's two in fp32


@dataclass(frozen=True)
class Answer:
    """Tokens of a mean answer, and of the prompt before it. A prompt of 0 compares what is written alone."""

    tokens: float = 200
    prompt_tokens: float = 300


@dataclass(frozen=True)
class Serving:
    """Hardware of one's own. `tokens_per_second`: of all chats together; `utilisation`: the share of the paid time in use."""

    hardware: str
    tokens_per_second: float
    utilisation: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tokens_per_second > 0 and 0 < self.utilisation <= 1):
            raise TrainingError("tokens per second must be above 0, and utilisation above 0 and at most 1.")


def read_prices(path: Path = PRICES) -> dict[str, Any]:
    """prices.yaml. Raises TrainingError: it lacks something, or has no date."""
    try:
        prices = yaml.safe_load(path.read_text(encoding="utf-8"))
        prices["gathered_on"] = str(prices["gathered_on"])
        if not all(price > 0 for price in prices["hardware"].values()):
            raise ValueError("a price of hardware is not above 0")
        for api in prices["apis"].values():
            float(api["input"]), float(api["output"])
        return prices
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"{path} must hold gathered_on, hardware and apis ({type(error).__name__}: {error})."
        ) from None


def per_million(price_per_hour: float, serving: Serving) -> float:
    """Dollars for a million written tokens."""
    return price_per_hour / 3600 / (serving.tokens_per_second * serving.utilisation) * 1e6


def api_per_million(api: Mapping[str, float], answer: Answer) -> float:
    """Dollars for a million written tokens, with the prompts that they take."""
    return api["output"] + api["input"] * answer.prompt_tokens / answer.tokens


def break_even(price_per_hour: float, api: Mapping[str, float], answer: Answer, less: float = LESS) -> float:
    """Tokens a second at which hardware in full use costs less than the API by the share `less`."""
    return price_per_hour / 3600 / ((1 - less) * api_per_million(api, answer) / 1e6)


def costs(
    prices: Mapping[str, Any], answer: Answer, serving: Serving | None = None, less: float = LESS
) -> dict[str, Any]:
    """Everything about answers, as cost.json holds it.

    Raises:
        TrainingError: the hardware has no price.
    """
    found: dict[str, Any] = {
        "prices": dict(prices),
        "answer": asdict(answer),
        "less": less,
        "api_dollars_per_answer": {
            name: api_per_million(api, answer) * answer.tokens / 1e6 for name, api in prices["apis"].items()
        },
        "break_even_tokens_per_second": {
            hardware: {name: break_even(price, api, answer, less) for name, api in prices["apis"].items()}
            for hardware, price in prices["hardware"].items()
        },
        "serving": None,
    }
    if serving:
        if serving.hardware not in prices["hardware"]:
            raise TrainingError(
                f"prices.yaml has no price for {serving.hardware}; it has: {', '.join(prices['hardware'])}."
            )
        mine = per_million(prices["hardware"][serving.hardware], serving)
        found["serving"] = {
            **asdict(serving),
            "dollars_per_million": mine,
            "dollars_per_answer": mine * answer.tokens / 1e6,
            "paid_seconds_per_answer": answer.tokens / (serving.tokens_per_second * serving.utilisation),
            "less_than": {name: 1 - mine / api_per_million(api, answer) for name, api in prices["apis"].items()},
        }
    return found


def training_costs(run: Mapping[str, Any], prices: Mapping[str, Any]) -> dict[str, Any]:
    """Hours of a run's training and of its evaluations, and what both cost where its device has a price.

    Older files count both as training: then `evaluation_hours` is None.
    """
    hours, evaluations = run["training_seconds"] / 3600, run.get("evaluation_seconds")
    paid = hours + (evaluations or 0) / 3600
    card = next((name for name in prices["hardware"] if re.search(rf"\b{name}\b", run["device"])), None)
    return {
        "device": run["device"],
        "hours": hours,
        "evaluation_hours": None if evaluations is None else evaluations / 3600,
        "dollars": paid * prices["hardware"][card] if card else None,
        "peak_memory_gib": run["peak_memory_gib"],
    }


def memory_costs(recipe: Recipe, base_model: str) -> dict[str, Any]:
    """GiB that the recipe needs by the planner's count, and that training all weights would: weights and optimizer alone."""
    shape = plan.shape_of(base_model)
    qlora = sum(plan.memory(shape, replace(recipe, base_model=base_model)).values())
    full = (shape.linear + shape.other) * FULL_BYTES / plan.GIB
    return {"base_model": base_model, "qlora_gib": qlora, "full_fine_tuning_gib": full, "less": 1 - qlora / full}


def table(found: Mapping[str, Any]) -> str:
    """Markdown."""
    prices, answer = found["prices"], found["answer"]
    names = list(prices["apis"])
    lines = [
        f"Prices of {prices['gathered_on']}; an answer of {answer['tokens']:.0f} tokens after a prompt of "
        f"{answer['prompt_tokens']:.0f}.",
        "",
        f"| | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        "| dollars for 1,000 answers | "
        + " | ".join(f"{found['api_dollars_per_answer'][n] * 1000:.3f}" for n in names)
        + " |",
    ]
    for hardware, needed in found["break_even_tokens_per_second"].items():
        cells = " | ".join(f"{needed[name]:.0f}" for name in names)
        lines.append(
            f"| tokens/s that a {hardware} in full use must write to cost {found['less']:.0%} less | {cells} |"
        )
    if serving := found["serving"]:
        cells = " | ".join(f"{serving['less_than'][name]:.0%}" for name in names)
        lines.append(
            f"| {serving['hardware']} at {serving['tokens_per_second']:.0f} tokens/s, {serving['utilisation']:.0%} in use: "
            f"${serving['dollars_per_answer'] * 1000:.3f} for 1,000 answers, which is less by | {cells} |"
        )
    if memory := found.get("memory"):
        lines += [
            "",
            f"Training {memory['base_model']}: {memory['qlora_gib']:.1f} GiB by the seed's recipe (planned); weights and "
            f"optimizer of full fine-tuning alone are {memory['full_fine_tuning_gib']:.0f} GiB: {memory['less']:.0%} less.",
        ]
    if training := found.get("training"):
        paid = f", ${training['dollars']:.2f}" if training["dollars"] is not None else ""
        evaluations = training.get("evaluation_hours")
        apart = "evaluations included" if evaluations is None else f"and its evaluations {evaluations:.2f}"
        lines += [
            "",
            f"The training that the adapter comes from took {training['hours']:.2f} hours, {apart}, on "
            f"{training['device']}{paid}.",
        ]
    return "\n".join(lines) + "\n"


def _answer_of(evaluation: Path) -> Answer:
    """Mean tokens of an answer and its prompt, as the last local system was measured."""
    systems = record.read_result(evaluation, "training.evaluate").get("systems", {})
    measured = [system["tokens"] for system in systems.values() if system.get("tokens")]
    if not measured:
        raise TrainingError(f"{evaluation} holds no local model's tokens; run training.evaluate.")
    return Answer(measured[-1]["answer"]["mean"], measured[-1]["prompt"]["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.cost", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prices", type=Path, default=PRICES)
    parser.add_argument("--hardware", help="such as T4: a name in prices.yaml")
    parser.add_argument("--tokens-per-second", type=float, help="measured, all chats together")
    parser.add_argument(
        "--utilisation", type=float, default=1.0, help="share of the paid time in which it writes (default 1)"
    )
    parser.add_argument("--tokens", type=float, help="of a mean answer")
    parser.add_argument("--prompt-tokens", type=float, help="before it")
    parser.add_argument("--less", type=float, default=LESS, help="the share that is claimed (default 0.85)")
    parser.add_argument("--evaluation", type=Path, help="results.json of training.evaluate: takes the tokens from it")
    parser.add_argument("--run", type=Path, help="run.json: adds what training took")
    parser.add_argument("--base_model", default="meta-llama/Llama-2-7b-chat-hf", help="whose memory is compared")
    parser.add_argument("--out", type=Path, help="folder for cost.json and cost.md")
    options = parser.parse_args()
    try:
        if options.out:
            writable(options.out)
        prices = read_prices(options.prices)
        answer = _answer_of(options.evaluation) if options.evaluation else Answer()
        answer = Answer(
            options.tokens or answer.tokens,
            answer.prompt_tokens if options.prompt_tokens is None else options.prompt_tokens,
        )
        serving = None
        if options.hardware and options.tokens_per_second:
            serving = Serving(options.hardware, options.tokens_per_second, options.utilisation)
        elif options.hardware or options.tokens_per_second:
            raise TrainingError("--hardware and --tokens-per-second go together.")
        found = costs(prices, answer, serving, options.less)
        found["memory"] = memory_costs(Recipe(), options.base_model)
        if options.run:
            found["training"] = training_costs(record.read_result(options.run, "training.qlora"), prices)
        found["measured"] = record.made_by()
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    except KeyError as error:
        raise SystemExit(f"{options.run} lacks {error}; is it the run.json of a finished training.qlora?") from None
    if options.out:
        (options.out / "cost.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (options.out / "cost.md").write_text(table(found), encoding="utf-8")
    print(table(found), end="")


if __name__ == "__main__":
    main()
