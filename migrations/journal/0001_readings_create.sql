-- The host that this journal belongs to.
CREATE TABLE host (
    only BIGINT NOT NULL PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL
);

-- Readings, append-only, numbered without gaps. tenant and container are '' where there is none.
CREATE TABLE readings (
    seq BIGINT NOT NULL PRIMARY KEY,
    prev_hash TEXT,
    boot_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    container TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    kind TEXT NOT NULL,
    t0_boot_ns BIGINT NOT NULL,
    t1_boot_ns BIGINT NOT NULL,
    t0_utc_us BIGINT NOT NULL,
    t1_utc_us BIGINT NOT NULL,
    meters TEXT NOT NULL,
    limits TEXT NOT NULL,
    source TEXT NOT NULL,
    CHECK (t0_boot_ns <= t1_boot_ns),
    UNIQUE (boot_id, tenant, container, incarnation, t1_boot_ns, kind)
);
CREATE INDEX readings_by_series ON readings (container, incarnation, tenant, boot_id, seq);

CREATE TRIGGER readings_refuse_update BEFORE UPDATE ON readings
BEGIN
    SELECT RAISE(ABORT, 'readings are never changed');
END;
CREATE TRIGGER readings_refuse_delete BEFORE DELETE ON readings
BEGIN
    SELECT RAISE(ABORT, 'readings are never deleted');
END;
CREATE TRIGGER host_refuse_update BEFORE UPDATE ON host
BEGIN
    SELECT RAISE(ABORT, 'a journal stays with its host');
END;
CREATE TRIGGER host_refuse_delete BEFORE DELETE ON host
BEGIN
    SELECT RAISE(ABORT, 'a journal stays with its host');
END;
