-- `said_at` is microseconds since 1970 (UTC). An answer may be empty; `finish_reason` says why.
CREATE TABLE messages (
    id integer PRIMARY KEY AUTOINCREMENT,
    user_id text NOT NULL,
    session_id text,
    turn_id text NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    content text NOT NULL,
    tokens integer NOT NULL,
    said_at integer NOT NULL,
    finish_reason text,
    -- A turn whose acknowledgement was lost is written again and changes nothing.
    UNIQUE (turn_id, role)
);
CREATE INDEX messages_session ON messages (user_id, session_id, id);
CREATE INDEX messages_said_at ON messages (user_id, session_id, said_at);
