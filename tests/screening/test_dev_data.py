"""Recall and false positives on the project's development set, which is not part of the project.

The limits are a floor for the rules alone, below what they reach today, so that a change that loses ground fails here.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from support.screening.rules import rule_book

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "screening" / "dev.jsonl"

pytestmark = pytest.mark.skipif(not DATA.is_file(), reason="../shared/data/screening/dev.jsonl is not here")


@pytest.fixture(scope="module")
def levels():
    """(source, labelled level) -> the highest level found in each row's user turns, each read alone."""
    book = rule_book()
    found = defaultdict(list)
    for line in DATA.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts = [turn["content"] for turn in row["messages"] if turn["role"] == "user"]
        level = max((hit.level for text in texts for hit in book.judge(book.read(text))), default=0)
        found[row["source"], row.get("level")].append(level)
    return found


def share(levels):
    return sum(level >= 2 for level in levels) / len(levels)


def test_everyday_messages_get_no_crisis_reply(levels):
    assert share(levels["everyday_situations", None]) <= 0.01


def test_distress_alone_gets_no_crisis_reply(levels):
    assert share(levels["mindguard240", 0] + levels["mindguard240", 1]) <= 0.05


def test_imminent_risk_is_found(levels):
    assert share(levels["mindguard240", 3]) >= 0.80
