"""Which language a person writes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import replies
from support.languages import in_other_script, language_of, languages, texts_of_user
from support.replies import FOLDER
from support.screening.rules import rule_book
from training.screening.dataset import read_examples


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I can't do this any more", "en"),
        ("no puedo más, ayúdame", "es"),
        ("não aguento mais, me ajuda", "pt"),
        ("je n'en peux plus", "fr"),
        ("ich kann nicht mehr", "de"),
        ("non ce la faccio più", "it"),
        ("मैं थक गया हूँ", "hi"),
        ("main thak gaya hun yaar", "hi"),
        ("أنا تعبان جدا", "ar"),
        ("我好累", "zh"),
        ("もう疲れた", "ja"),
        ("너무 힘들어요", "ko"),
        ("I wanna die", "en"),
        ("I deserve to die", "en"),
        ("I'd rather die", "en"),
        ("I'm ready to die", "en"),
        ("I need to die", "en"),
        ("Let me die", "en"),
        ("Ich will sterben, die Nacht ist so lang", "de"),
        ("Selbstmord", "de"),
        ("me voy a matar", "es"),
        ("me corto", "es"),
        ("tomé pastillas", "es"),
        ("perdóname", "es"),
        ("suicídio", "pt"),
        ("suici\u0301dio", "pt"),
        ("minha família", "pt"),
        ("meine Schule", "de"),
        ("Schmerzen", "de"),
        ("genitori", "it"),
        ("mi sento sola", "it"),
        ("mi ammazzo", "it"),
        ("ho paura", "it"),
        ("aiutami", "it"),
        ("déjà", "fr"),
        ("j'ai recommencé", "fr"),
        ("bohot takleef", "hi"),
    ],
)
def test_each_language(text, language):
    assert language_of([text]) == language


def test_a_message_that_tells_nothing_leaves_it_to_the_one_before():
    assert language_of(["no puedo más con esto", "ok", "??"]) == "es"
    assert language_of([]) == language_of(["", "123"]) == "en"


@pytest.mark.parametrize(
    ("messages", "language"),
    [
        (["I had such a bad day at school", "die"], "en"),
        (["今日はとても疲れました", "無理"], "ja"),
        (["もう疲れた", "無理", "最悪", "限界"], "ja"),
        (["もう疲れた", "I am here", "無理"], "ja"),
        (["もう疲れた", "我真的不想活下去了", "限界"], "zh"),
        (["我今天很累", "限界"], "zh"),
        (["最悪"], "zh"),
        (["I feel alone", "ok", "kill", "die"], "en"),
        (["I had such a bad day at school", "exam"], "en"),
        (["sono molto triste oggi", "suicidio"], "it"),
        (["I feel so alone here", "我想死"], "zh"),
        (["ich habe heute so viel geweint", "morte"], "de"),
    ],
)
def test_a_word_of_several_languages_leaves_it_to_the_messages_before(messages, language):
    assert language_of(messages) == language


def test_the_newest_message_decides():
    assert language_of(["no puedo más con esto", "can we speak English please, my Spanish is bad"]) == "en"


def test_the_share_that_is_right():
    """Measured on the classifier's examples, which the lists of words are drawn from."""
    right: dict[str, list[bool]] = {}
    for example in read_examples():
        right.setdefault(example.language, []).append(language_of([example.text]) == example.language)
    assert set(right) == set(languages())
    for language, results in right.items():
        assert sum(results) / len(results) >= 0.95, language


def test_the_phrases_of_the_rules():
    """Short, and of the worst moments: what the lists of words were not drawn from."""
    right: dict[str, list[bool]] = {}
    for rule in rule_book().rules.values():
        for phrase in rule.examples.get("hit", []):
            if isinstance(phrase, str) and len(phrase.split()) > 1:
                right.setdefault(rule.language, []).append(language_of([phrase]) == rule.language)
    assert all(right["en"])
    for language, results in right.items():
        assert sum(results) / len(results) >= 0.98, language


def test_every_language_has_its_replies():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(languages())


@given(st.lists(st.text(), max_size=4))
def test_any_text_has_a_language(messages):
    assert language_of(messages) in languages()


def test_only_the_persons_words_count():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert texts_of_user(turns) == ["a", "c"]


@pytest.mark.parametrize("content", [None, b"[]", b"es: 1", b"a: [", b"\xff\xfe\x00"])
def test_a_broken_file_leaves_english(tmp_path, monkeypatch, content):
    from support import languages as module

    path = tmp_path / "languages.yaml"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(module, "FILE", path)
    module._loaded.cache_clear()
    module._languages_of_words.cache_clear()
    try:
        assert language_of(["ya no quiero vivir"]) == "en" and set(languages()) == {"en"}
        assert "languages.yaml" in (module.problem() or "") and "languages.yaml" in (replies.problem() or "")
        assert "988" in replies.crisis(2, "suicide", "US", language="es") and "988" in replies.fault("US")
    finally:
        for cached in (module._loaded, module._languages_of_words, replies._loaded, replies._requests_by_words):
            cached.cache_clear()


@pytest.mark.parametrize(
    "text", ["мне сегодня очень грустно", "είμαι λυπημένος", "אני עצוב", "วันนี้ฉันเศร้า", "ok, мне очень грустно"]
)
def test_a_script_of_no_listed_language_is_told(text: str) -> None:
    assert in_other_script(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?!",
        "I am sad",
        "i am ＳＡＤ",
        "𝓢𝓪𝓭 today",
        "I said привет to her",
        "悲しい",
        "えーーーー",
        "ﾂﾗｲ",
        "佐々木",
        "मैं उदास हूँ",
    ],
)
def test_a_script_that_is_known_is_not_another(text: str) -> None:
    assert not in_other_script(text)
