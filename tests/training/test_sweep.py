"""Several runs with a setting changed: each once, measured on the same rows, told side by side."""

from __future__ import annotations

import json

import pytest
import yaml

from training import TrainingError, prepare, sweep


def test_the_sweeps_are_read_as_they_stand():
    for path in sorted((sweep.SWEEPS).glob("*.yaml")):
        runs = sweep.read_sweep(path)
        assert len(runs) > 1 and "seed" in runs


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("runs: {}", "must name a recipe"),
        ("- a", "must name a recipe"),
        ("recipe: training/recipes/demonstration.yaml\noutput: x\nruns: {a: {colour: 3}}", "no setting --colour"),
        ("recipe: training/recipes/demonstration.yaml\noutput: x\nruns: {a: {batch_size: 0}}", "batch_size must be"),
    ],
)
def test_a_sweep_that_cannot_be_used_says_why(tmp_path, content, says):
    (tmp_path / "sweep.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=says):
        sweep.read_sweep(tmp_path / "sweep.yaml")


def test_rows_of_all_processes_count():
    run = {"recipe": {"batch_size": 4, "gradient_accumulation": 2}}
    assert sweep.rows_a_step(run) == 8 and sweep.rows_a_step({**run, "processes": 2}) == 16


def test_older_runs_whose_time_holds_evaluations_are_told_so():
    run = json.loads((sweep.SWEEPS.parents[1] / "model_card/results/sweep/seed.json").read_text(encoding="utf-8"))
    assert "Minutes and tokens/s of old include evaluations." in sweep.table(
        {"old": run, "new": {**run, "evaluation_seconds": 9}}
    )
    assert "include" not in sweep.table({"new": {**run, "evaluation_seconds": 9}})


@pytest.mark.model
def test_runs_are_trained_once_and_told_side_by_side(tmp_path, tiny_model, fixture_csv, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepare.prepare(fixture_csv, tmp_path / "data", validation=0.1, test=0)
    recipe = {
        "base_model": str(tiny_model), "base_model_name": "someone/tiny-llama", "data": str(tmp_path / "data"),
        "max_length": 256, "max_steps": 2, "batch_size": 2, "gradient_accumulation": 1, "logging_steps": 1,
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    plan = {
        "recipe": str(tmp_path / "recipe.yaml"),
        "output": str(tmp_path / "runs"),
        "runs": {"seed": None, "four": {"rows": 4}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    sweep.main([str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out")])
    runs = {
        name: json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8")) for name in ("seed", "four")
    }
    prepared = len((tmp_path / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    assert (runs["seed"]["data"]["train"]["rows"], runs["four"]["data"]["train"]["rows"]) == (prepared, 4)
    assert prepared > 15
    hashes = {(run["data"]["train"]["sha256"], run["data"]["train"]["rows_sha256"]) for run in runs.values()}
    assert len({of_file for of_file, _ in hashes}) == 1 and len({of_rows for _, of_rows in hashes}) == 2
    assert "python -m training.qlora" in runs["four"]["measured"]["command"]
    assert str(tmp_path) not in json.dumps(runs)
    assert runs["seed"]["losses"]["validation_before"] == runs["four"]["losses"]["validation_before"], "the same rows"
    assert "| four | 4 | 256 | 2 |" in capsys.readouterr().out
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 5_000

    monkeypatch.setattr(sweep.subprocess, "run", lambda *args, **options: pytest.fail("trained again"))
    sweep.main([str(tmp_path / "sweep.yaml")])
    plan["runs"]["four"] = {"rows": 5}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    with pytest.raises(SystemExit, match="other settings"):
        sweep.main([str(tmp_path / "sweep.yaml")])
