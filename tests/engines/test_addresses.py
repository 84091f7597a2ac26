"""Which address is asked next, and which is left alone."""

import pytest

from support.engines import addresses
from support.engines.addresses import FAILURES, REST_S, Address, choose


@pytest.fixture
def clock(monkeypatch):
    """Moves the time on: `clock(seconds)`."""
    now = [1000.0]
    monkeypatch.setattr(addresses.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def asked(address: Address):
    """A reply that goes on."""
    context = address.asked()
    context.__enter__()
    return context


def fail(address: Address, times: int = 1) -> None:
    for _ in range(times):
        with address.asked():
            address.failed()


def test_equals_are_asked_in_turn(clock):
    three = [Address(f"http://{name}") for name in "abc"]
    order = []
    for _ in range(6):
        clock(1)
        chosen = choose(three, [])
        with chosen.asked():
            order.append(chosen.url[-1])
    assert order == list("abcabc")


def test_the_one_with_fewest_replies_in_flight_is_asked(clock):
    a, b = Address("http://a"), Address("http://b")
    first, second = asked(a), asked(a)
    clock(1)
    reply = asked(b)
    clock(1)
    assert choose([a, b], []) is b
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert choose([a, b], []) is a
    reply.__exit__(None, None, None)
    assert (a.in_flight, b.in_flight) == (0, 0)


def test_what_this_reply_tried_or_is_unhealthy_comes_last():
    a, b = Address("http://a"), Address("http://b")
    held = [asked(b) for _ in range(4)]
    assert choose([a, b], []) is a
    assert choose([a, b], [a]) is b, "a dead server has the fewest replies in flight"
    a.healthy = False
    assert choose([a, b], []) is b
    assert choose([a], [a]) is a, "where there is no other, the same again"
    assert len(held) == b.in_flight


def test_after_failures_in_a_row_it_rests_and_then_one_reply_tries_it(clock):
    a = Address("http://a", healthy=True)
    fail(a, FAILURES - 1)
    assert choose([a], []) is a and a.status == "ready"
    a.answered()
    fail(a, FAILURES - 1)
    assert choose([a], []) is a, "they were not in a row"
    fail(a)
    assert choose([a], []) is None and a.status == "unavailable"
    clock(REST_S + 1)
    assert choose([a], []) is a and a.status == "ready"
    trial = asked(a)
    assert choose([a], []) is None, "one at a time"
    a.failed()
    trial.__exit__(None, None, None)
    assert choose([a], []) is None, "it rests again"
    clock(REST_S + 1)
    with a.asked():
        a.answered()
        assert choose([a], []) is a


def test_a_trial_that_the_person_stopped_leaves_the_next_one_free(clock):
    a = Address("http://a")
    fail(a, FAILURES)
    clock(REST_S + 1)
    with a.asked():
        pass
    assert choose([a], []) is a


def test_the_name_for_the_log_holds_no_password():
    assert Address("https://someone:secret@host:8000/v1").name == "host:8000"
