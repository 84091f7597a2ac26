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


def build(turns: Sequence[Message], fits: Callable[[list[Message]], bool], system: str = SYSTEM_PROMPT) -> list[Message]:
    """System prompt plus as many of the newest turns as fit.

    Whole exchanges are dropped from the oldest end, so that the system prompt and the newest message always stay and
    the first kept turn is the user's (Llama 2's template demands that roles alternate from the user on).

    Args:
        turns: user and assistant messages, oldest first, ending with the user's newest.
        fits: says whether a list of messages leaves room for the reply; the engine knows.
        system: the system prompt.

    Returns:
        messages, the first of which has the role "system". Where even the newest message alone does not fit, it is
        returned all the same and the engine cuts its beginning.
    """
    start_of_exchange = [i for i, turn in enumerate(turns) if turn["role"] == "user"]
    for start in start_of_exchange:
        messages = [Message(role="system", content=system), *_alternating(turns[start:])]
        if fits(messages):
            return messages
    return [Message(role="system", content=system), *turns[-1:]]


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


def _apply(messages: Sequence[Message], tokenizer: Any, for_reply: bool) -> Any:
    return tokenizer.apply_chat_template(list(messages), add_generation_prompt=for_reply, tokenize=True, return_dict=True)


def _system_into_first_turn(messages: Sequence[Message]) -> list[Message]:
    system, first, *rest = messages
    return [Message(role=first["role"], content=system["content"] + "\n\n" + first["content"]), *rest]
