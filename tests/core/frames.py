"""Frames that answers end with, byte for byte."""

from __future__ import annotations

SENTENCE = b'event: token\ndata: {"text":"Server error, please try again later."}\n\n'
SENTENCE_AFTER_WORDS = (
    b'event: token\ndata: {"text":"\\n\\nServer error, please try again later."}\n\n'
)
DONE_ERROR = b'event: done\ndata: {"finish_reason":"error","code":"SERVER_ERROR"}\n\n'
DONE_ABORTED = b'event: done\ndata: {"finish_reason":"aborted"}\n\n'
HELLO = b'event: token\ndata: {"text":"Hello"}\n\n'
USAGE_FRAME = (
    b"event: usage\n"
    b'data: {"tokens_in":5,"tokens_out":15,"cost_usd":0.00000975,"model":"gpt-4o-mini"}\n\n'
)
