"""What requests must look like, and what is said when they do not."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from services.errors import Detail, InvalidJson, ValidationFailed

SESSION_ID = r"^session-[0-9]{8}-[0-9]{6}-[a-z0-9]{4}$"


def _sayable(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be only white space")
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


def _not_null(session_id: str | None) -> str:
    # What is left out is not validated: this None was sent.
    if session_id is None:
        raise ValueError("must look like session-YYYYMMDD-HHMMSS-xxxx, or be left out")
    return session_id


SessionId: TypeAlias = Annotated[
    Annotated[str, Field(pattern=SESSION_ID)] | None,
    AfterValidator(_not_null),
    WithJsonSchema({"type": "string", "pattern": SESSION_ID}),
]


class ChatBody(BaseModel):
    """The body of `POST /chat`."""

    # Strict: "true" is no boolean and 1 is no text. Unknown fields are ignored.
    model_config = ConfigDict(strict=True, extra="ignore")

    message: Annotated[str, AfterValidator(_sayable)] = Field(
        min_length=1,
        max_length=4000,
        description="What the user says: not only white space, no NUL, no lone surrogate.",
        # What `_sayable` checks, for whoever makes requests of the OpenAPI document.
        json_schema_extra={"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"},
    )
    useMemory: bool = Field(  # noqa: N815 - the wire's name
        default=False, description="Search the user's earlier conversations for what bears on it."
    )
    sessionId: SessionId = Field(  # noqa: N815 - the wire's name
        default=None, description="The conversation; its recent turns become part of the prompt."
    )
    resumable: bool = Field(
        default=False, description="Number the events, and let the stream be read again."
    )


Body = TypeVar("Body", bound=BaseModel)


def parse(schema: type[Body], body: bytes) -> Body:
    """*body* as a *schema*. Raises `InvalidJson`, or `ValidationFailed` naming every wrong field."""
    try:
        # As text, since json would guess UTF-16 from bytes.
        data = _JSON.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InvalidJson from exc
    try:
        return schema.model_validate(data)
    except ValidationError as exc:
        raise ValidationFailed(details=[_detail(error) for error in exc.errors()]) from exc


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two values counts is up to each reader (RFC 8259, section 4): nobody shall have to guess.
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name appears twice")
    return fields


# Made once: `json.loads` with hooks makes one for every body, in more time than it takes to read it.
_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)


def _detail(error: Any) -> Detail:
    field = ".".join(str(part) for part in error["loc"]) or "body"
    # pydantic's text, without the value that was sent.
    match error["type"]:
        case "value_error":
            message = str(error["ctx"]["error"])
        case "model_type" | "model_attributes_type":
            message = "must be a JSON object"
        case "string_unicode":
            message = "must not contain lone surrogates"
        case "string_pattern_mismatch":
            message = "must look like session-YYYYMMDD-HHMMSS-xxxx"
        case _:
            message = error["msg"]
    return Detail(field, message)
