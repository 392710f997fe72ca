-- Zep addresses by ids of its own: which of its users and threads are ours.
CREATE TABLE zep_users (
    user_id text PRIMARY KEY,
    uuid text NOT NULL
);
CREATE TABLE zep_threads (
    user_id text NOT NULL,
    session_id text NOT NULL,
    uuid text NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
