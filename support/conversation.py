"""respond(): screen -> decide -> generate -> gate. The only way words reach a person, on the page, the API and MCP alike.

No state is kept: what the turns say is the state. `respond` never raises; a fault becomes a reply with the crisis lines.
Nothing here logs or stores a word of what anybody wrote.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from support import crisis_lines, prompt, replies, screening
from support.engines import Engine, EngineError, GenerationParams, Waiting
from support.languages import in_other_script, language_of, texts_of_user
from support.prompt import Message
from support.screening import Assessment
from support.screening.normalise import normalise

MAX_MESSAGE_CHARS = 8_000  # about 2,000 tokens: more than the model reads at once
MAX_TURNS = 200  # older turns are neither screened nor sent to the model
HEARTBEAT_S = 0.25  # how often a caller hears that the reply is still being written, and can stop it

log = logging.getLogger(__name__)


class BadRequest(ValueError):
    """A program sent something that is not a message or a history. The message says what to send instead."""


@dataclass(frozen=True)
class Reply:
    """What the person may see by now.

    Attributes:
        text: Markdown, whole so far; "" while nothing has passed the gate yet.
        receipt: why this reply; the keys are in design.md and README.
    """

    text: str
    receipt: dict[str, Any]


def respond(
    message: Any,
    history: Any,
    country: Any = "",
    *,
    engine: Engine,
    params: GenerationParams | None = None,
) -> Generator[Reply]:
    """Answer one message. Close the iterator to stop the writing.

    Args:
        message: what the person wrote.
        history: earlier turns, `{"role": "user" | "assistant", "content": str}`, oldest first.
        country: two-letter code whose crisis lines to show; unknown or empty gives the international ones.
        engine: where words come from when the model may answer.
        params: how they are sampled.

    Yields:
        Reply: the text so far, sentence by sentence, and its receipt; at least one, the first at once.
    """
    country = country if isinstance(country, str) else ""
    try:
        yield from _answer(message, history, country, engine, params or GenerationParams())
    except Exception as error:  # the one place that turns a fault into help
        log.error("A reply failed: %s in %s", type(error).__name__, _place(error))
        yield Reply(replies.fault(country), _receipt(Assessment(0, "none", ()), country, error="fault"))


def assess(message: Any, history: Any) -> Assessment:
    """What the turns say about risk, for callers that only ask.

    Raises:
        BadRequest: message or history is malformed.
    """
    turns = [*read_history(history), Message(role="user", content=_text(message, "message"))]
    return screening.assess(turns[-MAX_TURNS:])


def _answer(message: Any, history: Any, country: str, engine: Engine, params: GenerationParams) -> Iterator[Reply]:
    try:
        text = _text(message, "message")
    except BadRequest as bad:
        yield Reply(replies.refused(str(bad)), _receipt(Assessment(0, "none", ()), country, error=str(bad)))
        return
    try:
        turns, bad_history = read_history(history), ""
    except BadRequest as bad:  # the message is screened all the same: help does not depend on a well-formed call
        turns, bad_history = [], str(bad)
    turns = [*turns, Message(role="user", content=text)][-MAX_TURNS:]

    assessment = screening.assess(turns)
    receipt = _receipt(assessment, country)
    said = texts_of_user(turns)
    language = language_of(said)
    if assessment.level >= 2 and not assessment.carried:
        asked = replies.already_asked(turns)
        words = replies.crisis(
            assessment.level, assessment.category, country, len(said), asked=asked, language=language
        )
        yield Reply(words, {**receipt, "choices": replies.choices("crisis", language)})
    elif bad_history:
        yield Reply(replies.refused(bad_history, language), {**receipt, "error": bad_history})
    elif not _says_something(text):
        yield Reply(replies.empty(language), receipt)
    elif len(text) > MAX_MESSAGE_CHARS:
        yield Reply(replies.too_long(MAX_MESSAGE_CHARS, language), receipt)
    elif request := _request(text, assessment):
        receipt["evidence"].insert(0, f"request.{request}")
        receipt["choices"] = replies.choices(request, language)
        yield Reply(replies.request(request, country, len(said), language), receipt)
    elif language != screening.SPOKEN or in_other_script(text):  # no gate could read what the model would write in it
        yield Reply(replies.other_language(country, language), receipt)
    else:
        yield from _from_model(turns, assessment, country, language, engine, params)


def _request(text: str, assessment: Assessment) -> str | None:
    """What fixed words answer. What keeps a person from calling is only asked where a crisis reply went before."""
    found = replies.chosen_barrier(text) or screening.request(text)
    typed_early = found == "barriers" and not assessment.carried and not replies.chosen_barrier(text)
    return None if typed_early else found


def _from_model(
    turns: list[Message], assessment: Assessment, country: str, language: str, engine: Engine, params: GenerationParams
) -> Iterator[Reply]:
    """The model's words, a sentence at a time, each after it has passed the gate."""
    receipt = _receipt(assessment, country, engine)
    template = _receipt(assessment, country)
    stop = threading.Event()
    shown, last_sign, instead = "", time.monotonic(), None
    yield Reply(shown, receipt)
    pieces = engine.stream(prompt.build(turns), params, stop)
    try:
        for sentence in screening.Gate(crisis_lines.known_numbers()).passed(pieces):
            shown += sentence
            if sentence or time.monotonic() - last_sign >= HEARTBEAT_S:
                position = sentence.position if isinstance(sentence, Waiting) else None
                yield Reply(shown, {**receipt, "queue": position})
                last_sign = time.monotonic()
        if not shown.strip():  # the model had nothing to say
            instead = Reply(replies.withheld(country, language), template)
    except screening.GateRejection as rejection:
        instead = Reply(replies.withheld(country, language), {**template, "withheld": list(rejection.problems)})
    except EngineError as problem:
        instead = Reply(replies.unavailable(str(problem), country, language), {**template, "error": str(problem)})
    finally:  # also where the reader closed this iterator: the engine ends within one token and is free for others
        stop.set()
        pieces.close()
    if instead:
        yield instead


