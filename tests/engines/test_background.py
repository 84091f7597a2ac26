"""Loading behind the page: signs of life while it loads, the reason when it fails."""

import threading

import pytest

from support.engines import BackgroundEngine, GenerationParams, ModelUnavailable

ASK = ([{"role": "user", "content": "hello"}], GenerationParams())


def test_signs_of_life_then_words(scripted):
    may_finish = threading.Event()

    def load():
        may_finish.wait(5)
        return scripted("Hello.")

    engine = BackgroundEngine(load, "some/model")
    assert engine.describe()["status"] == "loading" and engine.describe()["model"] == "some/model"
    pieces = engine.stream(*ASK, threading.Event())
    assert next(pieces) == ""
    may_finish.set()
    assert "".join(pieces) == "Hello."
    assert engine.describe()["status"] == "ready"


def test_loading_waits_for_its_turn(scripted):
    turn, asked = threading.Event(), threading.Event()

    def load():
        asked.set()
        return scripted("Hello.")

    engine = BackgroundEngine(load, after=turn)
    assert not asked.wait(0.2) and engine.describe()["status"] == "loading"
    turn.set()
    assert "".join(engine.stream(*ASK, threading.Event())) == "Hello."


def test_stop_ends_the_wait():
    never = threading.Event()
    engine = BackgroundEngine(lambda: never.wait(30))
    stop = threading.Event()
    pieces = engine.stream(*ASK, stop)
    assert next(pieces) == ""
    stop.set()
    assert list(pieces) == []
    never.set()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(ModelUnavailable("Set HF_TOKEN."), "Set HF_TOKEN."), (RuntimeError("secret detail"), "could not be loaded")],
)
def test_the_reason_is_kept(fault, sentence):
    def load():
        raise fault

    engine = BackgroundEngine(load, wait=True)
    assert engine.describe()["status"] == "unavailable"
    assert sentence in engine.describe()["problem"] and "secret detail" not in engine.describe()["problem"]
    with pytest.raises(ModelUnavailable, match=sentence):
        list(engine.stream(*ASK, threading.Event()))
