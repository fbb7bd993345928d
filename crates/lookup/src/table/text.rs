//! Tables of fixed keys that are read into memory: `inline:` and `texthash:`.

use postfix::text::system_words;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postfix::notice::Notice;
use postfix::text::{balanced_len, is_space, read_logical_lines, strip_braces, trim};

use super::{Call, Opened, Table, TableError, values};
use crate::host::{ParentStyle, could_match_a_name};
use crate::options::Options;
use crate::syntax::{find_unquoted, name_value, next_item, shown};
use crate::watch::Watched;
use postfix::text::{fold, fold_if};

/// Keys and values.
type Entries = HashMap<Vec<u8>, Vec<u8>>;

struct InMemory {
    name: String,
    entries: Entries,
    fold: bool,
    unicode: bool,
    file: Option<Watched>,
    knows_names: bool,
}

impl InMemory {
    fn new(name: String, entries: Entries, file: Option<Watched>, options: &Options) -> Self {
        let knows_names = entries.keys().any(|key| could_match_a_name(key, ParentStyle::Dot));
        Self { name, entries, fold: options.fold_keys, unicode: options.smtputf8_enable, file, knows_names }
    }
}

/// How many keys are reported; further ones have the same cause.
const REMARKS_MAX: usize = 20;

impl InMemory {
    /// Why a match list never finds this key.
    fn remark(&self, key: &[u8]) -> Option<String> {
        let folded = fold(key, self.unicode);
        if !self.fold && folded != key {
            let (key, folded) = (shown(key), shown(&folded));
            return Some(format!(
                "the key \"{key}\" never matches, since lookups are in lower case; write \"{folded}\""
            ));
        }
        let network = key.iter().any(|byte| matches!(byte, b'/' | b'['));
        network.then(|| {
            let key = shown(key);
            format!(
                "the key \"{key}\" never matches, since only whole names and addresses are looked up; write networks \
                 into the list or a cidr: table"
            )
        })
    }
}

impl Table for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], _call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.entries.get(&*fold_if(self.fold, key, self.unicode)).cloned())
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn could_know_a_name(&self) -> bool {
        self.knows_names
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.entries.keys().filter_map(|key| self.remark(key)).collect();
        remarks.sort_unstable();
        remarks.truncate(REMARKS_MAX);
        remarks
    }

    fn foreign_entry(&self) -> Option<(String, Vec<u8>)> {
        let foreign = self.entries.iter().filter(|(_, value)| values::is_foreign(value));
        foreign.min().map(|(key, value)| (shown(key), value.clone()))
    }

    fn changed(&self) -> Option<String> {
        self.file.as_ref().filter(|file| file.changed()).map(|file| file.path().display().to_string())
    }
}

/// `inline:{key=value, {key = value with blanks}}`.
pub(super) fn open_inline(name: &[u8], options: &Options) -> Opened {
    let entries = parse_inline(name, options)?;
    Ok(Box::new(InMemory::new(format!("inline:{}", shown(name)), entries, None, options)))
}

/// Reads the pairs; of two with the same key the later one holds.
fn parse_inline(name: &[u8], options: &Options) -> Result<Entries, String> {
    let need = || format!("\"inline:{}\"; need \"inline:{{name=value...}}\"", shown(name));
    if options.smtputf8_enable && std::str::from_utf8(name).is_err() {
        return Err(format!("bad UTF-8 syntax: {}", need()));
    }
    let mut rest = match balanced_len(name) {
        Some(len) if len == name.len() && len > 2 => strip_braces(name)?,
        _ => return Err(format!("bad syntax: {}", need())),
    };
    let mut entries = Entries::new();
    while let Some(item) = next_item(&mut rest) {
        let pair = if item.first() == Some(&b'{') {
            strip_braces(item).map_err(|error| format!("{error}: {}", need()))?
        } else {
            item
        };
        let (key, value) = name_value(pair).map_err(|error| format!("{error}: {}", need()))?;
        entries.insert(fold_if(options.fold_keys, key, options.smtputf8_enable).into_owned(), value.to_vec());
    }
    if entries.is_empty() {
        return Err(format!("empty table: {}", need()));
    }
    Ok(entries)
}

/// `texthash:file`: the source format of postmap(1), read whole.
pub(super) fn open_texthash(name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let path = shown(name);
    let failed = |error: std::io::Error| format!("open database {path}: {}", system_words(&error));
    let file = Watched::open(Path::new(OsStr::from_bytes(name))).map_err(failed)?;
    let contents = file.read(options.file_bytes_max).map_err(failed)?;
    let entries = parse_texthash(&path, &contents, options, notices)?;
    Ok(Box::new(InMemory::new(format!("texthash:{path}"), entries, Some(file), options)))
}

