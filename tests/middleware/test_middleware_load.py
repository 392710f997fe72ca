"""What may be wrong about plug-ins is found at start, in one line that names the variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Optional

import pytest
from pydantic import Field, create_model
from sample_plugins import Configured
from small_app import built_in, offers

from middleware import event_hooks, load
from middleware.base import Middleware
from middleware.load import BUILT_IN, plugin
from middleware.options import parse
from settings import BadSetting, Settings

SAMPLES = offers(
    configured="sample_plugins:Configured",
    configured_more="sample_plugins:Configured",
    first="sample_plugins:First",
    needs_a_key="sample_plugins:NeedsAKey",
    missing_module="no_such_module:Plugin",
    missing_class="sample_plugins:NoSuchClass",
    not_a_class="sample_plugins:not_a_class",
    hookless="sample_plugins:Hookless",
    plain_request="sample_plugins:PlainRequestHook",
    plain_turn="sample_plugins:PlainTurnHook",
    async_event="sample_plugins:AsyncEventHook",
    async_generator="sample_plugins:AsyncGeneratorEventHook",
    short_event="sample_plugins:ShortEventHook",
    bare_lifespan="sample_plugins:BareLifespan",
    no_method="sample_plugins:HookThatIsNoMethod",
    odd_options="sample_plugins:OddOptions",
    twice="sample_plugins:First",
) + offers(twice="sample_plugins:Second")


def options_of(env: dict[str, str]) -> Configured.Options:
    (loaded,) = load(["configured"], env, SAMPLES)
    return loaded.on_response.__self__.options


def refusal(names: list[str], env: dict[str, str], offered=SAMPLES) -> str:
    with pytest.raises(BadSetting) as caught:
        load(names, env, offered)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_built_in_plugin_loads_in_the_default_order():
    names = Settings().plugins.middleware

    loaded = built_in(*names)

    assert tuple(plugin.name for plugin in loaded) == names
    # Behind a proxy that says nothing of its clients, all would share what one may do.
    assert {offer.name for offer in BUILT_IN} - set(names) == {"throttle"}


def test_the_built_in_plugins_cost_nothing_per_token():
    loaded = built_in(*Settings().plugins.middleware)

    assert event_hooks(loaded) == ()


def test_no_names_are_no_plugins():
    assert load([], {}) == []


def test_a_plugin_that_is_not_named_is_not_imported():
    """Installed does not mean active: a broken stranger breaks nobody who doesn't use it."""
    (loaded,) = load(["first"], {}, SAMPLES)

    assert loaded.name == "first"


def test_options_come_from_the_environment_in_their_types():
    options = options_of(
        {
            "MIDDLEWARE_CONFIGURED_GREETING": " Salve ",
            "MIDDLEWARE_CONFIGURED_LIMIT": "3",
            "MIDDLEWARE_CONFIGURED_LOUD": "true",
            "MIDDLEWARE_CONFIGURED_MODE": "curt",
            "MIDDLEWARE_CONFIGURED_WORDS": "one, two,,three ",
        }
    )

    assert options == Configured.Options(
        greeting="Salve", limit=3, loud=True, mode="curt", words=("one", "two", "three")
    )


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[str], ["a", "b"]),
        (list[str] | None, ["a", "b"]),
        (Optional[tuple[str, ...]], ("a", "b")),  # noqa: UP045 - plug-ins may be written so
        (Annotated[set[str], Field(min_length=1)] | None, {"a", "b"}),
        (Sequence[str], ["a", "b"]),
        (list, ["a", "b"]),
        (str | None, "a, b"),
        (list[str] | str, "a, b"),
    ],
)
def test_every_way_to_write_a_list_is_comma_separated(annotation, value):
    """`list[str] | None` was once not seen to be one."""
    model = create_model("Options", words=(annotation, ...))

    assert parse("x", model, {"words": "a, b"}).words == value


def test_an_empty_variable_counts_as_unset():
    assert options_of({"MIDDLEWARE_CONFIGURED_LIMIT": " "}).limit == 10


