-- When an admin said that a host will never report again, and why: its last report is its end then. 0 and '' while
-- it may; whoever reports again is not retired any more.
ALTER TABLE usage_watermarks ADD COLUMN retired_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_watermarks ADD COLUMN retired_reason TEXT NOT NULL DEFAULT '';
