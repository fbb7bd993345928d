//! Lookup tables: a key goes in, a text, nothing, or an error comes out.
//!
//! A table is written `type:name`. One that cannot be opened does not stop the server (unless
//! daemon_table_open_error_is_fatal says so): it becomes a table whose every lookup fails, so that it neither
//! authorizes nor rejects a client. Names of types, formats of files and texts of log lines are Postfix's.

mod berkeley;
mod cdb;
mod cidr;
mod combined;
mod constant;
mod expression;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod indexed;
mod lmdb;
mod measure;
mod proxy;
mod remote;
mod replacement;
mod rules;
mod socketmap;
mod tcp;
mod text;
pub(crate) mod values;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Instant;

use postfix::notice::Notice;

pub use crate::error::TableError;

use self::berkeley::Method;
use self::combined::How;
use self::expression::Engine;
use crate::budget::Budget;
use crate::error::OpenError;
use crate::options::Options;
use crate::syntax::shown;
use crate::watch::Missed;
use postfix::text::until_nul;

/// What goes along with one lookup.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is to be logged about it, warnings in the words of Postfix.
    pub notices: &'a mut Vec<Notice>,
    /// When the answer is no longer wanted. Remote tables, locks and expressions that take long look at it.
    pub deadline: Option<Instant>,
    /// What expressions may still cost; `None` gives each lookup a whole budget.
    pub budget: Option<&'a Budget>,
}

/// An open table. Lookups block the thread while a remote server answers.
pub trait Table: Send + Sync {
    /// `type:name`, as it appears in log lines.
    fn name(&self) -> &str;

    /// Asks for a key; `Ok(None)` means that there is no such key. Keys and values end at their first NUL, as in Postfix.
    ///
    /// # Errors
    /// The table cannot answer. Why has been added to the notices, except for `fail:`, which has no reason.
    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError>;

    /// Whether keys are fixed strings, so that asking for parent domains makes sense. A remote table may know only after
    /// a lookup; until then it says no.
    fn is_fixed(&self) -> bool;

    /// Whether lookups may take long: through a socket always, in a file while another program writes it.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether lookups search for expressions, which can cost more than a moment of processor time.
    fn has_expressions(&self) -> bool {
        false
    }

    /// Host and port of each server that lookups reach through the network. Those on local sockets are not among them.
    fn inet_servers(&self) -> Vec<(String, u16)> {
        Vec::new()
    }

    /// Whether some host name could be found in it; false only if the table certainly holds addresses alone.
    fn could_know_a_name(&self) -> bool {
        true
    }

    /// What an operator should know about the contents, for keys that no match list ever asks for.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// An entry whose value says that it is refused, or that it is a rule for another program, as
    /// `values::is_foreign` has it: its key and its value. Looks at a bounded part of the table.
    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        None
    }

    /// The file that has changed since the table was opened, if the change is not seen by lookups anyway.
    fn changed(&self) -> Option<String> {
        None
    }
}

/// Opens `type_name:name`. Relative paths count from the current directory, which is queue_directory in a daemon.
///
/// A table that cannot be opened gives `Ok` with a table that fails each lookup, and an `error: ` notice.
///
/// # Errors
/// The type or the name is empty, tables are nested too deep, or (under daemon_table_open_error_is_fatal) the table
/// cannot be opened.
pub fn open(
    type_name: &str,
    name: &str,
    options: &Options,
    notices: &mut Vec<Notice>,
) -> Result<Box<dyn Table>, OpenError> {
    Opener { parameter: "open dictionary", options, notices, depth: 0 }
        .open(type_name.as_bytes(), name.as_bytes())
}

/// The road from a text to a table; remembers how deep tables are nested.
pub(crate) struct Opener<'a> {
    /// Who asks, for error texts.
    pub(crate) parameter: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) notices: &'a mut Vec<Notice>,
    pub(crate) depth: usize,
}

/// An opened table, or why it cannot be opened in the words of Postfix.
type Opened = Result<Box<dyn Table>, String>;

