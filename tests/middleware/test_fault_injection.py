from __future__ import annotations

import json

import pytest
from small_app import built_in, client_of, small_app

from settings import Settings

ALL = (
    "timeout, rate_limit, server_error, retry_then_ok, cut_mid_stream, slow_first_token,"
    " long_story, malformed"
)


def app_where_scenarios_are(state: str):
    settings = Settings.from_env({"ENABLE_TEST_SCENARIOS": state})
    return small_app(built_in("fault_injection"), settings)


@pytest.mark.parametrize("scenario", ALL.split(", "))
async def test_each_scenario_can_be_chosen(scenario):
    async with client_of(app_where_scenarios_are("true")) as client:
        answer = await client.get("/scenario", {"x-test-scenario": scenario})

    assert answer.body == f'"{scenario}"'


@pytest.mark.parametrize("headers", [{}, {"x-test-scenario": " "}])
async def test_without_the_header_nothing_is_played(headers):
    async with client_of(app_where_scenarios_are("true")) as client:
        answer = await client.get("/scenario", headers)

    assert answer.body == "null"


async def test_an_unknown_scenario_is_refused_with_those_there_are():
    async with client_of(app_where_scenarios_are("true")) as client:
        answer = await client.get("/scenario", {"x-test-scenario": "earthquake"})

    assert answer.status == 400
    assert json.loads(answer.body) == {
        "code": "VALIDATION_ERROR",
        "details": {"X-Test-Scenario": f"must be one of {ALL}"},
    }


@pytest.mark.parametrize("scenario", ["timeout", "earthquake"])
async def test_switched_off_the_header_means_nothing(scenario):
    async with client_of(app_where_scenarios_are("false")) as client:
        answer = await client.get("/scenario", {"x-test-scenario": scenario})

    assert (answer.status, answer.body) == (200, "null")


async def test_a_path_that_is_not_there_is_404_whatever_the_header_says():
    async with client_of(app_where_scenarios_are("true")) as client:
        answer = await client.get("/nowhere", {"x-test-scenario": "earthquake"})

    assert answer.status == 404
