"""What `held` says, as bytes on the wire."""

WHOLE = (
    b'event: token\ndata: {"text":"one "}\nid: 1\n\n'
    b'event: token\ndata: {"text":"two "}\nid: 2\n\n'
    b'event: token\ndata: {"text":"three "}\nid: 3\n\n'
    b'event: token\ndata: {"text":"four"}\nid: 4\n\n'
    b'event: usage\ndata: {"tokens_in":5,"tokens_out":15,"cost_usd":0.00000975,'
    b'"model":"gpt-4o-mini"}\nid: 5\n\n'
    b'event: done\ndata: {"finish_reason":"stop","events":6}\nid: 6\n\n'
)