/// Reads `key whitespace value` lines. A duplicate key makes the whole table unusable, as in Postfix.
fn parse_texthash(
    path: &str,
    contents: &[u8],
    options: &Options,
    notices: &mut Vec<Notice>,
) -> Result<Entries, String> {
    let unicode = options.smtputf8_enable;
    let mut entries = Entries::new();
    for line in read_logical_lines(path, contents, notices) {
        let place = format!("{path}, line {}", line.first_line);
        let text = line.text.as_slice();
        if unicode && std::str::from_utf8(text).is_err() {
            let input = shown(text);
            notices
                .push(Notice::warning(format!("{place}: non-UTF-8 input \"{input}\" -- ignoring this line")));
            continue;
        }
        let Ok(key_len) = find_unquoted(text, is_space) else {
            let line = shown(text);
            notices
                .push(Notice::warning(format!("{place}: unbalanced '\"' in '{line}' -- ignoring this line")));
            continue;
        };
        let (key, value) = text.split_at_checked(key_len).unwrap_or((text, b""));
        let value = trim(value);
        if key.is_empty() || value.is_empty() {
            let expected = "expected format: key whitespace value -- ignoring this line";
            notices.push(Notice::warning(format!("{place}: {expected}")));
            continue;
        }
        if key.ends_with(b":") {
            let alias = "record is in \"key: value\" format; is this an alias file?";
            notices.push(Notice::warning(format!("{place}: {alias}")));
        }
        let folded = fold_if(options.fold_keys, key, unicode).into_owned();
        if entries.insert(folded, value.to_vec()).is_some() {
            return Err(format!("{place}: duplicate entry: \"{}\"", shown(key)));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inline(name: &str) -> Result<Vec<(String, String)>, String> {
        let mut entries: Vec<_> = parse_inline(name.as_bytes(), &Options::default())?
            .into_iter()
            .map(|(key, value)| (shown(&key), shown(&value)))
            .collect();
        entries.sort();
        Ok(entries)
    }

    #[test]
    fn inline_pairs() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(inline("{a=b, {c = d e}}"), Ok(vec![pair("a", "b"), pair("c", "d e")]));
        assert_eq!(inline("{a=b,a=c}"), Ok(vec![pair("a", "c")]));
        let need = |name: &str| format!("\"inline:{name}\"; need \"inline:{{name=value...}}\"");
        assert_eq!(inline("a=b"), Err(format!("bad syntax: {}", need("a=b"))));
        assert_eq!(inline("{}"), Err(format!("bad syntax: {}", need("{}"))));
        assert_eq!(inline("{ }"), Err(format!("empty table: {}", need("{ }"))));
        assert_eq!(inline("{a}"), Err(format!("missing '=' after attribute name: {}", need("{a}"))));
        assert_eq!(inline("{a = b}"), Err(format!("missing '=' after attribute name: {}", need("{a = b}"))));
    }

    fn texthash(contents: &str) -> (Result<Entries, String>, Vec<String>) {
        let mut notices = Vec::new();
        let entries = parse_texthash("/f", contents.as_bytes(), &Options::default(), &mut notices);
        (entries, notices.into_iter().map(|notice| notice.text).collect())
    }

    #[test]
    fn texthash_lines_and_their_warnings() {
        let (entries, notices) = texthash("a 1\n\"b c\"\t2 3 \nd\\ e 4\nf\n\"g 5\nh: 6\n");
        let entries = entries.unwrap();
        for (key, value) in [("a", "1"), ("\"b c\"", "2 3"), ("d\\ e", "4"), ("h:", "6")] {
            assert_eq!(entries.get(key.as_bytes()).map(|value| shown(value)), Some(value.to_owned()));
        }
        assert_eq!(entries.len(), 4);
        assert_eq!(
            notices,
            [
                "/f, line 4: expected format: key whitespace value -- ignoring this line",
                "/f, line 5: unbalanced '\"' in '\"g 5' -- ignoring this line",
                "/f, line 6: record is in \"key: value\" format; is this an alias file?",
            ]
        );
        assert_eq!(texthash("a 1\nb 2\na 1\n").0, Err("/f, line 3: duplicate entry: \"a\"".to_owned()));
    }

    #[test]
    fn a_table_of_addresses_knows_no_names() {
        let known =
            |name: &str| open_inline(name.as_bytes(), &Options::default()).unwrap().could_know_a_name();
        assert!(!known("{10.0.0.1=x, {2001:db8::1 = y}}"));
        assert!(known("{10.0.0.1=x, a.example=y}"));
        assert!(known("{bad=y}"), "a name may consist of letters a to f");
        assert!(known("{cafe1=y}"), "and of digits too");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(contents in proptest::collection::vec(any::<u8>(), 0..200), utf8: bool) {
            let options = Options { smtputf8_enable: utf8, ..Options::default() };
            let _ = parse_texthash("/f", &contents, &options, &mut Vec::new());
            let _ = parse_inline(&contents, &options);
        }
    }
}
