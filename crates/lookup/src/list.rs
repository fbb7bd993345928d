//! The text of a match list as patterns: items, `!`, comments, included files, open tables.

use postfix::text::system_words;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postfix::notice::Notice;
use postfix::text::read_logical_lines;

use crate::address::Literal;
use crate::error::{LookupError, OpenError};
use crate::options::Options;
use crate::syntax::{next_item, shown};
use crate::table::{Broken, Call, Opener, Table};
use crate::watch::{Missed, Watched};
use postfix::text::{fold, until_nul};

/// One pattern, as it is tried.
pub(crate) struct Pattern {
    /// A hit means "no match".
    pub(crate) negated: bool,
    /// What it is.
    pub(crate) kind: Kind,
}

/// The kinds of patterns that are left when files have been read.
pub(crate) enum Kind {
    /// A name, a domain, an address or a network; case-folded.
    Literal(Literal),
    /// A table.
    Table(Listed),
}

/// A table in a list.
pub(crate) struct Listed {
    /// `type:name` as it stands in the list.
    pub(crate) item: String,
    pub(crate) table: Box<dyn Table>,
}

impl Listed {
    /// What Postfix calls it where it means the table and not its contents: with the flags that it opened it with.
    pub(crate) fn registered_name(&self) -> String {
        format!("{}(0,lock|utf8_request)", self.item)
    }
}

