"""Plain requests that fixed words answer, whatever the level: "are you human?", a diagnosis, medicine, ways to be hurt.

    request("are you a real person?")  ->  "human"

The phrases are data, `assets/screening/requests.yaml`, in every claimed language. Knows nothing about the answers.
"""

from __future__ import annotations

from functools import lru_cache

from support.screening.phrases import PhraseRules

# Where a message asks for several, the first of these is answered.
ORDER = ("method", "human", "medication", "diagnosis", "barriers")


@lru_cache(maxsize=1)
def request_rules() -> PhraseRules:
    """Loaded once. Raises RulesError: requests.yaml cannot be used."""
    return PhraseRules("requests.yaml")


def request(text: str) -> str | None:
    """The id of the request in `text`, one of ORDER; None where there is none."""
    found = request_rules().names_in(text)
    return next((name for name in ORDER if name in found), None)
