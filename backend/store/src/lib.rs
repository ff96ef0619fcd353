//! Every SQL statement, on SQLite and PostgreSQL.
#![forbid(unsafe_code)]
