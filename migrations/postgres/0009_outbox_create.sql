-- Events of usage on their way to an endpoint outside. The first number of a stretch of the host's journal is
-- an event's revision: later additions to the same hour have a later one, and all of an hour add up to it.
-- state: gathering (its hour goes on), queued (body is set and never changes), refused (the endpoint will not
-- have it). What the endpoint has taken is no longer here.
CREATE TABLE outbox (
    host TEXT NOT NULL,
    hour BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    container TEXT NOT NULL,
    meter TEXT NOT NULL,
    revision BIGINT NOT NULL,
    quantity TEXT NOT NULL,
    quality TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    problem TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (host, hour, tenant, container, meter, revision)
);
CREATE INDEX outbox_by_state ON outbox (host, state, hour);

-- How far each host's journal is in the outbox: what is summed up anew from the journal is not sent anew.
CREATE TABLE outbox_watermarks (
    host TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    dropped BIGINT NOT NULL
);
