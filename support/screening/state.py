"""What the whole conversation says about risk: the newest message, the last turns together, and what stays from before.

    assess([{"role": "user", "content": "..."}])  ->  Assessment(level=2, category="suicide", ...)

Derived from the turns alone; nothing is kept between two calls. Knows nothing about replies: whether a person who was
at risk three turns ago gets the help panel or a crisis reply is the caller's decision; `carried` tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from support.prompt import Message
from support.screening.rules import Hit, Reading, RuleBook, rule_book

WINDOW = 20  # user turns that are looked at
TOGETHER = 6  # user turns that are read as if they were one message
QUIET_TURNS = 6  # user turns without a hit of level 2 or 3 before the level drops by one
AT_RISK = 2
SHORT_ANSWER = 80  # characters; a longer message says what it says without the question before it


@dataclass(frozen=True)
class Assessment:
    """What the turns say about risk.

    Attributes:
        level: 0 none, 1 distress, 2 at risk, 3 imminent; of the conversation, never lower than the newest message's.
        category: one of `rules.CATEGORIES`.
        evidence: ids of the rules that hold, the newest message's first. Never words of the person.
        carried: the level comes from earlier turns only; the newest message has no hit of level 2 or 3. Then the person
            may go on talking, with help in view.
        newest_level: the level of the newest message, read together with the last turns.
    """

    level: int
    category: str
    evidence: tuple[str, ...]
    carried: bool = False
    newest_level: int = 0


NOTHING = Assessment(level=0, category="none", evidence=())


def assess(turns: Sequence[Message]) -> Assessment:
    """Risk in a conversation.

    Args:
        turns: oldest first, the last one the user's newest. Others only matter where the user answers them.

    Returns:
        the assessment; level 0 for no turns.
    """
    book = rule_book()
    readings = list(_user_turns(turns, book))
    if not readings:
        return NOTHING
    level, quiet, source, hits = 0, 0, [], []
    for i in range(len(readings)):
        hits = _hits(readings[max(0, i - TOGETHER + 1) : i + 1], book)
        newest = hits[0].level if hits else 0
        if newest >= AT_RISK:
            quiet = 0
            if newest >= level:
                level, source = newest, hits
        else:
            quiet += 1
            if quiet % QUIET_TURNS == 0 and level > 1:
                level -= 1
    return _assessment(level, source, hits)


def _assessment(level: int, source: list[Hit], hits: list[Hit]) -> Assessment:
    """`source`: the hits that set the conversation's level; `hits`: those of the newest message."""
    newest = hits[0].level if hits else 0
    if newest >= level:
        category = hits[0].category if hits else "none"
        return Assessment(newest, category, _ids(hits), carried=False, newest_level=newest)
    # One category for the reply: what the newest message says where it is at risk itself, else what was said before.
    category = hits[0].category if newest >= AT_RISK else source[0].category
    return Assessment(level, category, _ids(hits + source), carried=newest < AT_RISK, newest_level=newest)


def _ids(hits: Sequence[Hit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hit.rule for hit in hits))


def _user_turns(turns: Sequence[Message], book: RuleBook) -> Iterator[tuple[Reading, Reading | None]]:
    """Each of the last user turns, read, with the assistant's turn that a short one answers."""
    places = [i for i, turn in enumerate(turns) if turn["role"] == "user"][-WINDOW:]
    for i in places:
        content = turns[i]["content"]
        answers = i > 0 and turns[i - 1]["role"] == "assistant" and len(content) <= SHORT_ANSWER
        yield book.read(content), book.read(turns[i - 1]["content"]) if answers else None


def _hits(last: Sequence[tuple[Reading, Reading | None]], book: RuleBook) -> list[Hit]:
    """Hits of the newest of `last`, read together with those before it; the highest level first.

    A sign in an earlier turn counts beside a phrase in the newest, and a sign in the newest beside a phrase in an
    earlier one: "I want to die" ... "the pills are here". No guard reaches over a turn: "just kidding" clears nothing.
    """
    *earlier, (newest, reply_before) = last
    signs = {name for reading, _ in earlier for name in reading.spans}
    best = {hit.rule: hit for hit in book.judge(newest, beside=signs, before=reply_before)}
    for reading, before in earlier:
        alone = {hit.rule: hit.level for hit in book.judge(reading, before=before)}
        for hit in book.judge(reading, beside=newest.spans, before=before):
            if hit.level > max(alone.get(hit.rule, 0), best[hit.rule].level if hit.rule in best else 0):
                best[hit.rule] = hit
    return sorted(best.values(), key=lambda hit: -hit.level)
