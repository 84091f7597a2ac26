"""Several servers that write the same words: which of them is asked next, and which is left alone for a while.

A circuit breaker for each address: after FAILURES in a row it rests for REST_S, then one reply tries it. Knows nothing about
HTTP. Not thread-safe: the remote engine keeps to one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

FAILURES = 5  # in a row; more than one reply's tries, so that no single message takes a server from everyone
REST_S = 15.0


@dataclass(eq=False)
class Address:
    """One server, as seen from here.

    Attributes:
        url: its base URL, such as http://10.0.0.7:8000/v1.
        healthy: what the newest health check saw; None before the first.
        check_due: when the next health check may be made; clock of `time.monotonic`, as all times here.
        in_flight: replies that it is asked for and that have not ended.
    """

    url: str
    healthy: bool | None = None
    check_due: float = 0.0
    in_flight: int = 0
    _failures: int = 0
    _rests_until: float = 0.0
    _asked_at: float = 0.0

    @property
    def name(self) -> str:
        """Host and port, for the log: a URL may hold a password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def status(self) -> str:
        """loading (not known yet), ready or unavailable."""
        if self.healthy is None:
            return "loading"
        return "ready" if self.healthy and not self._rests() else "unavailable"

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around one reply."""
        self._asked_at = time.monotonic()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def answered(self) -> None:
        """It does what it should."""
        self._failures = 0

    def failed(self) -> None:
        """It did not answer, or broke off."""
        self._failures += 1
        self._rests_until = time.monotonic() + REST_S

    def may_be_asked(self) -> bool:
        """Not while it rests; after that by one reply at a time until one succeeds."""
        return self._failures < FAILURES or (not self._rests() and self.in_flight == 0)

    def _rests(self) -> bool:
        return self._failures >= FAILURES and time.monotonic() < self._rests_until


def choose(addresses: Sequence[Address], tried: Collection[Address]) -> Address | None:
    """The address for the next try of a reply that `tried` those already: the one with the fewest replies in flight, and
    in turn where they are equal. None where all of them rest.

    A dead server has the fewest in flight of all, so what this reply tried and what fails its health check come last.
    """
    free = [address for address in addresses if address.may_be_asked()]
    return min(free, key=lambda a: (a in tried, a.healthy is False, a.in_flight, a._asked_at), default=None)
