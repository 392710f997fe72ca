-- Resumable streams, for as long as they may be read again. Without frames: it ran when its process ended.
CREATE TABLE streams (
    id text PRIMARY KEY,
    user_id text NOT NULL,
    claim text,
    digest bytea,
    frames bytea,
    expires_at double precision NOT NULL
);

CREATE INDEX streams_expires_at ON streams (expires_at);