impl Opener<'_> {
    /// Opens a table that is written as one item, `type:name`.
    pub(crate) fn open_item(&mut self, item: &[u8]) -> Result<Box<dyn Table>, OpenError> {
        let colon = item.iter().position(|&byte| byte == b':').unwrap_or(item.len());
        let (type_name, name) = item.split_at_checked(colon).unwrap_or((item, b""));
        self.open(type_name, name.get(1..).unwrap_or_default())
    }

    /// For a table inside this one.
    fn deeper(&mut self) -> Opener<'_> {
        let Self { parameter, options, notices, depth } = self;
        Opener { parameter, options, notices, depth: depth.saturating_add(1) }
    }

    fn open(&mut self, type_name: &[u8], name: &[u8]) -> Result<Box<dyn Table>, OpenError> {
        let (name, shown_type) = (until_nul(name), shown(type_name));
        if type_name.is_empty() || name.is_empty() {
            let item = format!("{shown_type}:{}", shown(name));
            let remedy = if crate::address::parse_address(item.as_bytes()).is_some() {
                format!("; write an IPv6 address in brackets: [{item}]")
            } else {
                String::new()
            };
            return Err(OpenError::NotTypeName { parameter: self.parameter.to_owned(), item, remedy });
        }
        if self.depth > self.options.nesting_max {
            let what = format!("{shown_type}:{}", shown(name));
            let nesting_max = self.options.nesting_max;
            return Err(OpenError::Nesting { parameter: self.parameter.to_owned(), what, nesting_max });
        }
        let missed = Missed::before(files_of(type_name, name));
        let table = match self.open_driver(type_name, name)? {
            Ok(driver) => driver,
            Err(reason) if self.options.daemon_table_open_error_is_fatal => {
                return Err(OpenError::Table { reason });
            }
            Err(reason) => {
                self.notices.push(Notice::error(reason.clone()));
                Broken::boxed(format!("{shown_type}:{}", shown(name)), reason, missed)
            }
        };
        Ok(Box::new(Guarded { table, unicode: self.options.smtputf8_enable }))
    }

    fn open_driver(&mut self, type_name: &[u8], name: &[u8]) -> Result<Opened, OpenError> {
        let options = self.options;
        Ok(match type_name {
            b"static" => constant::open_static(name),
            b"randmap" => constant::open_random(name),
            b"fail" => Ok(constant::open_fail(name)),
            b"environ" => Ok(constant::open_environ(name, options)),
            b"inline" => text::open_inline(name, options),
            b"texthash" => text::open_texthash(name, options, self.notices),
            b"cdb" => cdb::open(name, options, self.notices),
            b"hash" => berkeley::open(Method::Hash, name, options, self.notices),
            b"btree" => berkeley::open(Method::Btree, name, options, self.notices),
            b"lmdb" => lmdb::open(name, options, self.notices),
            b"socketmap" => socketmap::open(name, options),
            b"tcp" => tcp::open(name, options),
            b"proxy" => proxy::open(name, options, self.notices),
            b"unionmap" => combined::open(How::Union, name, self)?,
            b"pipemap" => combined::open(How::Pipe, name, self)?,
            b"debug" => combined::open_debug(name, self)?,
            b"regexp" => expression::open(Engine::Posix, name, options, self.notices),
            b"pcre" => expression::open(Engine::Perl, name, options, self.notices),
            b"cidr" => cidr::open(name, options, self.notices),
            _ => Err(unsupported(&shown(type_name), &shown(name))),
        })
    }
}

/// Why a type is not supported; for those that Postfix may know, with the remedy.
fn unsupported(type_name: &str, name: &str) -> String {
    let reason = format!("unsupported dictionary type: {type_name}");
    match way_out(type_name, name) {
        Some(way_out) => format!("{reason}; {way_out}"),
        None => reason,
    }
}

/// What to write instead of a type that Postfix has and this server has not.
pub(crate) fn way_out(type_name: &str, name: &str) -> Option<String> {
    match type_name {
        "dbm" | "sdbm" => Some(format!(
            "run \"postmap lmdb:{name}\" and write lmdb:{name}, or write texthash:{name} to read the source file itself, \
             or proxy:{type_name}:{name} where Postfix runs its proxymap(8)"
        )),
        "ldap" | "mysql" | "pgsql" | "sqlite" | "mongodb" | "memcache" | "nis" | "nisplus" | "netinfo" => {
            Some(format!(
                "write proxy:{type_name}:{name} where Postfix runs its proxymap(8), or put a socketmap: or tcp: server in front of it, or export \
             it to a file and run \"postmap lmdb:FILE\""
            ))
        }
        "unix" | "internal" => Some("write the entries into a texthash: file".to_owned()),
        _ => None,
    }
}

/// A table that could not be opened.
pub(crate) struct Broken {
    name: String,
    reason: String,
    /// The files that can make it whole.
    missed: Missed,
}

impl Broken {
    pub(crate) fn boxed(name: String, reason: String, missed: Missed) -> Box<dyn Table> {
        Box::new(Self { name, reason, missed })
    }
}

/// The files that a table is read from. Tables in tables have theirs for themselves.
fn files_of(type_name: &[u8], name: &[u8]) -> Option<PathBuf> {
    let suffix: &[u8] = match type_name {
        b"texthash" | b"regexp" | b"pcre" | b"cidr" => b"",
        b"cdb" => b".cdb",
        b"lmdb" => b".lmdb",
        b"hash" | b"btree" => b".db",
        _ => return None,
    };
    let is_inline = name.first() == Some(&b'{');
    (!is_inline).then(|| PathBuf::from(OsString::from_vec([name, suffix].concat())))
}

