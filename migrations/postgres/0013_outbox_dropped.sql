-- The latest hour of which there was no room for something: what an event says of it or of an earlier one may be a
-- part. 0 while nothing was dropped.
ALTER TABLE outbox_watermarks ADD COLUMN dropped_hour BIGINT NOT NULL DEFAULT 0;
