//! The network crate against the kernel: needs root, touches only network namespaces of its own.
#![expect(clippy::tests_outside_test_module, reason = "an integration test's modules are its test modules")]

mod lab;
mod lifecycle;
mod traffic;
