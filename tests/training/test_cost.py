"""What an answer costs: sums that can be checked by hand, and prices that must be dated."""

from __future__ import annotations

import json

import pytest

from training import TrainingError, cost
from training.cost import Answer, Serving

WRITTEN_ALONE = Answer(tokens=200, prompt_tokens=0)


@pytest.mark.parametrize(("api", "tokens_per_second"), [("gpt-4o", 74), ("gpt-3.5-turbo", 494), ("gpt-4o-mini", 1235)])
def test_where_a_t4_would_cost_85_percent_less(api, tokens_per_second):
    found = cost.costs(cost.read_prices(), WRITTEN_ALONE)
    assert found["break_even_tokens_per_second"]["T4"][api] == pytest.approx(tokens_per_second, abs=0.6)


def test_at_the_break_even_it_costs_just_so_much_less():
    prices = cost.read_prices()
    needed = cost.costs(prices, Answer())["break_even_tokens_per_second"]["L4"]["gpt-4o"]
    found = cost.costs(prices, Answer(), Serving("L4", needed))["serving"]
    assert found["less_than"]["gpt-4o"] == pytest.approx(0.85)
    half = cost.costs(prices, Answer(), Serving("L4", needed, utilisation=0.5))["serving"]
    assert half["dollars_per_answer"] == pytest.approx(2 * found["dollars_per_answer"])
    assert half["less_than"]["gpt-4o"] == pytest.approx(0.70)


def test_a_dollar_by_hand():
    found = cost.costs({"gathered_on": "2026", "hardware": {"T4": 3.6}, "apis": {"x": {"input": 1, "output": 10}}},
                       Answer(tokens=100, prompt_tokens=300), Serving("T4", 10))  # fmt: skip
    assert found["serving"]["dollars_per_million"] == pytest.approx(100), "$0.001 a second, ten tokens a second"
    assert found["serving"]["dollars_per_answer"] == pytest.approx(0.01)
    assert found["api_dollars_per_answer"]["x"] == pytest.approx((300 * 1 + 100 * 10) / 1e6)
    assert "-669%" in cost.table(found), "dearer is said as it is"


def test_what_cannot_be_priced_is_said():
    with pytest.raises(TrainingError, match="no price for P100"):
        cost.costs(cost.read_prices(), Answer(), Serving("P100", 10))
    for speed, utilisation in ((0, 1), (10, 1.2)):
        with pytest.raises(TrainingError, match="utilisation"):
            Serving("T4", speed, utilisation)


@pytest.mark.parametrize(
    "text", ["hardware: {T4: 1}\napis: {}", "gathered_on: 2026\nhardware: {T4: 0}\napis: {}", "- a", "a: ["]
)
def test_prices_without_a_date_or_a_price_are_refused(tmp_path, text):
    (tmp_path / "prices.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match="gathered_on"):
        cost.read_prices(tmp_path / "prices.yaml")


def test_training_hours_are_priced_where_the_card_has_a_price():
    run = {"training_seconds": 1800, "device": "Tesla T4", "peak_memory_gib": 6.0}
    assert cost.training_costs(run, cost.read_prices())["dollars"] == pytest.approx(0.2)
    assert cost.training_costs({**run, "device": "NVIDIA L40S"}, cost.read_prices())["dollars"] is None
    assert cost.training_costs({**run, "device": "cpu"}, cost.read_prices())["hours"] == 0.5
    apart = cost.training_costs({**run, "evaluation_seconds": 900}, cost.read_prices())
    assert apart["hours"] == 0.5 and apart["dollars"] == pytest.approx(0.3), "evaluations are paid too"
    found = cost.costs(cost.read_prices(), Answer())
    for training, says in (
        (apart, "0.50 hours, and its evaluations 0.25,"),
        ({**apart, "evaluation_hours": None}, "included"),
    ):
        assert says in cost.table({**found, "training": training})


def test_the_command_takes_tokens_from_the_evaluation(tmp_path, monkeypatch, capsys):
    tokens = {"answer": {"mean": 123.0}, "prompt": {"mean": 222.0}}
    (tmp_path / "results.json").write_text(json.dumps({"systems": {"base": {"tokens": tokens}}}), encoding="utf-8")
    arguments = ["cost", "--evaluation", str(tmp_path / "results.json"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    cost.main()
    assert "an answer of 123 tokens after a prompt of 222" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "cost.json").read_text(encoding="utf-8"))
    assert found["measured"]["command"].endswith("--evaluation results.json --out out"), (
        "without this machine's folders"
    )
    assert found["answer"] == {"tokens": 123.0, "prompt_tokens": 222.0} and found["serving"] is None
    assert 0.9 < found["memory"]["less"] < 0.96, "6 to 8 GiB of some 100"
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    for run, says in (
        (tmp_path / "nothing.json", "training.qlora` first"),
        (tmp_path / "run.json", "lacks 'training_seconds'"),
    ):
        monkeypatch.setattr("sys.argv", ["cost", "--run", str(run)])
        with pytest.raises(SystemExit, match=says):
            cost.main()
    monkeypatch.setattr("sys.argv", ["cost", "--hardware", "T4"])
    with pytest.raises(SystemExit, match="go together"):
        cost.main()
