"""Turns -> model input: the system prompt stays, whole exchanges go, roles alternate."""

from hypothesis import given
from hypothesis import strategies as st

from support.prompt import SYSTEM_PROMPT, build, render, trim

TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": st.text(min_size=1, max_size=60)}
    ),
    max_size=12,
).map(lambda turns: [*turns, {"role": "user", "content": "newest"}])


def size(messages):
    return sum(len(message["content"]) for message in messages)


@given(TURNS)
def test_roles_alternate_from_the_user_on(turns):
    roles = [message["role"] for message in build(turns)]
    assert roles[0] == "system"
    assert roles[1:] == ["user", "assistant"] * ((len(roles) - 1) // 2) + ["user"]


@given(TURNS, st.integers(0, 800), st.integers(1, 5))
def test_trim_keeps_system_and_newest_and_drops_whole_exchanges(turns, room, step):
    messages = build(turns)

    def fits(candidate):
        return size(candidate) <= len(SYSTEM_PROMPT) + room

    kept = trim(messages, fits, step=step)
    assert kept[0]["content"] == SYSTEM_PROMPT
    assert kept[-1]["role"] == "user" and messages[-1]["content"].endswith(kept[-1]["content"])
    assert kept[1:-1] == messages[len(messages) - len(kept) + 1 : -1]
    assert fits(kept) or room == 0
    if len(kept) > 2 or len(messages[-1]["content"]) <= room:
        assert kept[-1] == messages[-1]


@given(st.text(min_size=1, max_size=400), st.integers(0, 400))
def test_trim_cuts_the_beginning_of_a_newest_message_and_no_more_than_it_must(newest, room):
    messages = build([{"role": "user", "content": newest}])
    system, last = trim(messages, lambda candidate: size(candidate) <= len(SYSTEM_PROMPT) + room)
    assert system == messages[0] and newest.endswith(last["content"])
    if len(newest) <= room:
        assert last["content"] == newest
    else:  # a quarter is cut at a time
        assert max(1, room * 3 // 4) <= len(last["content"]) <= max(1, room)


def test_trim_drops_no_more_than_it_must():
    turns = [{"role": role, "content": "x" * 10} for role in ("user", "assistant") * 4] + [
        {"role": "user", "content": "new"}
    ]
    kept = trim(build(turns), lambda messages: size(messages[1:]) <= 43)
    assert size(kept[1:]) == 43 and len(kept) == 6


def test_trim_in_steps_lets_turns_in_a_row_begin_alike():
    turns, beginnings = [], []
    for number in range(20):
        turns.append({"role": "user", "content": f"{number:010}"})
        kept = trim(build(turns), lambda messages: size(messages[1:]) <= 130, step=3)
        assert size(kept[1:]) <= 130
        beginnings.append(kept[1]["content"])
        turns.append({"role": "assistant", "content": "x" * 10})
    assert [beginnings.count(beginning) for beginning in dict.fromkeys(beginnings)] == [7, 3, 3, 3, 3, 1]


def test_trim_in_steps_keeps_an_exchange_that_fits():
    turns = [{"role": role, "content": "x" * 10} for role in ("user", "assistant") * 2]
    kept = trim(build([*turns, {"role": "user", "content": "newest"}]), lambda messages: len(messages) <= 4, step=4)
    assert len(kept) == 4


class TemplateWithoutSystem:
    """A tokenizer as Gemma's: its template refuses the system role."""

    chat_template = "present"

    def apply_chat_template(self, messages, add_generation_prompt, tokenize, return_dict):
        from jinja2 import TemplateError

        if messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return {"input_ids": [len(messages), len(messages[0]["content"])]}


def test_a_template_without_system_role_gets_it_with_the_first_turn():
    ids = render(build([{"role": "user", "content": "hello"}]), TemplateWithoutSystem())
    assert ids == [1, len(SYSTEM_PROMPT) + 2 + len("hello")]
