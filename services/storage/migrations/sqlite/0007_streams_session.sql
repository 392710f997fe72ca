-- Whose and of which session a stored answer is, so that erasing a session erases it too.
ALTER TABLE streams ADD COLUMN session_id text;

CREATE INDEX streams_user ON streams (user_id);
