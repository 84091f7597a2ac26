"""What a text says about risk, and what a reply may not say.

    assess(turns)                                  before the model is asked
    Gate(allowed_numbers).passed(pieces)           while the model writes
    python -m support.screening messages < in.jsonl > out.jsonl

normalise -> rules and classifier -> state (messages); phrases and reply_classifier -> gate (replies). The words are data:
`assets/screening/`.
Knows nothing about engines, replies or pages, and writes no message text into logs or exceptions.
"""

from typing import Any

from support.screening import classifier, reply_classifier
from support.screening.gate import SPOKEN, Gate, GateRejection, check_reply, gate_rules
from support.screening.phrases import RulesError
from support.screening.requests import request, request_rules
from support.screening.rules import rule_book, rules_version
from support.screening.state import Assessment, assess
from support.screening.tuned import Shared, import_libraries

__all__ = [
    "LEARNED",
    "SPOKEN",
    "Assessment",
    "Gate",
    "GateRejection",
    "RulesError",
    "assess",
    "check_reply",
    "import_libraries",
    "problem",
    "request",
    "rules_version",
]

# What was learned, of messages and of replies. Where one is off, the others, rules and phrases go on. In the order in which
# they are loaded: the largest last.
LEARNED: dict[str, Shared[Any]] = {
    "classifier": classifier.shared,
    "reply_classifier": reply_classifier.shared,
    "english_classifier": classifier.english,
}


def problem() -> str | None:
    """What is wrong with the rule files, so that nothing can be screened; None where nothing is."""
    try:
        rule_book()
        request_rules()
        gate_rules()
    except RulesError as error:
        return str(error)
    return None
