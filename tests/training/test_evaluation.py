"""What is measured on answers, how it is summed up, how a judge is asked, and that a killed evaluation goes on."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import prompt
from support.engines import GenerationFailed, GenerationParams
from support.settings import Settings
from tests.training.langsmith_server import serving
from training import TrainingError, evaluate
from training.evaluation import endpoints, judge, measures, report, results, systems, tracking
from training.evaluation.answers import Spoken, kept, streamed, through_the_product

CALM = (
    "It sounds like the nights are long. What has helped you to rest before? "
    "Perhaps a short walk after dinner would be a start."
)

# --- Measures of one answer ---


def test_measures_of_an_answer():
    values = measures.of_answer(CALM, ["You could try a short walk after dinner.", "Something else."])
    assert values["words"] == 24 and values["distinct_2"] == 1 and values["repeated"] == 0
    assert 0.2 < values["rouge_l"] < 0.6, "the closer of two references counts"
    assert values["refusal"] == values["withheld"] == values["empty"] == values["names_a_line"] == 0


def test_an_empty_answer_is_that_and_nothing_else():
    assert measures.of_answer(" ... ", [CALM]) == {"empty": 1.0}


def test_an_answer_that_repeats_itself_shows():
    once, again = "Take a slow breath and look around you. ", measures.of_answer(CALM, [CALM])
    values = measures.of_answer(once * 4, [CALM])
    assert values["repeated"] > 0.7 > 0.5 > values["distinct_2"]
    assert again["rouge_l"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I am not able to provide an answer.", True),
        ("I’m unable to assist you.", True),
        ("I won't be able to help you with this.", True),
        ("I'm sorry to hear that you can't sleep.", False),
        ("I'm sorry for your loss, and glad that you asked for help.", False),
        ("I'm sorry that your week was so hard. You can't do everything.", False),
        ("Nobody can help being sad now and then.", False),
    ],
)
def test_refusals(text, refuses):
    assert measures.of_answer(text, [CALM])["refusal"] == refuses


def test_what_the_gate_would_withhold_shows():
    assert measures.of_answer("You clearly have bipolar disorder. " + CALM, [CALM])["withheld"] == 1


def test_the_grade_grows_with_words_and_sentences():
    assert measures.grade("I see. It is sad. We can sit.") < 1 < measures.grade(CALM) < 9
    one_sentence = CALM.replace(".", ",").replace("?", ",")
    assert measures.grade(one_sentence) > measures.grade(CALM) + 5
    assert measures.grade(CALM.replace("rest", "regenerate")) > measures.grade(CALM)
    assert measures.grade("...") == 0


def test_answers_that_begin_alike():
    texts = ["I hear that you are sad today.", "I hear that you are tired.", "What a week!", "", ""]
    assert measures.same_openings(texts) == [1, 1, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_finite_measures(text):
    values = measures.of_answer(text, [CALM])
    assert all(math.isfinite(value) and value >= 0 for value in values.values())
    assert all(values.get(name, 0) <= 1 for name in ("rouge_l", "distinct_1", "distinct_2", "repeated"))
    assert values.keys() <= measures.MEASURES.keys()


@pytest.mark.model
def test_likeness_by_the_encoder():
    same, far = measures.similarities(
        [CALM, "The train leaves platform four at noon."], [[CALM, "Something else."], ["I hear how sad you are."]]
    )
    assert same == pytest.approx(1, abs=1e-4) and far < 0.9


# --- Means and intervals ---


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_a_mean_lies_in_its_interval(values):
    found = results.mean(values)
    assert found["n"] == len(values) and found["mean"] == pytest.approx(sum(values) / len(values), abs=1e-4)
    assert found["low"] - 1e-4 <= found["mean"] <= found["high"] + 1e-4


def test_weights_and_constant_values():
    assert results.mean([1.0, 3.0], [3.0, 1.0])["mean"] == 1.5
    assert results.mean([2.0, 2.0]) == {"mean": 2.0, "low": 2.0, "high": 2.0, "n": 2}
    assert results.mean([2.0])["low"] == 2.0


def test_none_of_forty_is_not_surely_none():
    found = results.mean([0.0] * 40)
    assert found["mean"] == found["low"] == 0 and 0.08 < found["high"] < 0.1
    assert results.mean([1.0] * 40)["low"] == pytest.approx(1 - found["high"], abs=1e-3)


def test_the_perplexity_is_that_of_the_mean_loss():
    found = results.summary({"loss": {"a": (2.0, 3.0), "b": (3.0, 1.0)}})
    assert found["perplexity"]["mean"] == pytest.approx(math.exp(2.25), abs=0.01)


def test_measures_of_words_are_left_out_where_there_are_none():
    assert results.summary({"same_opening": {}, "similarity": {}}) == {}
    assert results.summary({"empty": {"a": (1.0, 1.0)}, "similarity": {}}).keys() == {"empty"}


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    draw = random.Random(1)
    hits = 0
    for _ in range(100):
        found = results.mean([draw.gauss(5, 2) for _ in range(60)])
        hits += found["low"] <= 5 <= found["high"]
    assert 85 <= hits <= 100


def test_a_difference_goes_pair_by_pair():
    base = {str(i): (float(i), 1.0) for i in range(30)}
    adapter = {key: (value - 0.5, weight) for key, (value, weight) in base.items()} | {"alone": (99.0, 1.0)}
    found = results.difference(adapter, base)
    assert (found["mean"], found["low"], found["high"], found["n"]) == (-0.5, -0.5, -0.5, 30)
    assert results.verdict("loss", found) == "better" and results.verdict("rouge_l", found) == "worse"
    for name in ("words", "distinct_1", "distinct_2"):
        assert results.verdict(name, found) == "", "neither way is better"
    assert results.verdict("loss", {"mean": -0.1, "low": -0.3, "high": 0.1, "n": 3}) == ""


def test_the_table_says_what_was_not_measured():
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    both = {"measures": {"words": estimate}, "product": {"words": estimate}, "problems": {}}
    base = {**both, "measures": {"loss": estimate, "words": estimate}, "problems": {"romance": estimate}}
    found = {"systems": {"base": base, "far": both}, "differences": {"far": {"words": estimate}}}
    lines = results.table(found).splitlines()
    assert len(lines) == 5 and "not measured" in lines[2] and "0.500 (0.400 to 0.600)" in lines[2]
    assert lines[4].startswith("| shown to a person: words")
    assert "| withheld for: romance | 0.500 (0.400 to 0.600) | none |" in results.facts_table(found)


# --- Kept answers ---


def test_what_was_made_is_kept_and_the_rest_is_made(tmp_path):
    path, asked = tmp_path / "new" / "rows.jsonl", []

    def make(missing):
        asked.append(list(missing))
        for key in missing:
            if key == "c" and len(asked) == 1:
                raise KeyboardInterrupt
            yield key, {"text": key * 2}

    with pytest.raises(KeyboardInterrupt):
        kept(path, "abcd", make)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"key": "c", "row": {"te')  # killed while it wrote
    rows = kept(path, "abcda", make)
    assert asked == [["a", "b", "c", "d"], ["c", "d"]]
    assert rows == {key: {"text": key * 2} for key in "abcd"}
    assert kept(path, "db", make) == {"d": {"text": "dd"}, "b": {"text": "bb"}} and len(asked) == 2


def test_a_reply_goes_through_the_whole_product():
    calm = through_the_product("I had a long week.", CALM)
    assert calm["source"] == "model" and calm["shown"].strip() == CALM
    withheld = through_the_product("I had a long week.", "You clearly have bipolar disorder.")
    assert withheld["source"] == "template" and withheld["withheld"] == ["diagnosis"]
    assert through_the_product("I want to kill myself tonight.", CALM)["level"] >= 2


def test_a_spoken_answer_is_timed():
    answer, first, seconds = streamed(Spoken(CALM), "Why?")
    assert answer.text == CALM and 0 < first <= seconds


# --- The judge ---


def says(choose):
    """A judge that answers in JSON what `choose(first answer, second answer)` says: "A", "B" or "tie"."""

    def ask(messages, params):
        text = messages[-1]["content"]
        a, b = (text.split(f"<{name}>\n")[1].split(f"\n</{name}>")[0] for name in "ab")
        said = choose(a, b)
        return f"Here is my verdict: {json.dumps(dict.fromkeys([*judge.DIMENSIONS, judge.OVERALL], said))}."

    return ask


ALL = [*judge.DIMENSIONS, judge.OVERALL]
WIN, LOSS = ([dict.fromkeys(ALL, word) for word in words] for words in ("AB", "BA"))


def test_a_judge_that_always_says_a_gives_ties_and_may_say_nothing():
    both = judge.asked(says(lambda a, b: "A"), "Why?", "mine", "theirs")
    assert set(judge.combined(both).values()) == {"tie"} and judge.combined(both).keys() == {
        *judge.DIMENSIONS,
        "overall",
    }
    summed = judge.summary([both] * 50, [(9, 9)] * 50)
    assert summed["overall"]["tie"] == 50 and summed["steady"] == 0 and summed["may_be_called"].startswith("not shown")


def test_a_judge_that_holds_to_an_answer_is_believed():
    longer = says(lambda a, b: "A" if len(a) > len(b) else "B")
    assert judge.asked(longer, "Why?", "a long answer", "short") == WIN
    assert set(judge.combined(WIN).values()) == {"win"} and set(judge.combined(LOSS).values()) == {"loss"}


@pytest.mark.parametrize(
    "said",
    ["", "A is better.", '{"empathy": "A"}', '{"overall": "A", "empathy": ', "[1]", '{"empathy": 7, "overall": "C"}'],
)
def test_a_judge_that_cannot_be_read_is_no_verdict(said):
    tries = []
    both = judge.asked(lambda *_: tries.append(1) or said, "Why?", "mine", "theirs")
    assert both == [None, None] and judge.combined(both) is None and len(tries) == 2 * judge.TRIES


def test_a_taste_for_length_is_taken_out():
    draw = random.Random(0)
    lengths = [(round(draw.gauss(160, 40)), round(draw.gauss(120, 40))) for _ in range(300)]
    pairs = [WIN if draw.random() < 1 / (1 + math.exp((b - a) / 25)) else LOSS for a, b in lengths]
    summed = judge.summary(pairs, lengths)
    assert summed["overall"]["score"]["low"] > 0.6, "the longer answers win more"
    assert summed["length_controlled"]["low"] < 0.5 < summed["length_controlled"]["high"] + 0.03
    assert summed["pairs"] == 300 and summed["overall"]["win"] + summed["overall"]["loss"] == 300


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.55, 0.7, "better"),
        (0.42, 0.55, "similar"),
        (0.41, 0.48, "similar"),
        (0.3, 0.55, "not shown to be similar"),
        (0.2, 0.45, "worse"),
    ],
)
def test_the_margin_decides_the_word(low, high, word):
    assert judge.may_be_called({"mean": (low + high) / 2, "low": low, "high": high, "n": 100}) == word


def test_few_or_unreadable_verdicts_say_nothing():
    tie = [dict.fromkeys(ALL, "tie")] * 2
    assert judge.summary([[None, WIN[1]]] * 2, [(1, 2), (3, 4)])["may_be_called"] == "not judged"
    assert judge.summary([WIN] * 5, [(9, 9)] * 5)["may_be_called"].startswith("not shown")
    assert judge.summary([*[WIN] * 40, *[[None, None]] * 10], [(9, 9)] * 50)["may_be_called"].startswith("not shown")
    summed = judge.summary([[None, None], *[tie] * 39], [(9, 9)] * 40)
    assert summed["may_be_called"] == "similar"
    told = judge.table({"judge": "J", "reference": "base", "systems": {"adapter": summed}})
    assert "39 of 40" in told and "similar |" in told and "Not judged" in judge.table(None)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama"),
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("mistralai/Mixtral-8x7B", "mistral"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("someone/else", "else"),
        ("dolphin-2", "dolphin-2"),
        ("lmsys/vicuna-7b", "llama"),
    ],
)
def test_families(model, family):
    assert judge.family(model) == family


def test_a_judge_of_the_family_is_refused():
    with pytest.raises(TrainingError, match="one family"):
        judge.demand_outsider("gpt-4o", ["meta-llama/Llama-2-7b-chat-hf", "gpt-3.5-turbo"])
    judge.demand_outsider("claude-sonnet", ["meta-llama/Llama-2-7b-chat-hf", "gpt-3.5-turbo"])


# --- Endpoints ---


def test_an_endpoint_is_read():
    name, endpoint = endpoints.read("chat-gpt=org/gpt@4@https://api.openai.com/v1")
    assert (name, endpoint.model, endpoint.address) == ("chat-gpt", "org/gpt@4", "https://api.openai.com/v1")
    for wrong in ("gpt", "x=gpt", "x=gpt@ftp://a", "base=gpt@https://a", "a/b=gpt@https://a", "=gpt@https://a"):
        with pytest.raises(TrainingError):
            endpoints.read(wrong)


def test_the_key_goes_to_its_own_address_alone(monkeypatch):
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "MY_JUDGE_API_KEY"):
        monkeypatch.setenv(name, name.lower())
    keys = {
        ("x", "https://api.openai.com/v1"): "openai_api_key",
        ("x", "https://evilopenai.com/v1"): "none",
        ("x", "https://abc.endpoints.huggingface.cloud/v1"): "hf_token",
        ("my-judge", "https://a-server.example/v1"): "my_judge_api_key",
        ("x", "http://127.0.0.1:8000/v1"): "none",
    }
    for (name, address), key in keys.items():
        assert endpoints.Endpoint("m", address, name).engine()._settings.hf_token == key, address


class Faulty(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that fails as its list of faults says, then answers."""

    said = "All is well."
    faults: ClassVar[list] = []
    seen: ClassVar[list] = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.faults.pop(0) if self.faults else None
        self.seen.append(fault)
        if isinstance(fault, int):
            self.send_error(fault)
        elif fault == "silence":
            threading.Event().wait(1.5)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            choice = {"index": 0, "delta": {"role": "assistant", "content": self.said}}
            chunk = {"id": "1", "model": "m", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
            said = "{not json" if fault == "malformed" else json.dumps(chunk)
            self.wfile.write(f"data: {said}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(endpoints.retried, "__defaults__", (0.01,))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Faulty.faults, Faulty.seen = [], []
    yield endpoints.Endpoint("m", f"http://127.0.0.1:{server.server_port}/v1")
    server.shutdown()
    server.server_close()


MESSAGES = prompt.build([{"role": "user", "content": "How are you?"}])


@pytest.mark.server
@pytest.mark.parametrize("fault", [429, 500, "malformed", "silence"])
def test_a_server_that_fails_is_asked_again(faulty, fault):
    Faulty.faults = [fault, fault]
    assert faulty.say(MESSAGES, GenerationParams(), seconds=0.5) == "All is well."
    assert Faulty.seen == [fault, fault, None]


@pytest.mark.server
def test_a_served_judge_that_always_says_a_gives_ties(faulty, monkeypatch):
    monkeypatch.setattr(Faulty, "said", json.dumps(dict.fromkeys(ALL, "A")))
    Faulty.faults = [429, "malformed"]
    both = judge.asked(faulty.say, "Why?", "mine", "theirs")
    assert set(judge.combined(both).values()) == {"tie"} and len(Faulty.seen) == 4


@pytest.mark.server
@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_is_asked_once(faulty, status):
    Faulty.faults = [status] * 99
    with pytest.raises(endpoints.Refused, match=str(status)):
        faulty.say(MESSAGES, GenerationParams())
    assert len(Faulty.seen) == 1
    with pytest.raises(endpoints.Refused):
        list(endpoints.ask_all(faulty, [str(i) for i in range(40)], GenerationParams()))
    assert len(Faulty.seen) < 20


@pytest.mark.server
def test_a_server_is_measured_and_what_it_left_open_is_asked_again(faulty, work, monkeypatch):
    monkeypatch.setattr(systems, "RISKY", 2)
    test = systems.read_test(work / "data", 4)
    Faulty.faults = [500] * (endpoints.AT_ONCE * endpoints.TRIES)  # the first four questions, each time
    none = systems.remote("far", faulty, test, work / "far")
    assert none.facts["unanswered"] == 4 and report.write([none], test, work / "far" / "none"), "the next is reached"
    system = systems.remote("far", faulty, test, work / "far")
    assert system.facts["unanswered"] == 0 and set(system.answers.values()) == {"All is well."}
    assert "loss" not in system.values and "whole" not in system.values and system.facts["seconds"]["first"]["n"] == 4
    told = report.text(report.write([system], test, work / "far" / "out"))
    assert "not measured" not in told and "seconds to the first words" in told


@pytest.mark.server
def test_a_server_that_goes_on_failing_is_an_error_and_loses_one_question(faulty):
    Faulty.faults = [500] * endpoints.TRIES
    with pytest.raises(GenerationFailed):
        faulty.say(MESSAGES, GenerationParams())
    Faulty.faults = [503] * endpoints.TRIES
    asked = list(endpoints.ask_all(faulty, ["Only this one?"], GenerationParams()))
    assert asked == []
    answers = list(endpoints.ask_all(faulty, ["One?", "Two?", "Three?"], GenerationParams()))
    assert sorted(answer.question for answer, _, _ in answers) == ["One?", "Three?", "Two?"]


# --- LangSmith ---


def measured(test, **texts) -> list[systems.System]:
    """Systems that say one thing to every question."""
    found = []
    for name, text in texts.items():
        system = systems.System(name, {"model": f"someone/{name}"})
        systems.add_answers(system, {question: {"text": text, "whole": True} for question in test.references}, test)
        found.append(system)
    return found


@pytest.mark.model
def test_without_a_key_an_experiment_runs_here_and_nothing_leaves(work, monkeypatch):
    monkeypatch.delenv(tracking.KEY, raising=False)
    test = systems.read_test(work / "data", 3)
    both = measured(test, base=CALM, adapter="Rest. " * 8)

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = tracking.track(both, test)
    for system in both:
        expected = {name: sum(v for v, _ in of.values()) / len(of) for name, of in system.values.items()}
        assert found[system.name] == pytest.approx(expected)
    assert found["adapter"]["repeated"] > found["base"]["repeated"] == 0


TRACKED = """
from training.evaluation.systems import System, Test
from training.evaluation.tracking import track
test = Test({"How do I sleep?": ["Keep the same hours."], "Why am I sad?": ["Something may be missing."]}, "a" * 64)
def system(name, words):
    values = {"words": {question: (words, 1.0) for question in test.references}}
    return System(name, {"model": name}, values, answers=dict.fromkeys(test.references, name))
print(track([system("base", 10.0), system("adapter", 20.0)], test))
"""


@pytest.mark.server
def test_with_a_key_each_system_is_an_experiment_of_one_dataset(tmp_path):
    def run(server):
        environment = {
            **os.environ,
            "LANGSMITH_API_KEY": "a-key",
            "LANGSMITH_ENDPOINT": server.url,
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", TRACKED], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    with serving() as server:
        assert "{'base': {'words': 10.0}, 'adapter': {'words': 20.0}}" in run(server)
        assert len(server.datasets) == 1 and len(server.examples) == 2 and server.keys == {"a-key"}
        assert [session["name"].split("-")[0] for session in server.sessions] == ["base", "adapter"]
        assert sorted(entry["score"] for entry in server.feedback) == [10.0, 10.0, 20.0, 20.0]
        assert {run["outputs"]["answer"] for run in server.runs if "answer" in (run.get("outputs") or {})} == {
            "base",
            "adapter",
        }
        run(server)
        assert len(server.datasets) == 1 and len(server.examples) == 2 and len(server.sessions) == 4, (
            "runs compare across time"
        )


# --- The whole command ---


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    rows = [
        {"context": f"How do I get on with day number {i}?", "response": f"{CALM} And day {i} will end too."}
        for i in range(6)
    ]
    rows.append({"context": rows[0]["context"], "response": "Another counsellor says that mornings help most people."})
    (folder / "data").mkdir()
    (folder / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.model
def test_a_model_is_measured_and_a_killed_run_goes_on(work, tiny_model, monkeypatch):
    monkeypatch.setattr(systems, "RISKY", 2)
    monkeypatch.setattr(systems, "TIMED", 1)
    test = systems.read_test(work / "data", 4)
    assert len(test.references) == 4 and systems.read_test(work / "data", 0).references.keys() > test.references.keys()
    settings = Settings(model_id=str(tiny_model), max_new_tokens=16)
    system = systems.local("base", settings, test, work / "base")
    assert set(system.values) == measures.MEASURES.keys() - {"perplexity"}
    assert all(len(values) == 4 for values in system.values.values())
    assert 3 < results.summary(system.values)["loss"]["mean"] < 8, "an untrained model of 300 words"
    assert system.facts["at_risk"]["product_gives_crisis_reply"]["n"] == 2

    lines = (work / "base" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    (work / "base" / "answers.jsonl").write_text("\n".join(lines[:3]) + "\n" + lines[3][:9], encoding="utf-8")
    made = []
    whole = systems.batched
    monkeypatch.setattr(
        systems,
        "batched",
        lambda loaded, questions, params: made.append(questions) or whole(loaded, questions, params),
    )
    again = systems.local("base", settings, test, work / "base")
    assert [len(questions) for questions in made] == [1], "only the answer that was lost is made anew"
    assert again.values["loss"] == system.values["loss"]
    with pytest.raises(TrainingError, match="another model"):
        systems.local("base", settings, replace(test, sha256="another split"), work / "base")

    other = replace(system, name="adapter", about={"model": "someone/other"})
    found = report.write([system, other], test, work / "out")
    assert found == json.loads((work / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["differences"]["adapter"]["loss"]["mean"] == 0 and found["judged"] is None
    assert "Not judged" in (work / "out" / "results.md").read_text(encoding="utf-8")
    samples = (work / "out" / "samples.md").read_text(encoding="utf-8")
    assert samples.count("**Question.**") == 4 and samples.count("**base.**") == 4
    assert (work / "out" / "results.png").stat().st_size > 10_000
    assert str(work) not in json.dumps(found)


@pytest.mark.model
def test_the_loss_is_the_models_own(work, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.encoding import encode

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    rows = systems.read_test(work / "data", 0).rows[:3]
    for row, (loss, tokens) in zip(rows, systems.losses(model, tokenizer, rows), strict=True):
        encoded = {name: torch.tensor([ids]) for name, ids in encode(row, tokenizer, systems.LONGEST).items()}
        assert loss == pytest.approx(model(**encoded).loss.item(), rel=1e-4)
        assert tokens == sum(label >= 0 for label in encoded["labels"][0].tolist())


def test_more_questions_than_there_are(work):
    with pytest.raises(TrainingError, match="holds 6 questions"):
        systems.read_test(work / "data", 7)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("local", [False, True])
def test_results_lie_beside_the_adapter_where_publish_looks(tmp_path, monkeypatch, local, told):
    if local:
        (tmp_path / "adapter").mkdir()
    adapter, written = str(tmp_path / "adapter") if local else "you/adapter", []
    monkeypatch.setattr(evaluate, "read_test", lambda *_: None)
    monkeypatch.setattr(evaluate, "with_base_of", lambda adapter, settings: settings)
    monkeypatch.setattr(evaluate, "local", lambda name, *rest: systems.System(name, {}))
    monkeypatch.setattr(evaluate.report, "write", lambda systems, test, out, *rest: written.append(out))
    monkeypatch.setattr(evaluate.report, "text", lambda found: "")
    monkeypatch.setattr("sys.argv", ["evaluate", "--adapter", adapter, *(["--out", "there"] if told else [])])
    evaluate.main()
    expected = Path("there") if told else tmp_path / "adapter" / "evaluation" if local else evaluate.RESULTS
    assert {*written} == {expected}


@pytest.mark.model
def test_a_judge_compares_systems_and_goes_on(work, monkeypatch):
    test = systems.read_test(work / "data", 0)
    short, long = measured(test, short="Rest.", long=CALM)
    tries = []

    def say(self, messages, params):
        tries.append(1)
        if len(tries) == 6:
            raise GenerationFailed("busy")
        return says(lambda a, b: "A" if len(a) > len(b) else "B")(messages, params)

    monkeypatch.setattr(endpoints.Endpoint, "say", say)
    at = endpoints.Endpoint("judge-model", "http://127.0.0.1:1/v1")
    with pytest.raises(GenerationFailed):
        evaluate.judged(at, [short, long], "short", work / "judge")
    found = evaluate.judged(at, [short, long], "short", work / "judge")
    assert len(tries) == 6 + 2 * 4, "two verdicts were kept"
    assert found["systems"]["long"]["overall"]["win"] == 6
    assert list(found["verdicts"]["long"].values()) == [WIN] * 6
    other = measured(test, long="Another answer, which is long too.")[0]
    evaluate.judged(at, [short, other], "short", work / "judge")
    assert len(tries) == 6 + 2 * 4 + 2 * 6, "verdicts on other answers do not count for these"


def test_a_reference_that_is_not_there_is_said_at_once(work, monkeypatch):
    arguments = ["evaluate", "--data", str(work / "data"), "--judge", "m@http://127.0.0.1:1/v1", "--reference", "gpt"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="no 'gpt'"):
        evaluate.main()
