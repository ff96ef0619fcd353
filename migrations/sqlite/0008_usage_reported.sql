-- Up to which moment a host's journal was in the sums when it was rolled up last: hours after it are
-- provisional. 0 until the host's next roll-up.
ALTER TABLE usage_watermarks ADD COLUMN reported_at BIGINT NOT NULL DEFAULT 0;