impl Table for Broken {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, _key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        call.notices.push(Notice::warning(format!("{} is unavailable. {}", self.name, self.reason)));
        Err(TableError { table: self.name.clone(), temporary: true })
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn changed(&self) -> Option<String> {
        self.missed.changed().map(|path| path.display().to_string())
    }
}

/// A value as a C string would hold it: a server or a file may send anything.
fn cut_at_nul(mut value: Vec<u8>) -> Vec<u8> {
    value.truncate(until_nul(&value).len());
    value
}

/// Stands before every table: cuts keys and values at NUL, and keeps what is not UTF-8 away when smtputf8_enable is set.
struct Guarded {
    table: Box<dyn Table>,
    unicode: bool,
}

impl Table for Guarded {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        const MALFORMED: &str = "malformed UTF-8 or invalid codepoint";
        let key = until_nul(key);
        if !self.unicode {
            return Ok(self.table.lookup(key, call)?.map(cut_at_nul));
        }
        if std::str::from_utf8(key).is_err() {
            let text = format!("{}: non-UTF-8 key \"{}\": {MALFORMED}", self.name(), shown(key));
            call.notices.push(Notice::warning(text));
            return Ok(None);
        }
        let value = self.table.lookup(key, call)?.map(cut_at_nul);
        if let Some(bytes) = value.as_deref()
            && std::str::from_utf8(bytes).is_err()
        {
            let (key, value) = (shown(key), shown(bytes));
            let text = format!("{}: key \"{key}\": non-UTF-8 value \"{value}\": {MALFORMED}", self.name());
            call.notices.push(Notice::warning(text));
            return Err(TableError { table: self.name().to_owned(), temporary: false });
        }
        Ok(value)
    }

    fn is_fixed(&self) -> bool {
        self.table.is_fixed()
    }

    fn is_remote(&self) -> bool {
        self.table.is_remote()
    }

    fn has_expressions(&self) -> bool {
        self.table.has_expressions()
    }

    fn inet_servers(&self) -> Vec<(String, u16)> {
        self.table.inet_servers()
    }

    fn could_know_a_name(&self) -> bool {
        self.table.could_know_a_name()
    }

    fn remarks(&self) -> Vec<String> {
        self.table.remarks()
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        self.table.foreign_entry()
    }

    fn changed(&self) -> Option<String> {
        self.table.changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it is asked, and a NUL behind it.
    struct Echo;

    impl Table for Echo {
        fn name(&self) -> &'static str {
            "echo:x"
        }

        fn lookup(&self, key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
            let value = if key == b"bad" { b"\xff" } else { key };
            Ok(Some([value, &b"\0behind"[..]].concat()))
        }

        fn is_fixed(&self) -> bool {
            false
        }
    }

    fn ask(unicode: bool, key: &[u8]) -> (Result<Option<Vec<u8>>, TableError>, Vec<String>) {
        let mut notices = Vec::new();
        let table = Guarded { table: Box::new(Echo), unicode };
        let result = table.lookup(key, &mut Call { notices: &mut notices, deadline: None, budget: None });
        (result, notices.into_iter().map(|notice| notice.text).collect())
    }

    #[test]
    fn keys_and_values_end_at_nul() {
        for unicode in [false, true] {
            assert_eq!(ask(unicode, b"a\0b"), (Ok(Some(b"a".to_vec())), vec![]));
        }
        assert_eq!(ask(false, b"\xff"), (Ok(Some(b"\xff".to_vec())), vec![]));
    }

    #[test]
    fn what_is_not_utf8_is_kept_away() {
        let words = "malformed UTF-8 or invalid codepoint";
        let text = format!("echo:x: non-UTF-8 key \"k\u{fffd}\": {words}");
        assert_eq!(ask(true, b"k\xff"), (Ok(None), vec![text]));
        let text = format!("echo:x: key \"bad\": non-UTF-8 value \"\u{fffd}\": {words}");
        let failed = TableError { table: "echo:x".to_owned(), temporary: false };
        assert_eq!(ask(true, b"bad"), (Err(failed), vec![text]));
    }

    #[test]
    fn types_that_postfix_has_and_we_have_not_come_with_a_way_out() {
        for type_name in ["dbm", "sdbm", "ldap", "mysql", "pgsql", "sqlite", "mongodb", "memcache", "nis"] {
            let mut notices = Vec::new();
            let table = open(type_name, "/etc/postfix/t", &Options::default(), &mut notices);
            let mut call = Call { notices: &mut Vec::new(), deadline: None, budget: None };
            assert!(table.is_ok_and(|table| table.lookup(b"k", &mut call).is_err()), "{type_name}");
            let start = format!("unsupported dictionary type: {type_name}; ");
            assert!(notices[0].text.starts_with(&start) && notices[0].text.len() > start.len() + 20);
        }
    }
}
