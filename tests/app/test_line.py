"""The running app while its engine is busy: the line as programs and the page see it, and who never stands in it."""

import json
import time

import httpx
import pytest
from gradio_client import Client

from support.engines.places import MOST
from tests.app.running import call, served
from tests.conftest import LONG, HeldEngine, ScriptedEngine

pytestmark = pytest.mark.server

EVERYDAY = "I had a long day at work and feel tired."
IMMINENT = "I took the pills, I am going to die tonight"


@pytest.fixture(scope="module")
def url_and_engine():
    engine = HeldEngine()
    with served(engine, metrics="on") as url:
        yield url, engine
        engine.go.set()


@pytest.fixture
def busy(url_and_engine):
    """The app's address; whatever the test sent is written at its end."""
    url, engine = url_and_engine
    engine.go.clear()
    yield url
    engine.go.set()
    settle(url, 0)


def post(url, address, message=EVERYDAY):
    """A chat from an address, not read: its event id."""
    headers = {"x-forwarded-for": f"{address}, 10.0.0.1"}
    sent = httpx.post(f"{url}/gradio_api/call/chat", json={"data": [message, [], "US"]}, headers=headers, timeout=30)
    return sent.json()["event_id"]


def read(url, event, until=lambda reply, receipt: False):
    """The last (reply, receipt) of a chat, or the first that `until` holds for."""
    last = None
    with httpx.stream("GET", f"{url}/gradio_api/call/chat/{event}", timeout=60) as stream:
        for row in stream.iter_lines():
            if row.startswith("data: ["):
                last = json.loads(row[6:])
                if until(*last):
                    break
    return last


def in_hand(url):
    sums = call(url, "health", [])[0]["metrics"]
    return sums["support_writing"], sums["support_waiting"]


def settle(url, number):
    """Wait until `number` chats are in hand."""
    end = time.monotonic() + 60
    while sum(in_hand(url)) != number:
        assert time.monotonic() < end, in_hand(url)
        time.sleep(0.1)


def page_handler(url, text, session):
    """What the page gets when a person sends a message: the events' text, as they come."""
    config = httpx.get(f"{url}/config", timeout=30).json()
    talk = next(d for d in config["dependencies"] if d["api_visibility"] == "private" and len(d["inputs"]) == 6)
    body = {"data": [text, [], "US", 64, 0.4, 0.9], "fn_index": talk["id"], "session_hash": session}
    httpx.post(f"{url}/gradio_api/queue/join", json=body, timeout=30)
    with httpx.stream("GET", f"{url}/gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
        yield from stream.iter_lines()


def test_the_place_in_line_is_told_to_programs_and_people(busy):
    for address in ("192.0.2.1", "192.0.2.2"):
        post(busy, address)
    settle(busy, 2)
    third = post(busy, "192.0.2.3")
    assert read(busy, third, lambda _, receipt: receipt["queue"] == 1)[1]["queue"] == 1
    shown = next(row for row in page_handler(busy, EVERYDAY, "in-line") if "are answered first" in row)
    assert "are answered first: 2" in shown or "are answered first: 1" in shown


def test_one_address_does_not_fill_the_line(busy):
    events = [post(busy, "192.0.2.1") for _ in range(5)]
    settle(busy, 4)
    assert in_hand(busy) == (1, 3), "one visitor holds half of the two places"
    refused = [read(busy, event, lambda _, receipt: receipt["error"]) for event in events[-1:]]
    assert "already have 4" in refused[0][0] and "988" in refused[0][0]
    other = post(busy, "192.0.2.9")
    settle(busy, 5)
    assert in_hand(busy) == (2, 3)
    assert read(busy, other, lambda _, receipt: receipt["queue"] is None)


def test_a_page_that_closes_leaves_the_line(busy):
    for address in ("192.0.2.1", "192.0.2.2"):
        post(busy, address)
    settle(busy, 2)
    rows = page_handler(busy, EVERYDAY, "leaves")
    assert next(row for row in rows if "are answered first" in row)
    assert in_hand(busy) == (2, 1)
    rows.close()
    settle(busy, 2)


@pytest.mark.parametrize("way", ["a program cancels", "a page closes", "the time is over"])
def test_a_reply_that_ends_early_frees_the_model_within_a_second(way):
    engine = ScriptedEngine(LONG, pause=0.02)
    with served(engine, reply_seconds=2 if way == "the time is over" else 180) as url:
        if way == "a program cancels":
            job = Client(url, verbose=False, analytics_enabled=False).submit(EVERYDAY, [], "US", api_name="/chat")
            while not any(reply for reply, _ in job.outputs()):
                time.sleep(0.05)
            job.cancel()
        else:
            rows = page_handler(url, EVERYDAY, way)
            assert next(row for row in rows if "The green armchair" in row)
            if way == "a page closes":
                rows.close()
        assert engine.ended.wait(3 if way == "the time is over" else 1), "the model writes on"
        assert engine.pieces_given * 3 < len(engine.text) / 2


def test_help_never_queues(busy):
    """Every place taken and the line full: crisis replies, screening, lines and health come all the same."""
    for number in range(MOST):
        post(busy, f"198.51.100.{number}")
    settle(busy, MOST)
    assert in_hand(busy) == (2, MOST - 2)
    turned_away, _ = call(busy, "chat", [EVERYDAY, [], "US"])
    assert "in a minute" in turned_away and "988" in turned_away
    answers = {
        "chat": lambda: call(busy, "chat", [IMMINENT, [], "US"])[1]["level"] == 3,
        "screen": lambda: call(busy, "screen", [IMMINENT, []])[0]["level"] == 3,
        "crisis_lines": lambda: call(busy, "crisis_lines", ["GB"])[0][0]["name"] == "Samaritans",
        "health": lambda: call(busy, "health", [])[0]["status"] in ("ok", "degraded"),
        "page": lambda: any("988" in row for row in page_handler(busy, IMMINENT, "in need")),
        "static page": lambda: 'id="help"' in httpx.get(busy, timeout=30).text,
    }
    for name, answered in answers.items():
        before = time.monotonic()
        assert answered(), name
        took = time.monotonic() - before
        assert took < 3, f"{name} took {took:.1f} s"
        print(f"{name}: {took:.2f} s")
