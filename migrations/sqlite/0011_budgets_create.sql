-- What a tenant may spend in a month. The version counts up with each change: thresholds are looked at anew then.
CREATE TABLE budgets (
    tenant TEXT NOT NULL PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    budget TEXT NOT NULL,
    version BIGINT NOT NULL,
    set_at BIGINT NOT NULL
);

-- A threshold that was reached in the month that begins at from_us: told once, in force until the month ends or
-- the budget changes. notice is the body of its webhook, and notice_state none, queued, sent or refused.
CREATE TABLE budget_marks (
    tenant TEXT NOT NULL REFERENCES budgets (tenant) ON DELETE CASCADE,
    from_us BIGINT NOT NULL,
    version BIGINT NOT NULL,
    percent BIGINT NOT NULL,
    at BIGINT NOT NULL,
    spent TEXT NOT NULL,
    notice TEXT NOT NULL,
    notice_state TEXT NOT NULL,
    notice_attempts BIGINT NOT NULL,
    notice_at BIGINT NOT NULL,
    notice_problem TEXT,
    PRIMARY KEY (tenant, from_us, version, percent)
);
CREATE INDEX budget_marks_by_notice ON budget_marks (notice_state, notice_at);

-- 1: its tenant's budget has paused it, or is about to, and lets it go on when it may.
ALTER TABLE containers ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
