//! Names a module's statements and lists them, so that a test can prepare every one.
//!
//! An optional condition is written `(column = $1 OR $1 IS NULL)`, in this order: PostgreSQL takes the
//! parameter's type from its first use.

/// Defines a `&'static str` constant for each statement and `STATEMENTS`, the list of all.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: &str = $sql;)*
        /// Every statement of this module.
        pub(crate) const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub(crate) use statements;
