"""What the benchmarks count, and what each result file says about where it comes from."""

from __future__ import annotations

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import asked, gate, replies, serving
from support import measured
from support.screening import __main__ as screening


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command's main with `--json`; returns the arguments and what it saved."""

    def run_and_read(main, *arguments):
        out = tmp_path / "made" / "found.json"
        arguments = [*map(str, arguments), "--json", str(out)]
        monkeypatch.setattr("sys.argv", ["command", *arguments])
        main()
        return arguments, json.loads(out.read_text(encoding="utf-8"))

    return run_and_read


def test_a_result_file_says_where_it_comes_from(run, tmp_path):
    sentences = tmp_path / "sentences.tsv"
    sentences.write_text("claims_to_be_human\tI am a real person.\nok\tThat sounds hard.\n", encoding="utf-8")
    arguments, found = run(gate.main, sentences)
    assert found["problems"]["ok"] == {"rows": 1, "alone": 0, "both": 0}
    assert found["problems"]["claims_to_be_human"] == {"rows": 1, "alone": 1, "both": 1}
    told = found["measured"]
    assert told["command"] == " ".join(["python -m benchmarks.gate", *arguments])
    assert told["date"] == str(date.today()) and told["machine"] == measured.machine()
    assert told["machine"]["cores"] >= 1 and told["machine"]["processor"] and told["versions"].keys() >= {"torch"}


def test_questions_that_people_asked_are_counted_by_level(run, tmp_path, monkeypatch):
    questions = {"I want to kill myself.": "2", "My boss is unfair.": "0", "I like soup.": "0"}
    labels = tmp_path / "levels.tsv"
    labels.write_text("".join(f"{asked.digest(text)}\t{level}\n" for text, level in questions.items()))
    monkeypatch.setattr(asked, "LEVELS", labels)
    data = tmp_path / "questions.csv"
    data.write_text("Context,Response\n" + "".join(f"{text},An answer.\n" for text in [*questions, "Another one."]))
    _, found = run(asked.main, "--data", data)
    assert found["levels"] == {"0": {"rows": 2, "found": 0}, "2": {"rows": 1, "found": 1}}


def test_replies_are_counted_by_what_a_person_would_see(run, tmp_path):
    written = tmp_path / "replies.jsonl"
    rows = [
        {"model": "some/model", "message": message, "at_risk": at_risk, "reply": reply}
        for message, at_risk, reply in [
            ("I want to kill myself.", True, "That sounds hard."),
            ("My boss is unfair.", False, "That sounds hard."),
            ("My boss is unfair.", False, "I am a real person."),
        ]
    ]
    written.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _, found = run(replies.main, "--again", written)
    assert found["model"] == "some/model"
    assert found["at_risk"] == {"replies": 1, "fixed": 1, "shown": 0, "withheld": 0, "flagged": 0, "problems": {}}
    others = {"replies": 2, "fixed": 0, "shown": 1, "withheld": 1, "flagged": 1, "problems": {"claims_to_be_human": 1}}
    assert found["others"] == others


def test_conversations_are_counted_by_kind_and_by_language(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    texts = [("explicit", 2, "en", "I want to kill myself."), ("everyday", 0, "fr", "J'aime la soupe.")]
    rows.write_text(
        "".join(
            json.dumps({"kind": k, "level": n, "language": c, "messages": [{"role": "user", "content": text}]}) + "\n"
            for k, n, c, text in texts
        ),
        encoding="utf-8",
    )
    _, found = run(screening.main, "report", rows, "--plot", tmp_path / "plot.png")
    assert {"name": "explicit", "rows": 1, "found": 1, "risk": True} in found["kinds"]
    assert {"name": "fr", "rows": 1, "found": 0, "risk": False} in found["languages"]
    assert found["measured"]["command"].startswith("python -m support.screening report")


@pytest.mark.parametrize(("sentences", "counted", "ms"), [([1.0, 0.0], 4, 1000), ([0.0, 0.0], 0, None)])
def test_a_reply_without_a_first_sentence_adds_no_milliseconds(monkeypatch, sentences, counted, ms):
    """Every other reply has none that ended before the reply did; the clock reads 2 where its text is shown."""
    times = iter([0.0, 2.0, 3.0] * len(serving.QUESTIONS))
    engine: Any = SimpleNamespace(asked=0.0, ended=3.0, sentence=0.0)

    class Job(list):
        def result(self):
            return "text", {"source": "model"}

    class Client:
        def __init__(self, *_, **__):
            self.asked = 0

        def predict(self, *_, **__):
            return None

        def submit(self, *_, **__):
            engine.sentence = sentences[self.asked % 2]
            self.asked += 1
            return Job([("A sentence.", None)])

    monkeypatch.setattr(serving, "Client", Client)
    monkeypatch.setattr(serving, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    found = serving.through_the_app(engine, "")
    assert found == {"ratio": 1.0, "ms": ms, "replies": 8, "first sentences": counted}
