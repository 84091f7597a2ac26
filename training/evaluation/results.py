"""From values of single questions to what is published: means with bootstrap intervals, differences, a table, a plot.

    mean([1.0, 0.0, 1.0])                 {"mean": .667, "low": 0.0, "high": 1.0, "n": 3}
    difference(adapter, base)             of the same questions, pair by pair

Knows nothing about models. An interval says how much chance there is in *which questions were asked*; not how the result would
move with another seed or another training run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from support.screening.report import wilson
from training.evaluation.measures import MEASURES

RESAMPLES = 2_000
CONFIDENCE = 0.95

Estimate = dict[str, float]
Values = Mapping[str, tuple[float, float]]  # question -> value and its weight


def mean(values: Sequence[float], weights: Sequence[float] | None = None) -> Estimate:
    """Weighted mean with its 95 % percentile bootstrap interval over questions (Efron 1979)."""
    if weights is None and set(values) in ({0.0}, {1.0}):
        return _all_alike(int(sum(values)), len(values))
    numbers = np.asarray(values, float)
    weight = np.ones_like(numbers) if weights is None else np.asarray(weights, float)
    return estimate((numbers * weight, weight), lambda sums, of, axis=-1: sums.sum(axis) / of.sum(axis))


def _all_alike(count: int, of: int) -> Estimate:
    """All of them or none: drawing them again gives no interval, so it is Wilson's."""
    low, high = wilson(count, of)
    return {"mean": count / of, "low": round(low, 4), "high": round(high, 4), "n": of}


def difference(of: Values, minus: Values) -> Estimate:
    """Mean of `of` less that of `minus`, over the questions that both have."""
    both = [question for question in of if question in minus]
    (a, v), (b, w) = (np.array([side[question] for question in both], float).T for side in (of, minus))

    def statistic(a: Any, v: Any, b: Any, w: Any, axis: int = -1) -> Any:
        return a.sum(axis) / v.sum(axis) - b.sum(axis) / w.sum(axis)

    return estimate((a * v, v, b * w, w), statistic)


def estimate(data: tuple[Any, ...], statistic: Any, vectorized: bool = True, resamples: int = RESAMPLES) -> Estimate:
    """A statistic of paired columns, and its interval. See `scipy.stats.bootstrap` for `statistic` and `vectorized`."""
    from scipy.stats import bootstrap

    value = float(statistic(*data))
    low = high = value
    if len({tuple(row) for row in np.stack(data, 1).tolist()}) > 1:
        interval = bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=vectorized,
            n_resamples=resamples,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return {"mean": round(value, 4), "low": round(low, 4), "high": round(high, 4), "n": len(data[0])}


def summary(values: Mapping[str, Values]) -> dict[str, Estimate]:
    """Measure -> estimate, and the perplexity that the loss means."""
    found = {}
    for name, of in values.items():
        if not of:  # a measure of words, where every answer failed or is empty
            continue
        numbers, weights = zip(*of.values(), strict=True)
        found[name] = mean(numbers, None if set(weights) == {1.0} else weights)
    if "loss" in found:
        found["perplexity"] = {
            key: value if key == "n" else round(math.exp(value), 2) for key, value in found["loss"].items()
        }
    return found


def differences(of: Mapping[str, Values], minus: Mapping[str, Values]) -> dict[str, Estimate]:
    """Measure -> estimate of the difference, for measures that both have."""
    return {
        name: difference(of[name], minus[name]) for name in of if name in minus and of[name].keys() & minus[name].keys()
    }


def verdict(name: str, estimate: Estimate) -> str:
    """ "better", "worse", or "" where the interval holds 0 or neither way is better."""
    better = MEASURES[name].better
    if not better or estimate["low"] <= 0 <= estimate["high"]:
        return ""
    return "better" if (estimate["mean"] > 0) == (better == "more") else "worse"


def table(results: Mapping[str, Any]) -> str:
    """Markdown: a line for each measure, a column for each system, and the differences from the first.

    Below the measures of what was written stand those of what a person is shown.
    """
    systems, first = results["systems"], next(iter(results["systems"]))
    others = [name for name in systems if name != first]
    header = ["measure", *systems, *(f"{name} - {first}" for name in others), ""]
    lines = [header, ["---"] * len(header)]
    for name, measure in MEASURES.items():
        if not any(name in system["measures"] for system in systems.values()):
            continue
        cells = [_cell(system["measures"].get(name)) for system in systems.values()]
        apart = [results["differences"][other].get(name) for other in others]
        verdicts = {other: verdict(name, estimate) for other, estimate in zip(others, apart, strict=True) if estimate}
        said = ", ".join(f"{other} {word}" if len(others) > 1 else word for other, word in verdicts.items() if word)
        lines.append([measure.about, *cells, *(_cell(estimate) if estimate else "" for estimate in apart), said])
    for name in MEASURES:
        cells = [_cell(system["product"].get(name)) for system in systems.values()]
        if any(name in system["product"] for system in systems.values()):
            lines.append([f"shown to a person: {MEASURES[name].about}", *cells, *[""] * (len(others) + 1)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


FACTS = {
    ("seconds", "first"): "seconds to the first words, one chat",
    ("seconds", "product_first"): "seconds to the first sentence that passed the gate",
    ("seconds", "seconds"): "seconds for an answer",
    ("seconds", "tokens_per_second"): "tokens a second, one chat",
    ("tokens", "answer"): "tokens of an answer",
    ("at_risk", "model_names_a_line"): "of messages at risk: the model names a crisis line",
    ("at_risk", "product_names_a_line"): "the product names one",
    ("at_risk", "product_gives_crisis_reply"): "the product gives a crisis reply",
    ("at_risk", "product_shows_model"): "the product shows the model's words",
}


def facts_table(results: Mapping[str, Any]) -> str:
    """Markdown: times, messages at risk, and why the gate withholds."""
    systems = results["systems"]
    lines = [["", *systems], ["---"] * (len(systems) + 1)]
    for (group, name), about in FACTS.items():
        if any(name in system.get(group, {}) for system in systems.values()):
            lines.append([about, *(_cell(system.get(group, {}).get(name)) for system in systems.values())])
    for problem in dict.fromkeys(problem for system in systems.values() for problem in system["problems"]):
        cells = [_cell(found) if (found := system["problems"].get(problem)) else "none" for system in systems.values()]
        lines.append([f"withheld for: {problem.replace('_', ' ')}", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not measured"
    digits = 1 if abs(estimate["high"]) >= 10 else 3
    return f"{estimate['mean']:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Each measure in a panel of its own: a point and an interval for each system."""
    from matplotlib.figure import Figure

    systems = results["systems"]
    names = [name for name in MEASURES if any(name in system["measures"] for system in systems.values())]
    columns = 4
    rows = max(1, -(-len(names) // columns))  # nothing was measured: an empty picture
    figure = Figure(figsize=(3 * columns, 1.2 * rows + 0.3 * rows * len(systems)), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for name, panel in zip(names, panels.flat, strict=False):
        for i, system in enumerate(systems.values()):
            if estimate := system["measures"].get(name):
                panel.plot([estimate["low"], estimate["high"]], [i, i], color="tab:gray")
                panel.plot(estimate["mean"], i, "o", color=f"C{i}")
        panel.set(yticks=range(len(systems)), yticklabels=list(systems), ylim=(len(systems) - 0.5, -0.5))
        better = MEASURES[name].better
        panel.set_title(f"{name}{f' ({better} is better)' if better else ''}", fontsize=9)
    figure.savefig(path, dpi=110)
