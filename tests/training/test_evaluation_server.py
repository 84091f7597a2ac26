"""Endpoints and the judge over HTTP, with a real server and model."""

from __future__ import annotations

import json

import pytest

from support.engines import GenerationParams
from tests.serving import needs_it, transformers_serve
from training.evaluation import endpoints, judge, report, results, systems
from training.evaluation.systems import Test

pytestmark = needs_it


@pytest.fixture(scope="module")
def endpoint():
    with transformers_serve() as (_, settings):
        yield endpoints.Endpoint(settings.model_id, settings.remote_base_url, "served")


def test_a_served_model_is_measured(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "RISKY", 1)
    monkeypatch.setattr(systems, "GenerationParams", lambda: GenerationParams(max_new_tokens=24))
    test = Test(
        {"I had a long week and I am tired.": ["Rest is allowed. What would a slow evening look like?"]}, "a" * 64
    )
    system = systems.remote("served", endpoint, test, tmp_path / "work")
    assert system.facts["unanswered"] == 0
    (said,) = system.answers.values()
    assert len(said.split()) > 5 and system.values["rouge_l"].keys() == test.references.keys()
    found = report.write([system], test, tmp_path / "out")
    assert (
        found["systems"]["served"]["seconds"]["first"]["mean"] > 0
        and "loss" not in found["systems"]["served"]["measures"]
    )
    assert results.table(found).count("\n") > 8


def test_a_served_judge_is_asked_in_both_orders(endpoint, monkeypatch):
    monkeypatch.setattr(judge, "PARAMS", GenerationParams(max_new_tokens=48, temperature=0))
    monkeypatch.setattr(judge, "TRIES", 1)
    asked = []

    def say(messages, params):
        asked.append(endpoint.say(messages, params))
        return asked[-1]

    both = judge.asked(say, "Why am I tired?", "You may sleep too little.", "Rest.")
    assert len(asked) == len(both) == 2 and all(asked), "the model said something, sense or not"
    assert both == [judge.read(said) for said in asked]
    summed = judge.summary([both], [(5, 1)])
    assert summed["may_be_called"] in ("not judged", "not shown: too few steady verdicts")
    json.dumps(summed)
