//! Doors for the fuzz targets; built for them alone.

pub use crate::table::fuzzing::{quote_tcp_key, socketmap_reply, tcp_reply, unquote_tcp_text};
