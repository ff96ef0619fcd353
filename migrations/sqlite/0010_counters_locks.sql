-- Counting up takes the row: who adds a contract or a price book sees all the others.
INSERT INTO counters (name, value) VALUES ('contracts', 0), ('price books', 0);
