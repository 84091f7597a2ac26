"""The adapter's card and README's figures: numbers only from files, licences, and words that promise no more than support."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from training import TrainingError, card, prepare

RUN = {
    "base_model": "meta-llama/Llama-2-7b-chat-hf",
    "recipe": {
        "quantization": "nf4",
        "max_length": 512,
        "batch_size": 4,
        "gradient_accumulation": 4,
        "learning_rate": 0.0002,
        "lora_r": 16,
        "seed": 0,
    },
    "versions": {"torch": "2.13.0", "peft": "0.21.2"},
    "device": "Some Card",
    "compute_dtype": "float16",
    "data": {
        "source": prepare.HUB_ID,
        "rows_read": 3512,
        "dropped": {"empty_response": 4, "duplicate": 1041},
        "train": {"rows": 901, "sha256": "a" * 64},
        "validation": {"rows": 99, "sha256": "b" * 64},
    },
    "steps": 57,
    "losses": {"validation_before": 2.3456, "validation_after": 1.9876},
    "trainable_parameters": 39976960,
    "training_seconds": 1234.5,
    "tokens_per_second": 208.7,
    "peak_memory_gib": 6.21,
    "planned_memory_gib": 7.08,
    "resumed": False,
    "reload": {"max_logit_difference": 0.0, "adapter_effect": 4.5},
}


@pytest.fixture
def render(tmp_path):
    def write_and_render(run, licence=""):
        path = tmp_path / "run.json"
        path.write_text(json.dumps(run), encoding="utf-8")
        return card.render(path, licence)

    return write_and_render


def changed(*path, value=None, gone=False):
    run = copy.deepcopy(RUN)
    place = run
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return run


def test_numbers_are_those_of_the_file(render):
    text = str(render(RUN))
    for number in ("2.3456", "1.9876", "901", "99", "3512", "1041", "57, 16 rows", "1234.5", "208.7", "39976960"):
        assert number in text, number


def test_rows_of_a_step_are_those_of_all_processes(render):
    assert "57, 32 rows each" in str(render(changed("processes", value=2)))


def test_the_rows_add_up(render):
    assert "The other 1467 are the test split, which training never sees.\n" in str(render(RUN))
    drawn = str(render(changed("recipe", "rows", value=901)))
    assert "never sees, and those not among the 901 drawn to train on." in drawn
    assert "The other" not in str(render(changed("data", "rows_read", value=2045)))


def test_metadata_and_licences(render):
    made = render(RUN)
    assert made.data.license == "llama2" and made.data.base_model == RUN["base_model"]
    assert made.data.datasets == [prepare.HUB_ID] and made.data.library_name == "peft"
    assert "LLAMA 2 Community License" in made.text and "rail-d" in made.text
    other = render(changed("data", "source", value="own.csv"))
    assert other.data.datasets is None and "rail-d" not in other.text


def test_words_promise_no_more_than_support(render):
    said = "\n".join(
        line for line in str(render(RUN)).splitlines() if "::test_" not in line
    )  # laws say what they forbid
    assert not re.findall(r"therap|treatment|treats|diagnos|patient|cure", said, flags=re.IGNORECASE)
    assert "findahelpline.com" in str(render(RUN))


def test_the_demonstration_says_that_it_is_one(render):
    assert "demonstration" not in str(render(RUN))
    demonstration = render(changed("base_model", value="HuggingFaceTB/SmolLM2-135M-Instruct"))
    assert "A demonstration only" in demonstration.text and demonstration.data.license == "apache-2.0"


@pytest.mark.parametrize(
    "path",
    [
        ("losses", "validation_after"),
        ("data", "train", "rows"),
        ("reload", "adapter_effect"),
        ("tokens_per_second",),
        ("data",),
    ],
    ids=".".join,
)
def test_a_number_that_is_missing_is_an_error(render, path):
    for run in (changed(*path, gone=True), changed(*path, value=None)):
        with pytest.raises(TrainingError, match=r"lacks a value.*training\.qlora"):
            render(run)


def test_a_file_that_is_missing_or_broken_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"There is no .*training\.qlora"):
        card.render(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match="not JSON"):
        card.render(tmp_path / "run.json")


def test_an_unknown_licence_is_asked_for(render):
    run = changed("base_model", value="someone/model")
    with pytest.raises(TrainingError, match="--licence"):
        render(run)
    assert render(run, "mit").data.license == "mit"


def test_the_command_writes_the_card(tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    out = tmp_path / "README.md"
    monkeypatch.setattr("sys.argv", ["card", "--run", str(tmp_path / "run.json"), "--out", str(out)])
    card.main()
    assert out.read_text(encoding="utf-8").startswith("---\nbase_model: meta-llama/Llama-2-7b-chat-hf\n")


# --- With results ---

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "model_card" / "results"


@pytest.fixture
def results(tmp_path):
    """A copy of the repo's results, and its README, to change."""
    shutil.copytree(RESULTS, tmp_path / "results")
    return card.Results(tmp_path / "results")


