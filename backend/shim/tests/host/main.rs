//! Tests on the machine itself: they need root, a cgroup file system and busybox-static, and fail without.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(clippy::expect_used, clippy::panic, reason = "a broken expectation fails the test")]

mod container;
mod forge;
mod full_disk;
mod support;
