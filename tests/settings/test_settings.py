"""Environment variables: defaults, refusals that name the variable, and README's table."""

import re
from dataclasses import fields

import pytest

from support.settings import VARIABLES, Settings, SettingsError
from tests.conftest import ROOT


def test_defaults_need_no_variable():
    settings = Settings.from_env({})
    assert (settings.port, settings.quantization, settings.engine, settings.host) == (7860, "auto", "auto", "127.0.0.1")


def test_blank_is_unset():
    assert Settings.from_env({"PORT": "  ", "MODEL_ID": ""}) == Settings()


def test_a_space_listens_to_its_proxy():
    assert Settings.from_env({"SPACE_ID": "someone/copy"}).host == "0.0.0.0"
    assert Settings.from_env({"SPACE_ID": "someone/copy", "HOST": "127.0.0.1"}).host == "127.0.0.1"


@pytest.mark.parametrize(
    "env",
    [
        {"PORT": "none"},
        {"PORT": "70000"},
        {"QUANTIZATION": "int3"},
        {"ENGINE": "magic"},
        {"ENGINE": "remote"},
        {"REMOTE_BASE_URL": "localhost:8000"},
        {"REMOTE_BASE_URL": "http://one:8000, two:8000"},
        {"REMOTE_BASE_URL": ", ", "ENGINE": "remote"},
        {"REMOTE_BASE_URL": "http://"},
        {"REMOTE_BASE_URL": "http://:8000/v1"},
        {"REMOTE_BASE_URL": "http://[::1"},
        {"REMOTE_BASE_URL": "http://one:99999/v1"},
        {"REMOTE_BASE_URL": "http://one:eighty/v1"},
        {"REMOTE_BASE_URL": "http://o ne/v1"},
        {"REMOTE_BASE_URL": "http://o\nne/v1"},
        {"REMOTE_BASE_URL": "http://one/v1?key=x"},
        {"CACHE_DIR": "~no-such-user-here/cache"},
        {"HF_TOKEN": "hf_é"},
        {"HF_TOKEN": "hf_one hf_two"},
        {"CONTEXT_TOKENS": "12"},
        {"MAX_NEW_TOKENS": "5000"},
        {"DEFAULT_COUNTRY": "USA"},
        {"DEFAULT_COUNTRY": "ßß"},
        {"VISITOR_LIMIT": "0"},
        {"REPLY_SECONDS": "0"},
        {"METRICS": "some"},
    ],
)
def test_refusal_names_the_variable(env):
    name = "REMOTE_BASE_URL" if env == {"ENGINE": "remote"} else next(iter(env))
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(env)


def test_a_refusal_shows_no_secret():
    for env in ({"REMOTE_BASE_URL": "http://one, http://me:pass-word@two:x"}, {"HF_TOKEN": "pass-word é"}):
        with pytest.raises(SettingsError) as refused:
            Settings.from_env(env)
        assert "pass-word" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/v1", "https://me:secret@host/v1/", "http://a_b", "https://host:443"]
)
def test_a_base_url_that_a_client_takes(url):
    assert Settings.from_env({"REMOTE_BASE_URL": url}).remote_addresses() == [url]


def test_several_addresses_are_separated_by_commas():
    settings = Settings.from_env({"REMOTE_BASE_URL": "http://one:8000/v1, https://two,"})
    assert settings.remote_addresses() == ["http://one:8000/v1", "https://two"]
    assert Settings().remote_addresses() == []


def test_the_token_is_never_printed():
    assert "hf_secret" not in repr(Settings.from_env({"HF_TOKEN": "hf_secret"}))


def test_readme_lists_every_variable_and_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("<!-- variables -->")[1]
    listed = re.findall(r"^\| `([A-Z_]+)` \|", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(VARIABLES)


def test_readme_tells_the_defaults():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- variables -->")[1]
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", table, flags=re.MULTILINE))
    defaults = {spec.metadata["variable"]: str(spec.default) for spec in fields(Settings) if spec.default != ""}
    assert {name: told[name] for name in defaults} == defaults


def test_nothing_switches_the_guard_off():
    assert not [name for name in VARIABLES if re.search("SCREEN|GATE|GUARD|SAFE|CRISIS|DISCLAIM", name)]
