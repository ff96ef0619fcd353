-- Versions of the price book; never changed.
CREATE TABLE price_books (
    id TEXT NOT NULL PRIMARY KEY,
    currency TEXT NOT NULL,
    effective_from BIGINT NOT NULL UNIQUE,
    book TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

-- Usage by hour. No foreign keys: it outlives containers and tenants, and keeps the names they had.
-- container '' is the tenant's whole cgroup. quantity is an integer of up to 39 digits.
CREATE TABLE usage_hours (
    hour BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    container TEXT NOT NULL,
    meter TEXT NOT NULL,
    tenant_name TEXT NOT NULL,
    container_name TEXT NOT NULL,
    quantity TEXT NOT NULL,
    quality TEXT NOT NULL,
    PRIMARY KEY (hour, tenant, container, meter)
);
CREATE INDEX usage_hours_by_tenant ON usage_hours (tenant, hour);

-- How far each host's journal is in usage_hours.
CREATE TABLE usage_watermarks (
    host TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);
