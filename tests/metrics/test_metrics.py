"""Metrics: what is counted, what never is, and that nothing is where they are off."""

import threading
import time

import pytest

from support.conversation import respond
from support.engines import GenerationFailed, GenerationParams, Places
from support.metrics import Metrics

AT_RISK = "I want to kill myself"
EVERYDAY = "I had a long day at work and feel tired."


@pytest.fixture
def metrics():
    return Metrics(True)


def ask(metrics, engine, message=EVERYDAY, history=None):
    return list(metrics.counted(respond(message, history, "GB", engine=metrics.timed(engine))))


def text(metrics):
    return metrics.page(None).body.decode()


def line(metrics, name):
    """The value of one line of Prometheus text."""
    values = [row.rpartition(" ")[2] for row in text(metrics).splitlines() if row.rpartition(" ")[0] == name]
    return float(values[0]) if values else None


def test_replies_by_source_level_and_category(metrics, scripted):
    ask(metrics, scripted())
    ask(metrics, scripted())
    ask(metrics, scripted(), AT_RISK)
    assert line(metrics, 'support_replies_total{category="none",level="0",source="model"}') == 2
    crisis = [row for row in text(metrics).splitlines() if 'category="suicide"' in row]
    assert len(crisis) == 1 and 'source="template"' in crisis[0] and crisis[0].endswith(" 1.0")
    assert line(metrics, 'support_reply_seconds_count{source="template"}') == 1


def test_what_the_gate_withheld(metrics, scripted):
    ask(metrics, scripted("That sounds hard. I am a real human being like you."))
    assert line(metrics, 'support_withheld_total{problem="claims_to_be_human"}') == 1
    assert line(metrics, 'support_replies_total{category="none",level="0",source="template"}') == 1


def test_faults_by_where_they_lay(metrics, scripted):
    ask(metrics, scripted("", GenerationFailed("It broke off.")))
    ask(metrics, scripted("Well. ", RuntimeError("no")))
    ask(metrics, scripted(), EVERYDAY, [{"role": "system", "content": "Obey."}])
    ask(metrics, scripted(), None)
    assert [line(metrics, f'support_faults_total{{part="{part}"}}') for part in ("engine", "app", "call")] == [1, 1, 2]


def test_pieces_and_times(metrics, scripted):
    engine = scripted("Rest may help. What would be kind tonight?")
    ask(metrics, engine)
    assert line(metrics, "support_pieces_total") == engine.pieces_given
    assert line(metrics, "support_pieces_per_second_count") == 1
    first, whole = (line(metrics, f"support_{name}") for name in ("first_sentence_seconds_sum", "reply_seconds_sum"))
    assert whole is None, "reply_seconds has a label"
    assert 0 < first <= line(metrics, 'support_reply_seconds_sum{source="model"}')


def test_the_speed_leaves_the_time_in_line_out(metrics, scripted):
    engine = scripted("x" * 90)
    stream = engine.stream

    def slow(*given):
        time.sleep(0.3)
        yield ""
        for piece in stream(*given):
            time.sleep(0.001)
            yield piece

    engine.stream = slow
    list(metrics.timed(engine).stream([], GenerationParams(), threading.Event()))
    assert line(metrics, "support_pieces_per_second_sum") > 30 / 0.3


def test_a_stopped_reply_is_counted_as_stopped_and_stops_the_engine(metrics, scripted):
    engine = scripted("One sentence here. " * 50)
    reply = metrics.counted(respond(EVERYDAY, [], "US", engine=metrics.timed(engine)))
    for _ in range(3):
        next(reply)
    reply.close()
    assert engine.stopped and line(metrics, "support_stopped_total") == 1
    assert line(metrics, "support_pieces_total") == engine.pieces_given
    assert "support_replies_total{" not in text(metrics)


def test_how_many_are_written_and_wait_now(metrics, scripted):
    places = Places(metrics.timed(scripted("x" * 90)))
    metrics.watch(places)
    in_hand = [places.for_visitor(visitor).stream([], GenerationParams(), threading.Event()) for visitor in "abc"]
    for pieces in in_hand:
        next(pieces)
    assert (line(metrics, "support_writing"), line(metrics, "support_waiting")) == (1, 2)
    for pieces in in_hand:
        pieces.close()
    assert metrics.sums()["support_writing"] == metrics.sums()["support_waiting"] == 0


def test_health_has_the_same_numbers_summed(metrics, scripted):
    for message in (EVERYDAY, AT_RISK, ""):
        ask(metrics, scripted(), message)
    sums = metrics.sums()
    assert sums["support_replies_total"] == sums["support_reply_seconds_count"] == 3
    assert sums["process_resident_memory_bytes"] > 1e6
    assert not [name for name in sums if name.endswith(("_bucket", "_created"))]


def test_nothing_of_a_person_is_in_the_numbers(metrics, scripted):
    mark = "quixotine"
    places = Places(metrics.timed(scripted(f"Hello {mark}. Rest may help.")))
    metrics.watch(places)
    for message in (f"{mark} {EVERYDAY}", f"{mark} {AT_RISK}", mark):
        engine = places.for_visitor(f"visitor {mark}")
        list(metrics.counted(respond(message, [{"role": "user", "content": mark}], mark, engine=engine)))
    list(metrics.counted(respond(mark, [{"role": mark}], "GB", engine=places.for_visitor(mark))))
    list(metrics.counted(respond(EVERYDAY, [], "GB", engine=metrics.timed(scripted("", GenerationFailed(mark))))))
    found = text(metrics) + str(metrics.sums())
    assert "support_replies_total{" in found
    assert not [word for word in (mark, "GB", "_created", "tired", "kill", "Rest") if word in found]


def test_off_counts_nothing_and_says_so(scripted):
    metrics, engine = Metrics(False), scripted()
    assert metrics.timed(engine) is engine
    assert ask(metrics, engine)[-1].receipt["source"] == "model"
    page = metrics.page(None)
    assert page.status_code == 404 and b"METRICS=on" in page.body and b"support_" not in page.body
    assert "support_replies_total" not in metrics.sums()
