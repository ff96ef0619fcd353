-- How a running container with a health check is: starting, healthy or unhealthy. NULL for all others.
ALTER TABLE containers ADD COLUMN health TEXT;
