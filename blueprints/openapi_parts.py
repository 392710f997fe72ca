"""Pieces of an OpenAPI document: operations, responses with their headers, parameters, schemas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from blueprints.event_stream import CONTENT_TYPE, HEADERS
from services.errors import ServiceError, ValidationFailed
from services.events import Event
from services.streaming import sse

Json: TypeAlias = dict[str, Any]


def operation(
    name: str,
    tag: str,
    summary: str,
    answers: Json,
    refusals: Iterable[type[ServiceError]],
    *,
    parameters: Sequence[Json] = (),
    request_body: Json | None = None,
    security: list[Json] | None = None,
) -> Json:
    """What a method of a path does: *answers* by status, and the errors that it can refuse with."""
    responses = answers | _refused((*refusals, ServiceError))
    optional = {"security": security, "requestBody": request_body}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": [*parameters, _REQUEST_ID],
        **{key: value for key, value in optional.items() if value is not None},
        "responses": dict(sorted(responses.items())),
    }


def response(description: str, *, headers: Json | None = None, content: Json | None = None) -> Json:
    """An answer, with the headers that every answer has."""
    return {
        "description": description,
        "headers": {"X-Request-Id": header("Names the request in the log.")} | (headers or {}),
        **({} if content is None else {"content": content}),
    }


def json_response(description: str, *schemas_of_it: str) -> Json:
    """An answer in JSON, of one of the named schemas."""
    refs = [ref(name) for name in schemas_of_it]
    schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
    return response(description, content={"application/json": {"schema": schema}})


def stream_response(description: str, examples: Json, headers: Json | None = None) -> Json:
    """An event stream, with *headers* besides those that every stream has."""
    fixed = {name.title(): header(const=value) for name, value in HEADERS.items()}
    named = {"X-Stream-Id": header("Names a resumable stream.", required=False)}
    return response(
        description,
        headers=fixed | named | (headers or {}),
        content={
            CONTENT_TYPE: {
                "schema": {"type": "string", "contentMediaType": CONTENT_TYPE},
                "examples": examples,
                # OpenAPI 3.1 has no word for what the events of a stream are.
                "x-events": {
                    "token": ref("TokenData"),
                    "usage": ref("UsageData"),
                    "done": ref("DoneData"),
                },
            }
        },
    )


def stream_text(events: Sequence[Event], *, numbered: bool = False, after: int = 0) -> str:
    """*events* as a stream sends them; *numbered* ones follow number *after*."""
    frames = [
        sse.encode(event, number if numbered else None)
        for number, event in enumerate(events, after + 1)
    ]
    return (sse.CONNECTED + b"".join(filter(None, frames))).decode("ascii")


def header(description: str = "", *, required: bool = True, **schema: Any) -> Json:
    """A header of an answer; *schema* narrows what it holds."""
    said = {"description": description} if description else {}
    return said | {"required": required, "schema": {"type": "string", **schema}}


def parameter(name: str, place: str, description: str, **schema: Any) -> Json:
    """A parameter in the path, the query or a header."""
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def ref(name: str) -> Json:
    """The schema called *name*."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(received: Sequence[type], sent: Sequence[type]) -> Json:
    """The schemas of what is *received* and what is *sent*, and of everything inside them."""
    kinds: list[tuple[type, Any, TypeAdapter[Any]]] = [
        *((each, "validation", TypeAdapter(each)) for each in received),
        *((each, "serialization", TypeAdapter(each)) for each in sent),
    ]
    _, found = TypeAdapter.json_schemas(
        kinds, ref_template="#/components/schemas/{model}", schema_generator=_Plain
    )
    return dict(sorted(found["$defs"].items()))


class _Plain(GenerateJsonSchema):
    """Without what only repeats: a title that is the field's name, a default of null where a field is optional."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> Json:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


def _refused(refusals: Iterable[type[ServiceError]]) -> Json:
    """One response per status, with an example for each code."""
    responses: Json = {}
    for refusal in refusals:
        media: Json = {"schema": ref("ProblemBody"), "examples": {}}
        told = responses.setdefault(
            str(refusal.status),
            response("", headers=_headers(refusal), content={"application/json": media}),
        )
        told["description"] += f"{', ' * bool(told['description'])}`{refusal.code}`"
        told["content"]["application/json"]["examples"][refusal.code] = {
            "summary": refusal.sentence,
            "value": {"error": _example(refusal)},
        }
    return responses


def _example(refusal: type[ServiceError]) -> Json:
    error = {
        "code": refusal.code,
        "message": refusal.sentence,
        "request_id": "req_5f2a9c01d4e8b736",
    }
    if refusal is ValidationFailed:
        detail = {"field": "message", "message": "must not be only white space"}
        return error | {"details": [detail]}
    return error


def _headers(refusal: type[ServiceError]) -> Json:
    match refusal.status:
        case 401:
            challenge = refusal().headers["www-authenticate"]
            return {"WWW-Authenticate": header("RFC 6750, section 3.", const=challenge)}
        case 429:
            return {"Retry-After": _RETRY_AFTER, **LIMITS}
        case 503:
            return {"Retry-After": _RETRY_AFTER}
        case _:
            return {}


LIMITS: Final = {
    "RateLimit": header(
        "What is left to the caller (draft-ietf-httpapi-ratelimit-headers).", required=False
    ),
    "RateLimit-Policy": header("The caller's quotas, if there are any.", required=False),
}
_RETRY_AFTER: Final = header("Seconds.", pattern="^[1-9][0-9]*$")
_REQUEST_ID: Final = parameter(
    "X-Request-Id",
    "header",
    "The client's own name for the request; one of another shape is replaced.",
    pattern="^[A-Za-z0-9._-]{1,128}$",
)
