"""What OpenAI and Anthropic say, event by event, to the byte."""

from __future__ import annotations

import json


def data(value: object) -> bytes:
    """*value* as one event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def chunk(
    content: str | None = None, *, reason: str | None = None, model: str = "gpt-4o-mini-2024-07-18"
) -> bytes:
    """One event of a chat completion, with every field that OpenAI sends."""
    delta = {} if content is None else {"content": content}
    return data(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion.chunk",
            "created": 1741569952,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_06737a9306",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
            "usage": None,
        }
    )


def role_chunk() -> bytes:
    """The first event of a chat completion, which says nothing yet."""
    return data(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None}}]}
    )


def usage_chunk(tokens_in: int, tokens_out: int, *, cached: int = 0, reasoning: int = 0) -> bytes:
    """The event before `[DONE]` that tells the totals."""
    return data(
        {
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
                "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
            },
        }
    )


DONE = b"data: [DONE]\n\n"


def openai_events(
    *texts: str, reason: str | None = "stop", usage: tuple[int, int] | None = (5, 2)
) -> list[bytes]:
    """All events of a chat completion that says *texts*."""
    events = [role_chunk(), *map(chunk, texts)]
    if reason is not None:
        events.append(chunk(reason=reason))
    if usage is not None:
        events.append(usage_chunk(*usage))
    return [*events, DONE]


def anthropic_event(type_: str, **fields: object) -> bytes:
    """One named event of a message."""
    return f"event: {type_}\n".encode() + data({"type": type_, **fields})


def anthropic_events(
    *texts: str, stop_reason: str | None = "end_turn", usage: tuple[int, int] = (5, 2)
) -> list[bytes]:
    """All events of a message that says *texts*."""
    tokens_in, tokens_out = usage
    events = [
        anthropic_event(
            "message_start",
            message={
                "id": "msg_01EcyWo6m4hyW8KHs2y2pei5",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-4-5-20251001",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": tokens_in,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 1,
                    "service_tier": "standard",
                },
            },
        ),
        anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic_event("ping"),
        *(anthropic_delta(text) for text in texts),
        anthropic_event("content_block_stop", index=0),
    ]
    if stop_reason is not None:
        events.append(
            anthropic_event(
                "message_delta",
                delta={"stop_reason": stop_reason, "stop_sequence": None},
                usage={"output_tokens": tokens_out},
            )
        )
    return [*events, anthropic_event("message_stop")]


def anthropic_delta(text: str) -> bytes:
    """One event that says *text*."""
    return anthropic_event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
    )
