//! Tests on the machine itself: they need root, a cgroup file system and busybox-static, and fail without.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]

mod container;
mod forge;
mod full_disk;
mod support;
