"""Places: whose reply is written now and who waits for it, in front of any engine.

    places = Places(engine)
    respond(message, history, engine=places.for_visitor(visitor))

As many replies are written at a time as the engine says that it can; the others stand in line and are told their place in
it. Everyone's first reply goes before anyone's second, whoever has had one goes to the end of the line, one visitor never
holds more than half of the places, and nobody holds one for longer than a reply may take.

Knows nothing about what is written. A visitor is an opaque string, compared while a reply lasts, and never logged. Whoever
changes that string (a new page, a forged address) is a new visitor: this is fairness between people, not a defence.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from support.engines.base import Engine, EngineBusy, GenerationFailed, GenerationParams, Waiting
from support.prompt import Message
from support.settings import Settings

HEARTBEAT_S = 0.5  # how often who waits hears of their place: 62 who wait cost 0.15 of a core (0.26 at 0.25 s)
MOST = 64  # replies in hand at a time: each holds a thread of the server, and crisis replies need some that are free


@dataclass(eq=False)
class _Ticket:
    visitor: str
    writing: bool = False


class Places:
    """The places of one engine, and the line before them.

    Args:
        engine: writes `describe()["at_once"]` replies at a time; one where it does not say. May change, as when it has loaded.
        per_visitor: most replies that a visitor may have in hand, being written or in line.
        most: as many in hand for all visitors together.
        seconds: that a reply may be written; it ends then, as one does that has all its tokens.
    """

    def __init__(
        self,
        engine: Engine,
        per_visitor: int = Settings.visitor_limit,
        most: int = MOST,
        seconds: float = Settings.reply_seconds,
    ) -> None:
        self._engine, self._per_visitor, self._most, self._seconds = engine, per_visitor, most, seconds
        self._tickets: list[_Ticket] = []  # of the replies in hand, in order of arrival
        self._changed = threading.Condition()

    def for_visitor(self, visitor: str) -> Engine:
        """The engine as this visitor meets it."""
        return _Visit(self, visitor)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        return self._engine.describe()

    @property
    def writing(self) -> int:
        """Replies that are being written."""
        with self._changed:
            return sum(ticket.writing for ticket in self._tickets)

    @property
    def waiting(self) -> int:
        """Replies in line."""
        with self._changed:
            return len(self._tickets) - self.writing

    def write(
        self, visitor: str, messages: Sequence[Message], params: GenerationParams, stop: threading.Event
    ) -> Generator[str]:
        """Pieces of the engine, and while there is no place for this reply `Waiting`.

        Raises:
            EngineBusy: this visitor, or all together, have too many replies in hand.
            GenerationFailed: the time was over before the first word.
            EngineError: of the engine.
        """
        ticket = self._ticket(visitor)
        try:
            while position := self._position(ticket):
                if stop.is_set():
                    return
                yield Waiting(position)
            with closing(self._engine.stream(messages, params, stop)) as pieces:
                yield from self._in_time(pieces)
        finally:  # the engine has ended by here, also where the reader closed this generator
            self._leave(ticket)

    def _in_time(self, pieces: Generator[str]) -> Generator[str]:
        """Until the time of a reply is over, which does not begin before the model has loaded. Looked at with every piece:
        engines give one at least every quarter of a second, without words where they have none."""
        end, spoke = None, False
        for piece in pieces:
            if end is None and self._engine.describe()["status"] != "loading":
                end = time.monotonic() + self._seconds
            spoke = spoke or bool(piece)
            yield piece
            if end is not None and time.monotonic() > end:
                if spoke:
                    return
                raise GenerationFailed(f"The model wrote nothing for {self._seconds:g} seconds; please try again.")

    def _ticket(self, visitor: str) -> _Ticket:
        with self._changed:
            if sum(ticket.visitor == visitor for ticket in self._tickets) >= self._per_visitor:
                raise EngineBusy(
                    f"You already have {self._per_visitor} replies on their way; please wait for one of them."
                )
            if len(self._tickets) >= self._most:
                raise EngineBusy("Very many people are here at this moment; please try again in a minute.")
            ticket = _Ticket(visitor)
            self._tickets.append(ticket)
            return ticket

    def _leave(self, ticket: _Ticket) -> None:
        with self._changed:
            self._tickets.remove(ticket)
            if ticket.writing:  # its visitor has had a reply: those still in line go to its end
                self._tickets.sort(key=lambda other: other.visitor == ticket.visitor and not other.writing)
            self._changed.notify_all()

    def _position(self, ticket: _Ticket) -> int:
        """Wait a moment for a place. 0 where it is taken, else the position in line, 1 for the next."""
        with self._changed:
            if self._changed.wait_for(lambda: self._may_start(ticket), HEARTBEAT_S):
                ticket.writing = True
                return 0
            return [*self._line()].index(ticket) + 1

    def _may_start(self, ticket: _Ticket) -> bool:
        at_once = max(1, self._engine.describe().get("at_once", 1))
        line = self._line()
        # Whoever has half of the places stands behind all who have less, so nobody is kept from a free place.
        return line[ticket] < max(1, at_once // 2) and [*line].index(ticket) < at_once - self.writing

    def _line(self) -> dict[_Ticket, int]:
        """Who waits, next first, each with the number of replies that its visitor had in hand before."""
        in_hand: Counter[str] = Counter()
        waiting = {}
        for ticket in self._tickets:
            if not ticket.writing:
                waiting[ticket] = in_hand[ticket.visitor]
            in_hand[ticket.visitor] += 1
        return dict(sorted(waiting.items(), key=lambda entry: entry[1]))  # keeps the order of arrival among equals


@dataclass(frozen=True)
class _Visit:
    places: Places
    visitor: str

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `Places.write`."""
        return self.places.write(self.visitor, messages, params, stop)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        return self.places.describe()
