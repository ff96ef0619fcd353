//! Our filters against libseccomp's: both programs are run by an interpreter, call by call.

#[cfg(test)]
mod custom;
#[cfg(test)]
mod default;
#[cfg(test)]
mod oracle;
