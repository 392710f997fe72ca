-- Whose messages: `owner` is a hash of the user id. The counts are of what is remembered now.
CREATE TABLE memory_owners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL UNIQUE,
    messages integer NOT NULL,
    words integer NOT NULL
);

CREATE TABLE memory_sessions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner bigint NOT NULL,
    session_id text NOT NULL,
    messages integer NOT NULL CHECK (messages < 16777216),
    UNIQUE (owner, session_id)
);

-- A message's id is its session's id * 2^24 + its number in it: neighbours have neighbouring ids.
-- `said_at` is microseconds since 1970 (UTC), `speaker` the words of a name in front of the text,
-- `terms` the text's terms, hashed with the owner.
CREATE TABLE memory (
    id bigint PRIMARY KEY,
    owner bigint NOT NULL,
    length integer NOT NULL,
    is_question boolean NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    said_at bigint NOT NULL,
    speaker text NOT NULL,
    content text NOT NULL,
    terms tsvector NOT NULL
);
CREATE INDEX memory_said_at ON memory (owner, said_at, id);
-- Without `fastupdate`: a search would have to read the entries that are not merged yet.
CREATE INDEX memory_terms ON memory USING gin (terms) WITH (fastupdate = off);
