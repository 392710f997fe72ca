"""What leaves on the wire, as types: the OpenAPI document is made of them, nothing is built with them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import Field
from typing_extensions import TypedDict

from services.events import FinishReason
from services.turn import Role

Moment: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
NextCursor: TypeAlias = Annotated[
    str | None,
    Field(
        description="The `cursor` of the page after this one, which may have fewer items than asked "
        "for; null: there is none."
    ),
]


class TokenData(TypedDict):
    """`data` of a `token` event: the next piece of the answer."""

    text: str


class UsageData(TypedDict):
    """`data` of the `usage` event: what the answer took and cost."""

    tokens_in: Annotated[int, Field(ge=0)]
    tokens_out: Annotated[int, Field(ge=0)]
    cost_usd: Annotated[
        float | None,
        Field(description="US dollars, never written with an exponent; null: no known price."),
    ]
    model: str
    estimated: NotRequired[
        Annotated[
            Literal[True],
            Field(
                description="The provider did not come to its last count; what it lacks is counted here."
            ),
        ]
    ]


class DoneData(TypedDict):
    """`data` of the `done` event, which every stream ends with."""

    finish_reason: FinishReason
    code: NotRequired[
        Annotated[
            str,
            Field(
                description="With `error`: what failed.",
                examples=["RATE_LIMIT", "OPENAI_TIMEOUT", "SERVER_ERROR"],
            ),
        ]
    ]
    events: NotRequired[
        Annotated[
            int,
            Field(ge=1, description="Resumable streams: how many events there are, this included."),
        ]
    ]


class ProblemDetail(TypedDict):
    """One wrong field of a request, or one wrong header."""

    field: str
    message: str


class Problem(TypedDict):
    """What went wrong."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    message: Annotated[str, Field(description="A sentence for people.")]
    request_id: Annotated[str, Field(description="Also in `X-Request-Id`, and in the log.")]
    details: NotRequired[
        Annotated[list[ProblemDetail], Field(min_length=1, description="Every wrong field.")]
    ]


class ProblemBody(TypedDict):
    """The body of every answer of 400 and above."""

    error: Problem


class Anonymous(TypedDict):
    """The service is up, and no token was sent."""

    status: Literal["ok"]
    authenticated: Literal[False]


class Authenticated(TypedDict):
    """The service is up, and the token is valid."""

    status: Literal["ok"]
    authenticated: Literal[True]
    user_id: str
    email: NotRequired[Annotated[str, Field(description="If the token has one.")]]
    expires_at: Moment


class Stopping(TypedDict):
    """The stream will end, or has ended."""

    stream_id: str
    status: Literal["stopping"]


class SessionItem(TypedDict):
    """One conversation."""

    session_id: str
    started_at: Moment
    active_at: Annotated[Moment, Field(description="When something was last said.")]
    messages: Annotated[int, Field(ge=1)]


class SessionPage(TypedDict):
    """Some of the caller's conversations, last active first."""

    sessions: list[SessionItem]
    next_cursor: NextCursor


class MessageItem(TypedDict):
    """One message of a conversation."""

    id: int
    role: Role
    content: str
    tokens: Annotated[int, Field(ge=0)]
    said_at: Moment
    finish_reason: NotRequired[Annotated[FinishReason, Field(description="Answers: how it ended.")]]


class MessagePage(TypedDict):
    """Some messages of a conversation, newest first."""

    messages: list[MessageItem]
    next_cursor: NextCursor