def test_the_longest_name_owns_a_variable():
    env = {"MIDDLEWARE_CONFIGURED_MORE_LIMIT": "3"}

    plain, more = load(["configured", "configured_more"], env, SAMPLES)

    assert plain.on_response.__self__.options.limit == 10
    assert more.on_response.__self__.options.limit == 3


def test_a_name_with_dashes_takes_variables_with_underscores():
    env = {"MIDDLEWARE_MY_PLUGIN_LIMIT": "3"}

    (loaded,) = load(["my-plugin"], env, offers(**{"my-plugin": "sample_plugins:Configured"}))

    assert loaded.on_response.__self__.options.limit == 3


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("twice", "is offered more than once: sample_plugins:First, sample_plugins:Second"),
        ("missing_module", "can't be imported: No module named 'no_such_module'"),
        (
            "missing_class",
            "can't be imported: module 'sample_plugins' has no attribute 'NoSuchClass'",
        ),
        ("not_a_class", "is not a class"),
        ("odd_options", "has Options that are not a pydantic model"),
        ("hookless", "has none of the hooks lifespan, on_request, on_response, on_turn, on_event"),
    ],
)
def test_what_is_no_plugin_is_refused(name, problem):
    assert refusal([name], {}) == f"MIDDLEWARE: {name} {problem}"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("plain_request", "on_request must be an async def, without yield"),
        ("plain_turn", "on_turn must be an async def, without yield"),
        ("async_event", "on_event must be a plain def: it runs for every token"),
        ("async_generator", "on_event must be a plain def: it runs for every token"),
        ("short_event", "on_event must take (self, turn, event)"),
        ("bare_lifespan", "lifespan must be decorated with @asynccontextmanager"),
        ("no_method", "on_request is not a method"),
    ],
)
def test_a_hook_of_the_wrong_shape_is_refused(name, problem):
    assert refusal([name], {}) == f"MIDDLEWARE: {name}.{problem}"


@pytest.mark.parametrize(
    ("name", "variable", "value", "problem"),
    [
        ("configured", "CONFIGURED_LIMIT", "0", "Input should be greater than or equal to 1"),
        (
            "configured",
            "CONFIGURED_COLOUR",
            "red",
            "configured has no such option; it has greeting, limit, loud, mode, words",
        ),
        ("first", "FIRST_COLOUR", "red", "first has no such option; it has none"),
        (
            "first",
            "CONFIGURED_LIMIT",
            "3",
            "configured is not active; add it to MIDDLEWARE or remove this",
        ),
    ],
)
def test_a_bad_option_is_refused(name, variable, value, problem):
    variable = f"MIDDLEWARE_{variable}"

    assert refusal([name], {variable: value}) == f"{variable}: {problem}"


def test_a_missing_option_is_named_by_its_variable():
    assert refusal(["needs_a_key"], {}) == "MIDDLEWARE_NEEDS_A_KEY_KEY: Field required"


def test_a_plugin_is_active_once():
    assert refusal(["first", "first"], {}) == "MIDDLEWARE: first is listed twice"


def test_an_unknown_name_is_answered_with_those_there_are():
    assert refusal(["ratelimit"], {}, BUILT_IN) == (
        "MIDDLEWARE: no plug-in is called ratelimit;"
        " there are access_log, auth, cors, fault_injection, limits, request_id, throttle"
    )


def test_an_option_of_no_plugin_at_all_is_refused():
    assert refusal(["cors"], {"MIDDLEWARE_CROS_MAX_AGE": "1"}, BUILT_IN) == (
        "MIDDLEWARE_CROS_MAX_AGE: no plug-in takes it;"
        " there are access_log, auth, cors, fault_injection, limits, request_id, throttle"
    )


def test_a_bad_value_is_not_repeated_in_the_message():
    """It may be a secret under the wrong name."""
    assert "hunter2" not in refusal(["configured"], {"MIDDLEWARE_CONFIGURED_LIMIT": "hunter2"})


def test_an_inherited_hook_is_no_hook():
    class OnlyEvents(Middleware):
        def on_event(self, turn, event):
            return (event,)

    loaded = plugin("only_events", OnlyEvents())

    assert (loaded.lifespan, loaded.on_request, loaded.on_response) == (None, None, None)
    assert loaded.on_turn is None
    assert loaded.on_event(None, "event") == ("event",)
