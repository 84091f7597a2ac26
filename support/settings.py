"""Every environment variable this project reads, in one validated dataclass.

    from support.settings import Settings
    settings = Settings.from_env()

Nothing else in the project touches `os.environ` for configuration; README's table is compared with `VARIABLES` by a test.
There is no variable that turns the screening, the gate, the disclaimers or the help panel off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

QUANTIZATIONS = ("auto", "nf4", "bf16", "none")
ENGINES = ("auto", "transformers", "openvino", "remote")
SWITCH = ("on", "off")


class SettingsError(ValueError):
    """A variable has a value that cannot be used. The message names the variable and what it accepts."""


def _variable(name: str, default, about: str):
    return field(default=default, metadata={"variable": name, "about": about})


@dataclass(frozen=True)
class Settings:
    """Configuration of one running app. Empty strings mean "not set".

    Raises:
        SettingsError: a value is outside what its variable accepts.
    """

    model_id: str = _variable(
        "MODEL_ID", "", "Hub id or folder of the base model, or a GGUF file. Empty: chosen by hardware"
    )
    adapter_id: str = _variable("ADAPTER_ID", "", "Hub id or folder of a PEFT LoRA adapter, loaded over the base model")
    quantization: str = _variable("QUANTIZATION", "auto", "`nf4`, `bf16`, `none` or `auto`")
    engine: str = _variable(
        "ENGINE", "auto", "`transformers`, `openvino`, `remote` or `auto`: remote when REMOTE_BASE_URL is set"
    )
    remote_base_url: str = _variable(
        "REMOTE_BASE_URL", "", "OpenAI-compatible server that generates, such as vLLM; several, separated by commas"
    )
    hf_token: str = field(
        default="",
        repr=False,  # a token never reaches a log
        metadata={"variable": "HF_TOKEN", "about": "Token for gated or private models. A secret, never a variable"},
    )
    port: int = _variable("PORT", 7860, "Port of the web page and the API")
    host: str = _variable("HOST", "127.0.0.1", "Address to listen on. A Space sets 0.0.0.0 by itself")
    cache_dir: str = _variable("CACHE_DIR", "", "Where the embedded model is kept after its first conversion")
    context_tokens: int = _variable("CONTEXT_TOKENS", 2048, "Most tokens of prompt and reply together")
    max_new_tokens: int = _variable(
        "MAX_NEW_TOKENS", 256, "Longest reply, in tokens, unless the person chooses another"
    )
    encoder_id: str = _variable(
        "ENCODER_ID",
        "",
        "Sentence encoder of the classifiers of screening and gate: empty for the embedded one, or a Hub id",
    )
    default_country: str = _variable("DEFAULT_COUNTRY", "", "Two-letter country preselected in the help panel")
    visitor_limit: int = _variable(
        "VISITOR_LIMIT", 4, "Most replies that a visitor may have on their way, being written or in line"
    )
    reply_seconds: int = _variable("REPLY_SECONDS", 180, "Longest time that a reply is written; it ends then")
    metrics: str = _variable("METRICS", "off", "`on`: numbers without text at `/metrics` and `/health`; else `off`")

    def __post_init__(self) -> None:
        _one_of("QUANTIZATION", self.quantization, QUANTIZATIONS)
        _one_of("ENGINE", self.engine, ENGINES)
        _one_of("METRICS", self.metrics, SWITCH)
        _between("PORT", self.port, 1, 65535)
        _between("CONTEXT_TOKENS", self.context_tokens, 512, 131072)
        _between("MAX_NEW_TOKENS", self.max_new_tokens, 16, min(4096, self.context_tokens // 2))
        _between("VISITOR_LIMIT", self.visitor_limit, 1, 64)
        _between("REPLY_SECONDS", self.reply_seconds, 1, 3600)
        for number, address in enumerate(self.remote_addresses(), 1):
            if not _is_base_url(address):  # not quoted: it may hold a password
                raise SettingsError(
                    f"Address {number} in REMOTE_BASE_URL is not the base URL of a server; write it like "
                    "http://10.0.0.7:8000/v1, with a port up to 65535 and nothing after the path."
                )
        if self.engine == "remote" and not self.remote_addresses():
            raise SettingsError("ENGINE=remote needs REMOTE_BASE_URL, the address of an OpenAI-compatible server.")
        if self.cache_dir.startswith("~"):
            try:
                self.cache_folder()
            except RuntimeError:
                raise SettingsError(
                    "CACHE_DIR begins with a home folder that is not there; give the whole path."
                ) from None
        if not (self.hf_token.isascii() and self.hf_token.isprintable() and " " not in self.hf_token):
            raise SettingsError("HF_TOKEN holds a space, or a character that no token has; copy it again.")
        if self.default_country and not re.fullmatch("[A-Za-z]{2}", self.default_country):
            raise SettingsError("DEFAULT_COUNTRY must be a two-letter country code such as US, or empty.")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment (or `env`). Unset and blank variables keep their defaults."""
        env = os.environ if env is None else env
        values: dict = {}
        for spec in fields(cls):
            raw = env.get(spec.metadata["variable"], "").strip()
            if not raw:
                continue
            values[spec.name] = _whole_number(spec.metadata["variable"], raw) if spec.type == "int" else raw
        if env.get("SPACE_ID") and "host" not in values:
            values["host"] = "0.0.0.0"  # a Space's proxy reaches the app from outside its container
        for name in ("quantization", "engine", "metrics"):
            if name in values:
                values[name] = values[name].lower()
        if "default_country" in values:
            values["default_country"] = values["default_country"].upper()
        return cls(**values)

    def remote_addresses(self) -> list[str]:
        """The base URLs in REMOTE_BASE_URL."""
        return [address.strip() for address in self.remote_base_url.split(",") if address.strip()]

    def cache_folder(self) -> Path:
        """Folder for files made once and used again; never for anything a person wrote."""
        if self.cache_dir:
            return Path(self.cache_dir).expanduser()
        root = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
        return Path(root).expanduser() / "mental-health-support"


VARIABLES: dict[str, str] = {spec.metadata["variable"]: spec.metadata["about"] for spec in fields(Settings)}


def _whole_number(variable: str, raw: str) -> int:
    try:
        return int(raw)
    except ValueError:
        raise SettingsError(f"{variable} must be a whole number; it is {raw!r}.") from None


def _is_base_url(address: str) -> bool:
    """Something that an HTTP client can be given: it has a host, and paths can be written after it."""
    try:
        parts = urlsplit(address)
        whole = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:  # brackets that do not close, a port that is no number or too large
        return False
    return whole and address.startswith(("http://", "https://")) and address.isprintable() and " " not in address


def _one_of(variable: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise SettingsError(f"{variable} must be one of {', '.join(accepted)}; it is {value!r}.")


def _between(variable: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{variable} must be between {low} and {high}; it is {value}.")