/// What an item is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// `/file`.
    File(&'a [u8]),
    /// `type:name`.
    Table(&'a [u8]),
    /// Anything else.
    Literal(&'a [u8]),
}

/// Takes the `!` off an item and says what is left; `None` if nothing is.
pub(crate) fn classify(item: &[u8]) -> Option<(bool, Item<'_>)> {
    let marks = item.iter().take_while(|&&byte| byte == b'!').count();
    let rest = item.get(marks..).unwrap_or_default();
    let kind = match rest.first()? {
        b'/' => Item::File(rest),
        b'[' => Item::Literal(rest),
        _ if rest.contains(&b':') => Item::Table(rest),
        _ => Item::Literal(rest),
    };
    Some((marks % 2 == 1, kind))
}

/// What to write instead of an item that was taken for a table but is an IPv6 address or network.
pub(crate) fn bracketed(item: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(item).ok()?;
    let (net, mask) = match text.split_once('/') {
        Some((net, mask)) => (net, format!("/{mask}")),
        None => (text, String::new()),
    };
    net.parse::<std::net::Ipv6Addr>().ok()?;
    Some(format!("[{net}]{mask}"))
}

/// The patterns of a list, and what was opened for them.
pub(crate) struct List {
    pub(crate) parameter: &'static str,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) files: Vec<Watched>,
    pub(crate) unicode: bool,
}

impl List {
    /// Reads a list and opens its files and tables.
    pub(crate) fn open(
        parameter: &'static str,
        text: &str,
        options: &Options,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, OpenError> {
        let mut reader = Reader { parameter, options, notices, patterns: Vec::new(), files: Vec::new() };
        reader.read(until_nul(text.as_bytes()), false, 0)?;
        let Reader { patterns, files, .. } = reader;
        Ok(Self { parameter, patterns, files, unicode: options.smtputf8_enable })
    }

    /// The list as a list of plain texts: whether the first pattern that is this text, or the first table that knows
    /// it, is a plain one.
    pub(crate) fn matches_text(&self, text: &[u8], call: &mut Call<'_>) -> Result<bool, LookupError> {
        let text = fold(text, self.unicode);
        for pattern in &self.patterns {
            let hit = match &pattern.kind {
                Kind::Literal(literal) => literal.text == text,
                Kind::Table(listed) => self.ask(listed.table.as_ref(), &text, call)?,
            };
            if hit {
                return Ok(!pattern.negated);
            }
        }
        Ok(false)
    }

    /// The tables among the patterns.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Listed> {
        self.patterns.iter().filter_map(|pattern| match &pattern.kind {
            Kind::Table(listed) => Some(listed),
            Kind::Literal(_) => None,
        })
    }

    /// Whether some table talks over a socket.
    pub(crate) fn is_remote(&self) -> bool {
        self.tables().any(|listed| listed.table.is_remote())
    }

    /// Host and port of each server that the tables of the list reach through the network.
    pub(crate) fn inet_servers(&self) -> Vec<(String, u16)> {
        self.tables().flat_map(|listed| listed.table.inet_servers()).collect()
    }

    /// Which table or included file is no longer what was opened, if its change is not seen anyway.
    pub(crate) fn changed(&self) -> Option<String> {
        let table =
            self.tables().find(|listed| listed.table.changed().is_some()).map(Listed::registered_name);
        table.or_else(|| {
            self.files.iter().find(|file| file.changed()).map(|file| file.path().display().to_string())
        })
    }

    /// Whether a table knows a key; the value does not matter.
    pub(crate) fn ask(
        &self,
        table: &dyn Table,
        key: &[u8],
        call: &mut Call<'_>,
    ) -> Result<bool, LookupError> {
        table.lookup(key, call).map(|value| value.is_some()).map_err(|error| {
            let error = LookupError::Table { parameter: self.parameter.to_owned(), table: error.table };
            call.notices.push(Notice::warning(error.to_string()));
            error
        })
    }
}

/// The state while a list is read.
struct Reader<'a> {
    parameter: &'static str,
    options: &'a Options,
    notices: &'a mut Vec<Notice>,
    patterns: Vec<Pattern>,
    files: Vec<Watched>,
}

impl Reader<'_> {
    /// Reads the items of one text; `negated` is what the file it stands in was marked with.
    fn read(&mut self, text: &[u8], negated: bool, depth: usize) -> Result<(), OpenError> {
        let mut rest = text;
        while let Some(item) = next_item(&mut rest) {
            if item.first() == Some(&b'#') {
                self.warn_of_comment(item, rest);
                return Ok(());
            }
            let Some((marked, kind)) = classify(item) else {
                return Err(OpenError::NoPattern { parameter: self.parameter.to_owned() });
            };
            let negated = negated != marked;
            match kind {
                Item::File(path) => self.include(path, negated, depth)?,
                Item::Table(table) => self.open_table(table, negated)?,
                Item::Literal(literal) => {
                    let literal = fold(literal, self.options.smtputf8_enable);
                    self.patterns.push(Pattern { negated, kind: Kind::Literal(Literal::new(literal)) });
                }
            }
        }
        Ok(())
    }

    /// A `#` that begins an item ends the list, or the line of a file.
    fn warn_of_comment(&mut self, item: &[u8], rest: &[u8]) {
        let parameter = self.parameter;
        let (item, rest) = (shown(item), shown(rest.get(..20).unwrap_or(rest)));
        self.notices.push(Notice::warning(format!(
            "{parameter}: #comment after other text is not allowed: {item} {rest}..."
        )));
    }

    fn include(&mut self, path: &[u8], negated: bool, depth: usize) -> Result<(), OpenError> {
        let parameter = || self.parameter.to_owned();
        let name = shown(path);
        if depth >= self.options.nesting_max {
            let nesting_max = self.options.nesting_max;
            return Err(OpenError::Nesting { parameter: parameter(), what: name, nesting_max });
        }
        let path = Path::new(OsStr::from_bytes(path));
        let missed = Missed::before([path.to_owned()]);
        let file = match Watched::open(path) {
            Ok(file) => file,
            Err(error) => {
                return self.broken_file(
                    &name,
                    format!("open file {name}: {}", system_words(&error)),
                    missed,
                );
            }
        };
        let contents = file.read(self.options.file_bytes_max).map_err(|error| OpenError::PatternFile {
            parameter: parameter(),
            path: name.clone(),
            reason: system_words(&error),
        })?;
        self.files.push(file);
        for line in read_logical_lines(&name, &contents, self.notices) {
            self.read(&line.text, negated, depth.saturating_add(1))?;
        }
        Ok(())
    }

    /// Instead of the patterns of a file that is not there: a table that fails.
    fn broken_file(&mut self, name: &str, reason: String, missed: Missed) -> Result<(), OpenError> {
        if self.options.daemon_table_open_error_is_fatal {
            return Err(OpenError::Table { reason });
        }
        self.notices.push(Notice::error(reason.clone()));
        let item = format!("non-existent:{name}");
        let table = Broken::boxed(item.clone(), reason, missed);
        self.patterns.push(Pattern { negated: false, kind: Kind::Table(Listed { item, table }) });
        Ok(())
    }

    fn open_table(&mut self, item: &[u8], negated: bool) -> Result<(), OpenError> {
        let table =
            Opener { parameter: self.parameter, options: self.options, notices: self.notices, depth: 0 }
                .open_item(item)?;
        if let Some(bracketed) = bracketed(item) {
            let (parameter, item) = (self.parameter, shown(item));
            self.notices.push(Notice::warning(format!(
                "{parameter}: \"{item}\" is read as a lookup table; write the IPv6 address as {bracketed}"
            )));
        }
        self.patterns.push(Pattern { negated, kind: Kind::Table(Listed { item: shown(item), table }) });
        Ok(())
    }
}