def _receipt(assessment: Assessment, country: str, engine: Engine | None = None, *, error: str = "") -> dict[str, Any]:
    """Why this reply. An `engine` means that the words are the model's."""
    lines = crisis_lines.lines_for(country)
    described = engine.describe() if engine else {}
    return {
        "source": "model" if engine else "template",
        "level": assessment.level,
        "category": assessment.category,
        "evidence": list(assessment.evidence),
        "carried": assessment.carried,
        "rules_version": rules_version(),
        "withheld": [],
        "ai_generated": True,
        "model": described.get("model"),
        "adapter": described.get("adapter"),
        "crisis_lines": lines,
        "crisis_lines_checked_on": crisis_lines.checked_on(lines),
        "choices": [],  # what the person may answer with, as buttons
        "queue": None,  # place in line while others are written to, 1 for the next
        "error": error or None,
    }


def rules_version() -> str:
    """Version of the screening rules; "unknown" where their files are broken."""
    try:
        return screening.rules_version()
    except screening.RulesError:  # the receipt of a fault must not be a fault itself
        return "unknown"


def read_history(history: Any) -> list[Message]:
    """The turns of a history that a page or a program sent, as plain text.

    Raises:
        BadRequest: it is not a list of user and assistant turns.
    """
    if history is None:
        return []
    if not isinstance(history, Sequence) or isinstance(history, (str, bytes)):
        raise BadRequest('history must be a list of {"role": "user" or "assistant", "content": text}.')
    turns = []
    for position, turn in enumerate(history):
        if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant"):
            raise BadRequest(f'history[{position}] must have the role "user" or "assistant".')
        turns.append(Message(role=turn["role"], content=_text(turn.get("content"), f"history[{position}].content")))
    return turns


def _text(content: Any, what: str) -> str:
    """Plain text of a message: a string, or Gradio 6's list of blocks, of which only text blocks count.

    Halves of characters, which JSON can hold and no reader takes, become "?".
    """
    blocks = [content] if isinstance(content, str) else content
    if isinstance(blocks, list) and all(isinstance(block, (str, dict)) for block in blocks):
        texts = [block if isinstance(block, str) else block.get("text", "") for block in blocks]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(texts).encode("utf-8", "replace").decode("utf-8")
    raise BadRequest(f"{what} must be text.")


def _says_something(text: str) -> bool:
    return any(letter.isprintable() and not letter.isspace() for letter in normalise(text))


def _place(error: Exception) -> str:
    """Module and line where it broke; never the exception's own words, which may quote a message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace else "?"
