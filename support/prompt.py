"""The system prompt, and turns -> model input. The app and the training read the same words from here.

Knows nothing about engines, screening or files. A prompt is not a safety layer: what the model writes still passes the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

SYSTEM_PROMPT = (
    "You are a warm, careful listener in a self-help support chat. You are an AI program, not a person and not a clinician, "
    "and you say so when asked. First reflect what the person feels in one sentence. Then offer one or two small, practical "
    "ideas, or one open question. Use plain words and short paragraphs, and do not repeat yourself. Never diagnose, never "
    "advise on medicines or doses, never describe ways to get hurt, and never give phone numbers: the page shows those. "
    "Encourage talking with people they trust or a professional."
)


class Message(TypedDict):
    """One turn: `role` is system, user or assistant; `content` is plain text."""

    role: str
    content: str


def build(turns: Sequence[Message], system: str = SYSTEM_PROMPT) -> list[Message]:
    """The system prompt, then the turns from the user's first on, roles alternating (Llama 2's template demands it).

    Args:
        turns: user and assistant messages, oldest first, ending with the user's newest.
        system: the system prompt.

    Returns:
        messages, the first of which has the role "system", the second and the last "user".
    """
    first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), len(turns))
    return [Message(role="system", content=system), *_alternating(turns[first:])]


def trim(messages: Sequence[Message], fits: Callable[[list[Message]], bool], *, step: int = 1) -> list[Message]:
    """Drop whole exchanges from the oldest end until the rest fits; the system prompt and the newest message stay.

    Cutting tokens instead, as many chat demos do, would cut the system prompt first. Where even the newest message
    alone does not fit, its beginning is cut: what a person ends with is what they want answered.

    Args:
        messages: as `build` returns them.
        fits: says whether messages leave room for the reply; the engine knows.
        step: exchanges dropped at a time, as long as that leaves one. More than 1 lets several turns in a row begin with the
            same words, which an engine that keeps what it has read need not read again.
    """
    system, turns = messages[0], list(messages[1:])
    for start in (*range(0, len(turns), 2 * step), *range(0, len(turns), 2)):
        kept = [system, *turns[start:]]
        if fits(kept):
            return kept
    newest = turns[-1]["content"]
    while len(newest) > 1 and not fits([system, Message(role="user", content=newest)]):
        newest = newest[len(newest) // 4 + 1 :]
    return [system, Message(role="user", content=newest)]


def _alternating(turns: Sequence[Message]) -> list[Message]:
    """Join neighbouring turns of one role; a stopped reply or an edit can leave two in a row."""
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1] = Message(role=turn["role"], content=joined[-1]["content"] + "\n\n" + turn["content"])
        else:
            joined.append(Message(role=turn["role"], content=turn["content"]))
    return joined


def render(messages: Sequence[Message], tokenizer: Any, *, for_reply: bool = True) -> list[int]:
    """Token ids of `messages` through the model's own chat template.

    Args:
        messages: as `build` returns them.
        tokenizer: a transformers tokenizer with a chat template.
        for_reply: end where the assistant is to speak; False for training on whole conversations.

    Raises:
        ValueError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("The model has no chat template; choose an instruct or chat model for MODEL_ID.")
    from jinja2 import TemplateError

    try:
        encoded = _apply(messages, tokenizer, for_reply)
    except TemplateError:  # templates such as Gemma's and Mistral's know no system role
        encoded = _apply(_system_into_first_turn(messages), tokenizer, for_reply)
    return list(encoded["input_ids"])


def render_to_fit(messages: Sequence[Message], tokenizer: Any, room: int, *, step: int = 1) -> list[int]:
    """`render` of what `trim` leaves of `messages` in `room` tokens."""
    ids: list[int] = []

    def fits(candidate: list[Message]) -> bool:
        nonlocal ids
        ids = render(candidate, tokenizer)  # kept: what fits need not be rendered again
        return len(ids) <= room

    trim(messages, fits, step=step)
    return ids


def _apply(messages: Sequence[Message], tokenizer: Any, for_reply: bool) -> Any:
    return tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=for_reply, tokenize=True, return_dict=True
    )


def _system_into_first_turn(messages: Sequence[Message]) -> list[Message]:
    system, first, *rest = messages
    return [Message(role=first["role"], content=system["content"] + "\n\n" + first["content"]), *rest]
