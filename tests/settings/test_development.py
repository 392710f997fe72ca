"""The token and the command that `make token` and `make run` print work as they stand."""

import shlex
import time

import jwt
import pytest

from settings import BadSetting, Settings
from settings.development import curl_line, development_token, main

SECRET = "placeholder-jwt-secret-with-at-least-32-characters"


def claims(token):
    return jwt.decode(token, SECRET, algorithms=["HS256"], audience="authenticated")


def test_a_token_carries_the_claims_that_the_service_asks_for():
    before = int(time.time())

    found = claims(development_token(Settings(), user_id="ann", email="ann@example.com", ttl=60.0))

    assert (found["sub"], found["email"], found["aud"]) == (
        "ann",
        "ann@example.com",
        "authenticated",
    )
    assert found["exp"] - found["iat"] == 60
    assert found["iat"] >= before


def test_a_token_names_the_issuer_that_is_asked_for():
    settings = Settings.from_env({"JWT_ISSUER": "https://issuer.example"})

    assert claims(development_token(settings))["iss"] == "https://issuer.example"


def test_the_curl_line_is_a_command_that_asks_this_service():
    words = shlex.split(curl_line(Settings(), port=4321))

    assert words[:2] == ["curl", "-N"]
    assert words[-1] == "http://localhost:4321/api/v1/chat"
    assert words[words.index("-d") + 1] == '{"message": "Hello, how are you?"}'
    scheme, token = words[words.index("-H") + 1].removeprefix("Authorization: ").split(" ")
    assert scheme == "Bearer"
    assert claims(token)["sub"] == "test-user-id"


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("localhost", "localhost"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "[::1]"),
    ],
)
def test_the_curl_line_asks_where_the_service_listens(host, named):
    words = shlex.split(curl_line(Settings.from_env({"HOST": host})))

    assert words[-1] == f"http://{named}:3000/api/v1/chat"


def test_no_token_is_made_in_production():
    settings = Settings.from_env({"APP_ENV": "production", "JWT_SECRET": "s" * 32})

    with pytest.raises(BadSetting, match=r"^APP_ENV: "):
        development_token(settings)


@pytest.mark.parametrize(("ttl", "seconds"), [("90", 90), ("2m", 120), ("12h", 43_200)])
def test_the_command_prints_a_token_and_nothing_else(capsys, tmp_path, ttl, seconds):
    status = main(["--user-id", "ann", "--ttl", ttl], {}, tmp_path / ".env")

    found = claims(capsys.readouterr().out.removesuffix("\n"))
    assert status == 0
    assert found["sub"] == "ann"
    assert found["exp"] - found["iat"] == seconds


@pytest.mark.parametrize("ttl", ["0", "-1", "1w", "٣", "", "36501d", "9" * 5000])
def test_a_lifetime_that_is_none_is_refused(capsys, tmp_path, ttl):
    with pytest.raises(SystemExit):
        main([f"--ttl={ttl}"], {}, tmp_path / ".env")

    assert "is no duration" in capsys.readouterr().err


def test_a_bad_setting_is_one_line_and_a_failure(capsys, tmp_path):
    status = main([], {"PORT": "x"}, tmp_path / ".env")

    assert status == 1
    assert capsys.readouterr().err == "PORT: must be a whole number from 0 to 65535\n"
