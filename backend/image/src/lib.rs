//! OCI references, registry client, content store and layer unpacking.
#![forbid(unsafe_code)]
