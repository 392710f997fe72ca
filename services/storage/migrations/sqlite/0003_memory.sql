-- Whose messages: `owner` is a hash of the user id. The counts are of what is remembered now.
CREATE TABLE memory_owners (
    id integer PRIMARY KEY AUTOINCREMENT,
    owner text NOT NULL UNIQUE,
    messages integer NOT NULL,
    words integer NOT NULL
);

CREATE TABLE memory_sessions (
    -- Never given twice, so that an erased message's id can't come to mean another.
    id integer PRIMARY KEY AUTOINCREMENT,
    owner integer NOT NULL,
    session_id text NOT NULL,
    messages integer NOT NULL CHECK (messages < 16777216),
    UNIQUE (owner, session_id)
);

-- A message's id is its session's id * 2^24 + its number in it: neighbours have neighbouring ids.
-- `said_at` is microseconds since 1970 (UTC), `speaker` the words of a name in front of the text.
CREATE TABLE memory (
    id integer PRIMARY KEY,
    owner integer NOT NULL,
    length integer NOT NULL,
    is_question integer NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    said_at integer NOT NULL,
    speaker text NOT NULL,
    content text NOT NULL
);
CREATE INDEX memory_said_at ON memory (owner, said_at, id);

-- The terms of each message, hashed with the owner: kept, because an entry of the index is erased
-- by telling the index again what it was.
CREATE TABLE memory_terms (
    id integer PRIMARY KEY,
    terms text NOT NULL
);
CREATE VIRTUAL TABLE memory_index USING fts5 (
    terms, content = 'memory_terms', content_rowid = 'id', tokenize = 'ascii', detail = 'none', columnsize = 0
);
CREATE TRIGGER memory_terms_added AFTER INSERT ON memory_terms BEGIN
    INSERT INTO memory_index (rowid, terms) VALUES (new.id, new.terms);
END;
CREATE TRIGGER memory_terms_erased AFTER DELETE ON memory_terms BEGIN
    INSERT INTO memory_index (memory_index, rowid, terms) VALUES ('delete', old.id, old.terms);
END;
CREATE TRIGGER memory_erased AFTER DELETE ON memory BEGIN
    DELETE FROM memory_terms WHERE id = old.id;
END;

-- Takes a message with its terms and puts everything where it belongs: each statement sent costs
-- a change of threads, so a turn is remembered with one.
CREATE VIEW memory_incoming AS
    SELECT '' AS owner, '' AS session_id, role, said_at, length, is_question, speaker, content, '' AS terms
    FROM memory;
CREATE TRIGGER memory_arrives INSTEAD OF INSERT ON memory_incoming BEGIN
    INSERT INTO memory_owners (owner, messages, words) VALUES (new.owner, 1, new.length)
    ON CONFLICT (owner) DO UPDATE SET messages = messages + 1, words = words + excluded.words;

    INSERT INTO memory_sessions (owner, session_id, messages)
    SELECT id, new.session_id, 1 FROM memory_owners WHERE owner = new.owner
    ON CONFLICT (owner, session_id) DO UPDATE SET messages = messages + 1;

    INSERT INTO memory (id, owner, length, is_question, role, said_at, speaker, content)
    SELECT s.id << 24 | s.messages, s.owner, new.length, new.is_question, new.role, new.said_at,
           new.speaker, new.content
    FROM memory_owners o JOIN memory_sessions s ON s.owner = o.id AND s.session_id = new.session_id
    WHERE o.owner = new.owner;

    INSERT INTO memory_terms (id, terms) VALUES (last_insert_rowid(), new.terms);
END;
