-- How often usage was added to a tenant's period. A roll-up counts up before it adds, and a statement is issued
-- only at the count that it was computed at: the row is the lock between the two.
CREATE TABLE usage_periods (
    tenant TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant, from_us)
);

-- Usage that was rolled up after its period was billed: which it is, and in which hour of the first period without
-- a statement it stands instead. from_seq to seq is the stretch of the host's journal that it came from.
CREATE TABLE usage_late (
    host TEXT NOT NULL,
    from_seq BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    container TEXT NOT NULL,
    meter TEXT NOT NULL,
    hour BIGINT NOT NULL,
    booked_hour BIGINT NOT NULL,
    quantity TEXT NOT NULL,
    taken TEXT NOT NULL,
    statement TEXT NOT NULL,
    PRIMARY KEY (host, seq, tenant, container, meter, hour, booked_hour)
);
CREATE INDEX usage_late_by_tenant ON usage_late (tenant, booked_hour);
