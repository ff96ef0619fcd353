-- Where a container's own volume is mounted: one that its image declares and nobody named. NULL for
-- a volume that was asked for.
ALTER TABLE container_volumes ADD COLUMN anonymous_target TEXT;
