-- What a tenant has agreed: laid over the price book in [from_us, to_us). Only an open end may be set.
-- No foreign key: a contract outlives its tenant, because what was billed by it does.
CREATE TABLE contracts (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT,
    contract TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (tenant, from_us)
);
