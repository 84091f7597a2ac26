"""What is measured on answers, how it is summed up, how a judge is asked, and that a killed evaluation goes on."""

from __future__ import annotations

import json
import math
import random
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import prompt
from support.engines import GenerationFailed, GenerationParams
from support.settings import Settings
from training import TrainingError, evaluate
from training.evaluation import endpoints, judge, measures, results, tracking
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
    assert values["refusal"] == 0 and values["withheld"] == 0


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
        ("I'm sorry that your week was so hard. You can't do everything.", False),
        ("Nobody can help being sad now and then.", False),
    ],
)
def test_refusals(text, refuses):
    assert measures.of_answer(text, [CALM])["refusal"] == refuses


def test_what_the_gate_would_withhold_is_named():
    values = measures.of_answer("You clearly have bipolar disorder. " + CALM, [CALM])
    assert values["withheld"] == 1 and values["withheld.diagnosis"] == 1


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
    assert all(values[name] <= 1 for name in ("rouge_l", "distinct_2", "repeated"))
    assert {name.partition(".")[0] for name in values} <= measures.MEASURES.keys()


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
    assert results.verdict("loss", found) == "better" and results.verdict("distinct_2", found) == "worse"
    assert results.verdict("words", found) == "", "neither way is better"
    assert results.verdict("loss", {"mean": -0.1, "low": -0.3, "high": 0.1, "n": 3}) == ""


def test_the_table_says_what_was_not_measured():
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    found = {
        "systems": {
            "base": {"measures": {"loss": estimate, "words": estimate}},
            "far": {"measures": {"words": estimate}},
        },
        "differences": {"far": {"words": estimate}},
    }
    lines = results.table(found).splitlines()
    assert len(lines) == 4 and "not measured" in lines[2] and "0.500 (0.400 to 0.600)" in lines[2]


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


def test_a_judge_that_always_says_a_gives_ties_alone():
    verdict = judge.compare(says(lambda a, b: "A"), "Why?", "mine", "theirs")
    assert verdict and set(verdict.values()) == {"tie"} and set(verdict) == {*judge.DIMENSIONS, "overall"}


def test_a_judge_that_holds_to_an_answer_is_believed():
    longer = says(lambda a, b: "A" if len(a) > len(b) else "B")
    assert set(judge.compare(longer, "Why?", "a long answer", "short").values()) == {"win"}
    assert set(judge.compare(longer, "Why?", "short", "a long answer").values()) == {"loss"}


@pytest.mark.parametrize(
    "said",
    ["", "A is better.", '{"empathy": "A"}', '{"overall": "A", "empathy": ', "[1]", '{"empathy": 7, "overall": "C"}'],
)
def test_a_judge_that_cannot_be_read_is_no_verdict(said):
    asked = []
    assert judge.compare(lambda *_: asked.append(1) or said, "Why?", "mine", "theirs") is None
    assert len(asked) == 2 * judge.TRIES


def test_a_taste_for_length_is_taken_out():
    draw = random.Random(0)
    lengths = [(round(draw.gauss(160, 40)), round(draw.gauss(120, 40))) for _ in range(300)]
    verdicts = [
        dict.fromkeys(
            [*judge.DIMENSIONS, "overall"], "win" if draw.random() < 1 / (1 + math.exp((b - a) / 25)) else "loss"
        )
        for a, b in lengths
    ]
    summed = judge.summary(verdicts, lengths)
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


