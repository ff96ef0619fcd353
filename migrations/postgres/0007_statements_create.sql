-- What was issued: statements and the credit notes that take them back. Rows are added and never changed;
-- what happens to a statement afterwards is a row of statement_marks.
CREATE TABLE statements (
    number TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    body TEXT NOT NULL,
    content_hash TEXT NOT NULL
);
CREATE INDEX statements_by_tenant ON statements (tenant, from_us, seq);

CREATE TABLE statement_marks (
    number TEXT NOT NULL REFERENCES statements (number),
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (number, kind)
);

-- What a statement used of a contract's credit.
CREATE TABLE statement_credits (
    number TEXT NOT NULL REFERENCES statements (number),
    contract TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    amount TEXT NOT NULL,
    PRIMARY KEY (number, contract, name)
);
CREATE INDEX statement_credits_by_tenant ON statement_credits (tenant);

INSERT INTO counters (name, value) VALUES ('statements', 0), ('statement numbers', 0), ('credit note numbers', 0);