def test_card_and_readme_in_the_repo_are_those_of_the_results():
    results, readme = card.Results(RESULTS), (ROOT / "README.md").read_text(encoding="utf-8")
    assert str(card.render(results.run_file, results=results)) == (RESULTS.parent / "README.md").read_text(
        encoding="utf-8"
    )
    assert card.fill(readme, results) == readme, "python -m training.card --results ... --readme README.md"


def test_a_changed_result_changes_card_and_readme(results):
    file = results.folder / "evaluation" / "results.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    loss = found["systems"]["adapter"]["measures"]["loss"]
    loss["mean"] = 1.2345
    file.write_text(json.dumps(found), encoding="utf-8")
    made = card.render(results.run_file, results=results)
    assert "1.234" in made.text and made.data.eval_results[0].metric_value == 1.2345
    readme = card.fill((ROOT / "README.md").read_text(encoding="utf-8"), results)
    assert "1.234" in readme and readme != (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("sweep/seed", ("data", "train", "rows")),
        ("cost/cost", ("training", "hours")),
        ("safety/frozen", ("kinds", 0, "rows")),
        ("safety/frozen", ("languages", 0, "found")),
        ("safety/blind", ("kinds", 0, "found")),
        ("safety/everyday", ("kinds", -1, "found")),
        ("safety/asked", ("levels", "2", "found")),
        ("safety/replies", ("others", "withheld")),
        ("safety/read", ("firm",)),
        ("safety/gate_frozen", ("problems", "ok", "both")),
        ("safety/gate_second", ("problems", "ok", "alone")),
        ("speed/start", ("seconds", "page")),
        ("speed/quantization", ("precisions", "bf16", "tok/s")),
        ("speed/screening", ("milliseconds", "rules and requests", "p95")),
        ("speed/serving", ("ratios", "errors", "value")),
        ("speed/serving", ("soak", "replies")),
        ("speed/training", ("systems", "TRL's defaults", "tokens/s")),
    ],
)
def test_every_result_file_changes_readme(results, name, path):
    file = results.folder / f"{name}.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += 1
    file.write_text(json.dumps(found), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert card.fill(readme, results) != readme
    del place[path[-1]]
    file.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(TrainingError, match="lacks a value"):
        card.fill(readme, results)


@pytest.mark.parametrize(("name", "command"), card.COMMANDS.items())
def test_a_result_that_is_not_there_fails_the_build(results, name, command):
    (results.folder / f"{name}.json").unlink()
    with pytest.raises(TrainingError, match=f"There is no .*{command}"):
        card.fill((ROOT / "README.md").read_text(encoding="utf-8"), results)
    if not name.startswith("speed/"):  # the card is of the adapter, not of this machine
        with pytest.raises(TrainingError, match=f"There is no .*{command}"):
            card.render(RESULTS / "sweep" / "seed.json", results=results)


def test_no_measured_figure_is_typed_into_readme():
    """Shares, and numbers with the unit of a measurement, stand between marks or not at all."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in card.BLOCKS:
        text = re.sub(f"<!-- {name} -->.*<!-- {name} -->", "", text, flags=re.DOTALL)
    share, unit = (
        r"(?<![\d.])0\.\d+(?![\d.])",
        r"\d[\d,.]* ?(?:%|m?s|seconds|minutes|hours|[MG]i?B|tokens|nats|times)\b",
    )
    typed = set(re.findall(rf"{share}|{unit}|\d+ of (?:the )?\d+", text))
    # Weights of Llama 2 in NF4, bits times parameters; a constant of the remote engines.
    assert typed == {"4 GB", "15 s"}


def test_a_number_that_is_not_in_the_results_fails_the_build(results):
    file = results.folder / "evaluation" / "results.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    del found["systems"]["adapter"]["at_risk"]["product_shows_model"]
    file.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(TrainingError, match="lacks a value"):
        card.render(results.run_file, results=results)
    with pytest.raises(TrainingError, match="lacks a value"):
        card.fill((ROOT / "README.md").read_text(encoding="utf-8"), results)


def test_a_readme_without_marks_is_refused():
    with pytest.raises(TrainingError, match="twice"):
        card.fill("A README without marks.", card.Results(RESULTS))


def test_every_law_names_tests_that_are_there():
    rows = yaml.safe_load(card.COMPLIANCE.read_text(encoding="utf-8"))
    laws = " ".join(row["law"] for row in rows)
    assert all(name in laws for name in ("13-72a", "article 47", "SB 243", "225 ILCS 155", "article 50"))
    for row in rows:
        assert row["tests"] or row["missing"], row["law"]
        for test in row["tests"]:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test
