"""Places: the order of the line, its limits, and that every place comes free again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import conversation, replies
from support.engines import EngineBusy, GenerationFailed, GenerationParams, Places, Waiting, places
from tests.conftest import HeldEngine, ScriptedEngine

ASK = ([{"role": "user", "content": "hello"}], GenerationParams())


@pytest.fixture(autouse=True, scope="module")
def short_waits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "HEARTBEAT_S", 0.001)
        yield


def ask(line, visitor, stop=None):
    """A reply in hand, after its first piece."""
    pieces = line.for_visitor(visitor).stream(*ASK, stop or threading.Event())
    return pieces, next(pieces)


def position(piece):
    """Place in line; 0 where the reply is being written."""
    return piece.position if isinstance(piece, Waiting) else 0


def now(*asked):
    return [position(next(pieces)) for pieces in asked]


def test_as_many_are_written_as_the_engine_can(scripted):
    line = Places(scripted("x" * 90, at_once=3))
    asked = [ask(line, visitor)[0] for visitor in "abcde"]
    assert now(*asked) == [0, 0, 0, 1, 2] and (line.writing, line.waiting) == (3, 2)
    asked[1].close()
    assert now(*asked[3:]) == [0, 1]


def test_an_engine_that_does_not_say_writes_one(scripted):
    engine = scripted("x" * 90)
    described = {key: value for key, value in engine.describe().items() if key != "at_once"}
    engine.describe = lambda: described
    line = Places(engine)
    asked = [ask(line, visitor)[0] for visitor in "ab"]
    assert now(*asked) == [0, 1]
    described["at_once"] = 2  # it has loaded, and says so now
    assert now(*asked) == [0, 0]


def test_first_come_first_served(scripted):
    line = Places(scripted("x" * 90))
    asked = {visitor: ask(line, visitor)[0] for visitor in "abcd"}
    for visitor, after in ("ab", "bc", "cd"):
        asked[visitor].close()
        assert position(next(asked[after])) == 0


def test_a_second_reply_goes_behind_everyones_first(scripted):
    line = Places(scripted("x" * 90))
    first, second, third = (ask(line, "a")[0] for _ in range(3))
    assert now(first, second, third) == [0, 1, 2]
    other = ask(line, "b")[0]
    assert now(other, second, third) == [1, 2, 3]
    first.close()  # its visitor has had a reply, and stands behind who has had none; not behind who comes later
    late = ask(line, "c")[0]
    assert now(other, second, late, third) == [0, 1, 2, 3]


def test_one_visitor_never_holds_more_than_half(scripted):
    line = Places(scripted("x" * 90, at_once=4), per_visitor=4)
    asked = [ask(line, "a")[0] for _ in range(4)]
    assert now(*asked) == [0, 0, 1, 2]
    assert now(ask(line, "b")[0], ask(line, "c")[0]) == [0, 0], "two places were kept free"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=12))
def test_visitors_take_turns(visitors):
    """Whoever comes, and however often: between two replies of one visitor everybody else who waits gets one."""
    line = Places(ScriptedEngine("x" * 90), per_visitor=12)
    in_hand = [(visitor, ask(line, visitor)[0]) for visitor in visitors]
    waiting_since: dict[str, set[str]] = {}
    while in_hand:
        ((served, pieces),) = [(visitor, pieces) for visitor, pieces in in_hand if now(pieces) == [0]]
        in_hand.remove((served, pieces))
        assert not waiting_since.get(served), "served twice while others waited"
        others = {visitor for visitor, _ in in_hand} - {served}
        waiting_since = {visitor: names - {served} for visitor, names in waiting_since.items()} | {served: others}
        pieces.close()
    assert (line.writing, line.waiting) == (0, 0)


@given(st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_nobody_starves(newcomers_a_reply):
    """One visitor waits with a second reply while new ones keep coming, faster than the engine writes."""
    line = Places(ScriptedEngine("x" * 90), most=99)
    in_hand = [ask(line, "a")[0], second := ask(line, "a")[0]]
    for written in range(12):
        in_hand += [ask(line, f"new {written}-{number}")[0] for number in range(newcomers_a_reply)]
        writing = next(pieces for pieces in in_hand if now(pieces) == [0])
        if writing is second:
            break
        in_hand.remove(writing)
        writing.close()
    assert written == newcomers_a_reply + 1, "only those who came before the first reply's end go first"


def test_the_limit_of_a_visitor(scripted):
    line = Places(scripted("x" * 90), per_visitor=2)
    asked = [ask(line, "a")[0] for _ in range(2)]
    with pytest.raises(EngineBusy, match="already have 2"):
        ask(line, "a")
    asked.append(ask(line, "b")[0])
    asked[0].close()
    asked.append(ask(line, "a")[0])
    assert now(asked[2], asked[1], asked[3]) == [0, 1, 2]


def test_the_limit_of_all(scripted):
    line = Places(scripted("x" * 90), most=3)
    asked = [ask(line, visitor)[0] for visitor in "abc"]
    with pytest.raises(EngineBusy, match="in a minute"):
        ask(line, "d")
    asked[2].close()
    assert now(ask(line, "d")[0]) == [2]


def test_stop_leaves_the_line(scripted):
    engine = scripted("x" * 90)
    line = Places(engine)
    first = ask(line, "a")[0]
    stop = threading.Event()
    second, third = ask(line, "b", stop)[0], ask(line, "c")[0]
    assert now(third) == [2]
    stop.set()
    assert list(second) == [] and now(third) == [1]
    third.close()
    assert line.waiting == 0 and len(engine.asked) == 1
    first.close()
    assert line.writing == 0


def test_leaving_the_line_costs_ones_other_replies_nothing(scripted):
    line = Places(scripted("x" * 90))
    first = ask(line, "a")[0]
    given_up, kept, other = (ask(line, visitor)[0] for visitor in "bbc")
    assert now(given_up, other, kept) == [1, 2, 3]
    given_up.close()
    assert now(first, kept, other) == [0, 1, 2]


def test_a_free_place_is_taken_at_once(scripted, monkeypatch):
    monkeypatch.setattr(places, "HEARTBEAT_S", 30)
    line = Places(scripted())
    first = ask(line, "a")[0]
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: list(line.for_visitor("b").stream(*ASK, threading.Event())))
        while not line.waiting:
            time.sleep(0.001)
        first.close()
        assert "".join(second.result(timeout=5)) == "That sounds hard. What would help you tonight?"


def test_a_failing_engine_frees_its_place(scripted):
    line = Places(scripted("xxx", GenerationFailed("It broke off.")))
    for _ in range(3):
        with pytest.raises(GenerationFailed):
            list(line.for_visitor("a").stream(*ASK, threading.Event()))
    assert (line.writing, line.waiting) == (0, 0)


def test_a_reply_ends_when_its_time_is_over_and_keeps_what_was_written(scripted):
    line = Places(scripted("x" * 900, pause=0.01), seconds=0.1)
    written = "".join(line.for_visitor("a").stream(*ASK, threading.Event()))
    assert 0 < len(written) < 900 and line.writing == 0


def test_a_model_that_writes_nothing_in_its_time_says_so(scripted):
    engine = HeldEngine()
    line = Places(engine, seconds=0.1)
    with pytest.raises(GenerationFailed, match=r"wrote nothing for 0\.1 seconds"):
        list(line.for_visitor("a").stream(*ASK, threading.Event()))
    assert line.writing == 0


def test_the_time_of_a_reply_begins_when_the_model_has_loaded(scripted):
    engine = scripted(pause=0.01)
    ready = engine.describe()
    engine.describe = lambda: {**ready, "status": "ready" if engine.pieces_given > 12 else "loading"}
    written = "".join(Places(engine, seconds=0.001).for_visitor("a").stream(*ASK, threading.Event()))
    assert 3 * 12 < len(written) < len(engine.text)


def test_a_place_is_free_only_once_the_engine_has_ended(scripted):
    """A reader that goes away: the engine's own end comes first, so that it never writes more than it can."""
    ended = []
    engine = scripted("x" * 90)
    line = Places(engine)
    stream = engine.stream

    def slow_to_end(*given):
        try:
            yield from stream(*given)
        finally:
            ended.append(line.writing)

    engine.stream = slow_to_end
    ask(line, "a")[0].close()
    assert ended == [1] and line.writing == 0


