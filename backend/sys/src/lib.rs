//! System calls with types; the only crate where unsafe code may be.
#![forbid(unsafe_code)]
