-- Where the record says itself that something is missing, went down or was set: few among very many.
CREATE INDEX readings_faults ON readings (seq) WHERE kind IN ('gap', 'reset', 'clock_step');
