//! Entry points for the fuzz targets; compiled for them only.

pub use crate::table::fuzzing::{berkeley_find, quote_tcp_key, socketmap_reply, tcp_reply, unquote_tcp_text};
