//! Quantities, prices, rating and FOCUS rows: pure, exact, no clock.
#![forbid(unsafe_code)]
