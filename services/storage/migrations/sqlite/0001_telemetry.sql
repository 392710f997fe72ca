CREATE TABLE telemetry_events (
    id text PRIMARY KEY,
    type text NOT NULL,
    created_at text NOT NULL,
    request_id text NOT NULL,
    user_id text NOT NULL,
    session_id text,
    payload_json text NOT NULL CHECK (json_valid(payload_json))
) WITHOUT ROWID;

-- Reports ask for one type and a span of time, support asks for one request.
CREATE INDEX telemetry_events_type_created_at ON telemetry_events (type, created_at);
CREATE INDEX telemetry_events_request_id ON telemetry_events (request_id);
