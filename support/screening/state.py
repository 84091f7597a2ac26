"""What the whole conversation says about risk: the newest message, the last turns together, and what stays from before.

    assess([{"role": "user", "content": "..."}])  ->  Assessment(level=2, category="suicide", ...)

Derived from the turns alone; nothing is kept between two calls. Knows nothing about replies: whether a person who was
at risk three turns ago gets the help panel or a crisis reply is the caller's decision; `carried` tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from support.crisis_lines import names_a_line
from support.prompt import Message
from support.screening import classifier
from support.screening.classifier import TURN, Score
from support.screening.rules import Hit, Reading, RuleBook, rule_book

WINDOW = 20  # user turns that are looked at
TOGETHER = 6  # user turns that are read as if they were one message
QUIET_TURNS = 6  # user turns without a hit of level 2 or 3 before the level drops by one
AT_RISK = 2
HELP_LASTS = 4  # replies: a crisis line named in one of the last so many is still in view
JOINED = 3  # user turns that the classifier reads as one message, for what only the row of them says
DOUBT_REACHES = 400  # characters; in a longer message the classifier may not see a clause, so its doubt does not count
SHORT_ANSWER = 80  # characters; a longer message says what it says without the question before it


@dataclass(frozen=True)
class Assessment:
    """What the turns say about risk.

    Attributes:
        level: 0 none, 1 distress, 2 at risk, 3 imminent; of the conversation, never lower than the newest message's.
        category: one of `rules.CATEGORIES`.
        evidence: ids of the rules that hold, the newest message's first, and scores of the classifier that count,
            such as "classifier.suicide=0.97". Never words of the person.
        carried: the level comes from earlier turns only, and a reply since then has named a crisis line. Then the
            person may go on talking, with help in view.
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
    places = _places(turns)
    by_rules = [_hits(readings[max(0, i - TOGETHER + 1) : i + 1], book) for i in range(len(readings))]
    # What the rules call imminent stays that, whatever the classifier says: help does not wait until it has loaded.
    imminent = bool(by_rules[-1]) and by_rules[-1][0].level > AT_RISK
    learned = _Learned([turns[i]["content"] for i in places], wait=not imminent)
    level, quiet, source, hits, last_risk = 0, 0, [], [], 0
    for i in range(len(readings)):
        hits = _by_level([*learned.weighed(by_rules[i], i, level), *learned.hits(i, level)])
        newest = hits[0].level if hits else 0
        if newest >= AT_RISK:
            quiet, last_risk = 0, places[i]
            if newest >= level:
                level, source = newest, hits
        else:
            quiet += 1
            if quiet % QUIET_TURNS == 0 and level > 1:
                level -= 1
    return _assessment(level, source, hits, helped=_helped(turns[last_risk:]))


class _Learned:
    """What the classifier says of the user turns `texts`; nothing where it cannot be used."""

    def __init__(self, texts: Sequence[str], *, wait: bool) -> None:
        joined = [TURN.join(texts[max(0, i - JOINED + 1) : i + 1]) for i in range(len(texts))]
        parts = [classifier.parts(text) for text in texts]
        scores = classifier.classify([*texts, *joined[1:], *chain.from_iterable(parts)], wait=wait) or []
        self._lengths = [len(text) for text in texts]
        read = iter(scores)
        self._alone = [*islice(read, len(texts))]
        self._joined = [*self._alone[:1], *islice(read, len(joined) - 1)]
        # Of the part that is most at risk; of a message without parts, its own.
        self._part = [
            max(islice(read, len(part)), key=_risk, default=alone)
            for alone, part in zip(self._alone, parts, strict=False)  # no scores without a classifier
        ]
        self._from = classifier.thresholds() if scores else {}

    def hits(self, i: int, level: int) -> list[Hit]:
        """The hit of turn `i`, at most one; `level` is that of the conversation before it.

        After risk was said, less is needed. One part of a long message counts where the whole leaves a doubt. Before
        risk the last turns are read as one message too: an escalation may be in no single turn. After it they are not,
        for every turn would then be at risk again.
        """
        if not self._alone:
            return []
        at_risk = self._from["at_risk" if level < AT_RISK else "after_risk"]
        hit = self._hit(self._alone[i], at_risk)
        if not hit and self._alone[i].at_risk >= self._from["doubt"]:
            hit = self._hit(self._part[i], self._from["part"])
        if not hit and level < AT_RISK:
            hit = self._hit(self._joined[i], self._from["joined"])
        return [hit] if hit else []

    def weighed(self, by_rules: list[Hit], i: int, level: int) -> list[Hit]:
        """`by_rules` of turn `i`, those of level 2 lowered to 1 where the classifier is all but sure that no risk is there.

        A phrase is not its meaning ("I'm dead"). Never lowered: what the rules call imminent, anything after risk was said,
        and what stands in a long message. Without the classifier every rule counts.
        """
        if not self._alone or level >= AT_RISK or self._lengths[i] > DOUBT_REACHES:
            return by_rules
        if max(map(_risk, (self._alone[i], self._joined[i], self._part[i]))) >= self._from["doubt"]:
            return by_rules
        return [replace(hit, level=1) if hit.level == AT_RISK else hit for hit in by_rules]

    def _hit(self, score: Score, at_risk: float) -> Hit | None:
        if score.at_risk < at_risk:
            return None
        level = 3 if score.imminent >= self._from["imminent"] else 2
        return Hit(f"classifier.{score.category}={score.at_risk:.2f}", level, score.category)


def _risk(score: Score) -> float:
    return score.at_risk


def _helped(turns: Sequence[Message]) -> bool:
    """Whether one of the assistant's last HELP_LASTS turns names a crisis line. `turns`: since the person was at risk."""
    replies = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    return any(names_a_line(reply) for reply in replies[-HELP_LASTS:])


def _by_level(hits: Sequence[Hit]) -> list[Hit]:
    """The highest level first; the sort is stable, so that rules speak before the classifier."""
    return sorted(hits, key=lambda hit: -hit.level)


def _assessment(level: int, source: list[Hit], hits: list[Hit], *, helped: bool) -> Assessment:
    """`source`: hits that set the conversation's level; `hits`: those of the newest message; `helped`: lines were named."""
    newest = hits[0].level if hits else 0
    if newest >= level:
        category = hits[0].category if hits else "none"
        return Assessment(newest, category, _ids(hits), carried=False, newest_level=newest)
    # One category for the reply: what the newest message says where it is at risk itself, else what was said before.
    category = hits[0].category if newest >= AT_RISK else source[0].category
    return Assessment(
        level,
        category,
        _ids(hits + source),
        carried=newest < AT_RISK and (helped or level < AT_RISK),
        newest_level=newest,
    )


def _ids(hits: Sequence[Hit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hit.rule for hit in hits))


def _places(turns: Sequence[Message]) -> list[int]:
    return [i for i, turn in enumerate(turns) if turn["role"] == "user"][-WINDOW:]


def _user_turns(turns: Sequence[Message], book: RuleBook) -> Iterator[tuple[Reading, Reading | None]]:
    """Each of the last user turns, read, with the assistant's turn that a short one answers."""
    for i in _places(turns):
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
    return _by_level(list(best.values()))
