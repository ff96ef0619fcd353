//! The network crate against the kernel: needs root, touches only network namespaces of its own.

#[cfg(test)]
mod lab;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod usage;
