-- The container's labels as they were in that hour, as JSON: the tags of an export.
ALTER TABLE usage_hours ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
