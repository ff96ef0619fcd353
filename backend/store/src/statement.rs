//! Names a module's statements and lists them, so that a test can prepare every one.

/// Defines a `&'static str` constant for each statement and `STATEMENTS`, the list of all.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: &str = $sql;)*
        /// Every statement of this module.
        pub(crate) const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub(crate) use statements;