def test_without_a_verdict_nothing_is_said():
    assert judge.summary([None, None], [(1, 2), (3, 4)])["may_be_called"] == "not judged"
    assert "Not judged" in judge.table(None)
    summed = judge.summary([None, *[dict.fromkeys([*judge.DIMENSIONS, "overall"], "tie")] * 9], [(9, 9)] * 10)
    table = judge.table({"judge": "J", "reference": "base", "systems": {"adapter": summed}})
    assert "9 of 10" in table and "similar" in table


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama"),
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("mistralai/Mixtral-8x7B", "mistral"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("someone/else", "else"),
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
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
    monkeypatch.setenv("HF_TOKEN", "for-the-hub")
    of_openai = endpoints.Endpoint("gpt", "https://api.openai.com/v1").engine()
    other = endpoints.Endpoint("gpt", "https://notopenai.example/v1").engine()
    assert (of_openai._settings.hf_token, other._settings.hf_token) == ("for-openai", "for-the-hub")


class Faulty(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that fails as its list of faults says, then answers."""

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
            choice = {"index": 0, "delta": {"role": "assistant", "content": "All is well."}}
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


@pytest.mark.model
def test_without_a_key_an_experiment_runs_here_and_nothing_leaves(monkeypatch):
    monkeypatch.delenv(tracking.KEY, raising=False)

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    references = {"How do I sleep?": ["Keep the same hours."], "Why am I sad?": ["Something may be missing."]}
    answers = {"base": dict.fromkeys(references, CALM), "adapter": dict.fromkeys(references, "Rest. " * 8)}
    found = tracking.track(answers, {name: {"model": name} for name in answers}, references, "a" * 64)
    expected = [measures.of_answer(CALM, group)["rouge_l"] for group in references.values()]
    assert found["base"]["rouge_l"] == pytest.approx(sum(expected) / 2)
    assert found["adapter"]["repeated"] > found["base"]["repeated"] == 0


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
    monkeypatch.setattr(evaluate, "RISKY", 2)
    monkeypatch.setattr(evaluate, "TIMED", 1)
    test = evaluate.read_test(work / "data", 4)
    assert len(test.references) == 4 and evaluate.read_test(work / "data", 0).references.keys() > test.references.keys()
    settings = Settings(model_id=str(tiny_model), max_new_tokens=16)
    system = evaluate.local("base", settings, test, work / "base")
    assert set(system.values) == measures.MEASURES.keys()
    assert all(len(values) == 4 for values in system.values.values())
    assert 3 < results.summary(system.values)["loss"]["mean"] < 8, "an untrained model of 300 words"
    assert system.facts["at_risk"]["product_gives_crisis_reply"]["n"] == 2

    lines = (work / "base" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    (work / "base" / "answers.jsonl").write_text("\n".join(lines[:3]) + "\n" + lines[3][:9], encoding="utf-8")
    made = []
    whole = evaluate.batched
    monkeypatch.setattr(
        evaluate,
        "batched",
        lambda loaded, questions, params: made.append(questions) or whole(loaded, questions, params),
    )
    again = evaluate.local("base", settings, test, work / "base")
    assert [len(questions) for questions in made] == [1], "only the answer that was lost is made anew"
    assert again.values["loss"] == system.values["loss"]
    with pytest.raises(TrainingError, match="another model"):
        evaluate.local("base", settings, replace(test, sha256="another split"), work / "base")

    other = evaluate.System("adapter", {"model": "someone/other"}, system.values, system.answers, system.facts)
    found = evaluate.write([system, other], test, work / "out")
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
    rows = evaluate.read_test(work / "data", 0).rows[:3]
    for row, (loss, tokens) in zip(rows, evaluate.losses(model, tokenizer, rows), strict=True):
        encoded = {name: torch.tensor([ids]) for name, ids in encode(row, tokenizer, evaluate.LONGEST).items()}
        assert loss == pytest.approx(model(**encoded).loss.item(), rel=1e-4)
        assert tokens == sum(label >= 0 for label in encoded["labels"][0].tolist())


def test_more_questions_than_there_are(work):
    with pytest.raises(TrainingError, match="holds 6 questions"):
        evaluate.read_test(work / "data", 7)


def test_a_judge_compares_systems_and_goes_on(work, monkeypatch):
    test = evaluate.read_test(work / "data", 0)
    short, long = (evaluate.System(name, {"model": f"someone/{name}"}, answers=dict.fromkeys(test.references, text))
                   for name, text in (("short", "Rest."), ("long", CALM)))  # fmt: skip
    asked = []

    def say(self, messages, params):
        asked.append(1)
        if len(asked) == 6:
            raise GenerationFailed("busy")
        return says(lambda a, b: "A" if len(a) > len(b) else "B")(messages, params)

    monkeypatch.setattr(endpoints.Endpoint, "say", say)
    at = endpoints.Endpoint("judge-model", "http://127.0.0.1:1/v1")
    with pytest.raises(GenerationFailed):
        evaluate.judged(at, [short, long], "short", work / "judge")
    found = evaluate.judged(at, [short, long], "short", work / "judge")
    assert len(asked) == 6 + 2 * 4, "two verdicts were kept"
    assert found["systems"]["long"]["overall"]["win"] == 6 and found["systems"]["long"]["may_be_called"] == "better"
    assert len(found["verdicts"]["long"]) == 6
    with pytest.raises(TrainingError, match="no 'gpt'"):
        evaluate.judged(at, [short, long], "gpt", work / "judge")
