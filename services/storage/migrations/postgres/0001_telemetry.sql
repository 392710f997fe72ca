CREATE TABLE telemetry_events (
    id uuid PRIMARY KEY,
    type text NOT NULL,
    created_at timestamptz NOT NULL,
    request_id text NOT NULL,
    user_id text NOT NULL,
    session_id text,
    payload_json jsonb NOT NULL
);

-- Reports ask for one type and a span of time, support asks for one request.
CREATE INDEX telemetry_events_type_created_at ON telemetry_events (type, created_at);
CREATE INDEX telemetry_events_request_id ON telemetry_events (request_id);
