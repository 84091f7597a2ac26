"""The words of the tools: every language has each of them, and none promises what this is not."""

import re

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "assets" / "interface"
LANGUAGES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml")}


def flat(groups) -> dict[str, str]:
    return {f"{group}.{name}": text for group, names in groups.items() for name, text in names.items()}


ENGLISH = flat(LANGUAGES["en"])


def test_all_languages_of_the_screening_are_there():
    screened = yaml.safe_load((ROOT / "assets" / "languages.yaml").read_text(encoding="utf-8"))
    assert LANGUAGES.keys() == screened.keys()


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_language_has_every_word(language):
    words = flat(LANGUAGES[language])
    assert words.keys() == ENGLISH.keys()
    assert all(isinstance(text, str) and text.strip() for text in words.values())
    holes = {key: sorted(re.findall(r"\{\d\}", text)) for key, text in words.items()}
    assert holes == {key: sorted(re.findall(r"\{\d\}", text)) for key, text in ENGLISH.items()}
    if language != "en":
        same = [key for key, text in words.items() if text == ENGLISH[key] and len(text) > 12]
        assert not same, "not translated"


def test_every_word_that_is_used_is_there():
    used = set()
    for path in (ROOT / "assets" / "tools").glob("*"):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"""(?:\bt|word)\((?:kept \? )?["`]([a-z]+\.[a-z_]+)["`]""", text)) | set(
            re.findall(r'data-sentence="(draft\.\w+)"', text)
        )
    assert len(used) > 20 and used <= ENGLISH.keys(), used - ENGLISH.keys()


def test_support_is_what_it_is_called():
    for key, text in ENGLISH.items():
        assert not re.search(r"(?<!not )therap|treat|patient|cure", text, re.IGNORECASE), key


def test_the_questionnaires_are_whole():
    found = yaml.safe_load((ROOT / "assets" / "tools" / "questionnaires.yaml").read_text(encoding="utf-8"))
    assert {name: (len(q["questions"]), len(q["answers"])) for name, q in found.items()} == {
        "phq": (9, 4),
        "gad": (7, 4),
    }
    assert [[start for start, _ in q["bands"]] for q in found.values()] == [[0, 5, 10, 15, 20], [0, 5, 10, 15]]
    assert (
        found["phq"]["questions"][8].startswith("Thoughts that you would be better off dead")
        and found["phq"]["crisis"] == 9
    )


def test_numbers_are_shown_even_without_words(monkeypatch):
    from support import page
    from support.settings import Settings

    monkeypatch.setattr(page, "_read", lambda language: ({}, "broken"))
    html = page.help_panel(Settings()).decode()
    assert ">988</span>" in html and 'href="tel:988"' in html
