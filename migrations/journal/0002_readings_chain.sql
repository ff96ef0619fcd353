-- Each reading's hash over the one before it and its own content, so that no reading is altered, removed or
-- put in unseen. It takes the place of a column that nothing was ever written to. Readings that were there
-- before get theirs, in order, when the journal is opened next.
ALTER TABLE readings RENAME COLUMN prev_hash TO hash;
CREATE INDEX readings_without_hash ON readings (seq) WHERE hash IS NULL;
CREATE INDEX readings_checkpoints ON readings (seq) WHERE kind = 'checkpoint';
CREATE INDEX readings_opens ON readings (seq) WHERE kind = 'open';

-- Only a hash that is not there yet may be set, and nothing else with it.
DROP TRIGGER readings_refuse_update;
CREATE TRIGGER readings_refuse_update BEFORE UPDATE ON readings
WHEN OLD.hash IS NOT NULL OR NEW.hash IS NULL
    OR NEW.seq <> OLD.seq OR NEW.boot_id <> OLD.boot_id OR NEW.tenant <> OLD.tenant
    OR NEW.container <> OLD.container OR NEW.incarnation <> OLD.incarnation OR NEW.kind <> OLD.kind
    OR NEW.t0_boot_ns <> OLD.t0_boot_ns OR NEW.t1_boot_ns <> OLD.t1_boot_ns
    OR NEW.t0_utc_us <> OLD.t0_utc_us OR NEW.t1_utc_us <> OLD.t1_utc_us
    OR NEW.meters <> OLD.meters OR NEW.limits <> OLD.limits OR NEW.source <> OLD.source
BEGIN
    SELECT RAISE(ABORT, 'readings are never changed');
END;

-- The key that signs checkpoints; set once.
ALTER TABLE host ADD COLUMN public_key TEXT;
DROP TRIGGER host_refuse_update;
CREATE TRIGGER host_refuse_update BEFORE UPDATE ON host
WHEN NEW.only <> OLD.only OR NEW.id <> OLD.id OR OLD.public_key IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a journal stays with its host');
END;
