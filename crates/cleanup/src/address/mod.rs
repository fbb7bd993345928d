//! Addresses: quoting, the tokens of RFC 822 as Postfix understands them, and the rewriting of trivial-rewrite(8) in
//! the local context.

mod group;
mod plain;
mod quote;
mod rewrite;
mod token;

pub(crate) use group::parse_list;
pub(crate) use plain::is_complete_list;
pub(crate) use quote::{quote, quote_local, unquote};
pub(crate) use rewrite::{rewrite_external, rewrite_internal};
pub(crate) use token::{Token, external, internal, needs_blank, next, scan, write_external};
