-- Remembers messages of the owner `whose` in one of their sessions, those that are there already left
-- out: a turn whose acknowledgement was lost is written again. What somebody said in a session at one
-- microsecond is the same text, or written again, so no key is kept; the index by time finds it.
-- A function, because its statements see what was written while the first of them waited.
CREATE FUNCTION memory_remember(whose text, where_said text, number integer, length_of_all integer, said json)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owned bigint;
    chat bigint;
    last integer;
    added integer;
    length_added integer;
BEGIN
    -- This row's lock makes one owner's writes wait for each other.
    INSERT INTO memory_owners (owner, messages, words) VALUES (whose, number, length_of_all)
    ON CONFLICT (owner) DO UPDATE SET messages = memory_owners.messages + excluded.messages,
                                      words = memory_owners.words + excluded.words
    RETURNING id INTO owned;

    INSERT INTO memory_sessions (owner, session_id, messages) VALUES (owned, where_said, number)
    ON CONFLICT (owner, session_id)
    DO UPDATE SET messages = memory_sessions.messages + excluded.messages
    RETURNING id, messages - number INTO chat, last;

    WITH new AS (
        INSERT INTO memory (id, owner, length, is_question, role, said_at, speaker, content, terms)
        SELECT (chat << 24) | (last + row_number() OVER (ORDER BY e.number)), owned, e.length,
               e.is_question, e.role, e.said_at, e.speaker, e.content,
               array_to_tsvector(string_to_array(e.terms, ' '))
        FROM json_to_recordset(said) AS e (
            number integer, role text, said_at bigint, length integer, is_question boolean,
            speaker text, content text, terms text)
        -- Not as NOT EXISTS: that becomes a join, for which all of the owner's messages are read.
        WHERE (
            SELECT m.id FROM memory m
            WHERE m.owner = owned AND m.said_at = e.said_at AND m.id >> 24 = chat
              AND m.role = e.role AND m.content = e.content
            LIMIT 1) IS NULL
        RETURNING length
    )
    SELECT count(*), coalesce(sum(length), 0) INTO added, length_added FROM new;

    IF added < number THEN
        UPDATE memory_sessions SET messages = messages - number + added WHERE id = chat;
        UPDATE memory_owners
        SET messages = messages - number + added, words = words - length_of_all + length_added
        WHERE id = owned;
    END IF;
END $$;
