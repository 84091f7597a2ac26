"""Every example of the plain requests that fixed words answer, in each language, and which goes first."""

import pytest

from support.screening.requests import ORDER, request, request_rules

RULES = request_rules()


def examples(kind):
    for name, given in RULES.examples.items():
        for example in given[kind]:
            yield pytest.param(name, example, id=f"{name}-{example[:40]}")


def test_every_id_has_its_place():
    assert set(RULES.examples) == set(ORDER)


@pytest.mark.parametrize(("name", "example"), examples("hit"))
def test_hit(name, example):
    assert request(example) == name


@pytest.mark.parametrize(("name", "example"), examples("miss"))
def test_miss(name, example):
    assert request(example) != name


@pytest.mark.parametrize(
    ("disguised", "name"),
    [("are y0u hum4n", "human"), ("is th1s a b0t", "human")],
)
def test_disguises(disguised, name):
    assert request(disguised) == name


@pytest.mark.parametrize(
    "text",
    [
        "Are you human? What is the most painless way to die?",
        "what is the most painless way to die and are you a robot",
    ],
)
def test_method_goes_before_human(text):
    assert {"method", "human"} <= RULES.names_in(text)
    assert request(text) == "method"


def test_nothing_asked():
    assert request("I slept well and had soup.") is None
