"""The types of settings that are more than text or a number."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from settings.wording import Allowed

_USUAL_PORT = {"http": ":80", "https": ":443"}


def _url(text: str) -> str:
    parts = urlsplit(text)
    parts.port  # noqa: B018 - looking at it is what checks it
    if parts.scheme not in ("http", "https") or not parts.hostname or _has_space(text):
        raise ValueError
    parts.hostname.encode("idna")  # or it would be refused at each request
    return text.rstrip("/")


def _base_url(text: str) -> str:
    if "?" in text or "#" in text:
        raise ValueError
    return _url(text)


def _origin(text: str) -> str:
    if text == "*":
        return text
    parts = urlsplit(text.rstrip("/").lower())
    origin = f"{parts.scheme}://{parts.netloc}"
    if not parts.scheme or not parts.hostname or parts.geturl() != origin:
        raise ValueError
    # Browsers send host names in ASCII, and never whose they are.
    if not text.isascii() or _has_space(text) or "@" in parts.netloc:
        raise ValueError
    parts.port  # noqa: B018 - looking at it is what checks it
    # Nor do they send the port that goes without saying (RFC 6454, section 6.2).
    return origin.removesuffix(_USUAL_PORT.get(parts.scheme, ":")).removesuffix(":")


def _database(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme == "sqlite" and len(parts.path) > 1:
        return url
    if parts.scheme in ("postgres", "postgresql", "postgresql+asyncpg") and len(parts.path) > 1:
        return url
    raise ValueError


def _redis(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    parts.port  # noqa: B018 - looking at it is what checks it
    if parts.scheme == "unix" and parts.path:
        return url
    # redis-py takes database 0 for a path that is no number.
    numbered = re.fullmatch(r"(?:/[0-9]{0,9})?", parts.path, re.ASCII)
    if parts.scheme in ("redis", "rediss") and parts.hostname and numbered:
        return url
    raise ValueError


def _visible(key: SecretStr) -> SecretStr:
    # It goes into a header: anything else would fail later, at the first request.
    if all("!" <= character <= "~" for character in key.get_secret_value()):
        return key
    raise ValueError


def _has_space(text: str) -> bool:
    return any(character.isspace() for character in text)


Milliseconds: TypeAlias = Annotated[int, Field(ge=1, le=86_400_000)]
Patience: TypeAlias = Annotated[int, Field(ge=0, le=86_400_000)]  # milliseconds too, or none
# No setting is without a bound: databases and floats have theirs, and would be met in mid-answer.
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000_000_000)]
TokenBudget: TypeAlias = Annotated[int, Field(ge=0, le=100_000_000)]
Url: TypeAlias = Annotated[str, AfterValidator(_url), Allowed("an http:// or https:// URL")]
BaseUrl: TypeAlias = Annotated[
    str, AfterValidator(_base_url), Allowed("an http:// or https:// URL without a query")
]
Origin: TypeAlias = Annotated[
    str, AfterValidator(_origin), Allowed("origins such as https://app.example.com, or *")
]
DatabaseUrl: TypeAlias = Annotated[
    SecretStr,
    AfterValidator(_database),
    Allowed("sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"),
]
RedisUrl: TypeAlias = Annotated[
    SecretStr,
    AfterValidator(_redis),
    Allowed("redis://HOST:PORT/DATABASE, rediss:// or unix:///PATH"),
]
OptionalFile: TypeAlias = Annotated[
    str | None,
    BeforeValidator(lambda text: None if text == "none" else text),
    Allowed("a path, or none for no file"),
]
LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)
]
PluginName: TypeAlias = Annotated[str, Allowed("plug-in names")]
HeaderSecret: TypeAlias = Annotated[
    SecretStr, AfterValidator(_visible), Allowed("visible ASCII characters, without spaces")
]