def test_many_at_once_in_threads(scripted):
    """24 visitors, 3 places: never more than 3 are written, and everybody gets a whole reply."""
    engine = scripted("That sounds hard.", at_once=3)
    stream, lock, busy, most = engine.stream, threading.Lock(), 0, 0

    def watched(*given):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        try:
            for piece in stream(*given):
                time.sleep(0.002)
                yield piece
        finally:
            with lock:
                busy -= 1

    engine.stream = watched
    line = Places(engine)

    def whole(number):
        return "".join(line.for_visitor(str(number % 12)).stream(*ASK, threading.Event()))

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(whole, range(24))) == {engine.text}
    assert most == 3 and (line.writing, line.waiting) == (0, 0)


def test_the_receipt_tells_the_place_in_line(scripted, monkeypatch):
    monkeypatch.setattr(conversation, "HEARTBEAT_S", 0)
    line = Places(scripted("x" * 90))
    first = ask(line, "a")[0]
    replied = conversation.respond("I feel tired.", [], "US", engine=line.for_visitor("b"))
    seen = [next(replied) for _ in range(3)]
    assert [reply.receipt["queue"] for reply in seen] == [None, 1, 1] and not any(reply.text for reply in seen)
    first.close()
    assert next(replied).receipt["queue"] is None
    replied.close()
    assert line.writing == 0


def test_over_the_limit_is_a_sentence_with_lines(scripted):
    line = Places(scripted("x" * 90), per_visitor=1)
    first = ask(line, "a")[0]
    *_, reply = conversation.respond("I feel tired.", [], "US", engine=line.for_visitor("a"))
    assert reply.text == replies.unavailable(reply.receipt["error"], "US") and "988" in reply.text
    first.close()


@pytest.mark.parametrize("message", ["I want to kill myself", "I took pills and I am going to die tonight"])
def test_a_crisis_reply_never_queues(scripted, message):
    line = Places(scripted("x" * 90), per_visitor=1, most=1)
    first = ask(line, "a")[0]
    (reply,) = conversation.respond(message, [], "US", engine=line.for_visitor("a"))
    assert reply.receipt["level"] >= 2 and reply.receipt["source"] == "template" and "988" in reply.text
    assert line.waiting == 0
    first.close()
