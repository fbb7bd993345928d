//! The durable queue directory: create, commit, recover, list.
