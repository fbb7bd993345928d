//! What is wrong with a match list, found without a client: for `qmqpd check`.
//!
//! Postfix says nothing about most of this. A pattern that can never match is silently passed over, and one that is
//! broken is noticed when the first client gets as far as it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postfix::notice::{Notice, Severity};
use postfix::text::read_logical_lines;

use crate::address::{self, Literal};
use crate::fold::until_nul;
use crate::host::{self, ParentStyle};
use crate::list::{Item, bracketed, classify};
use crate::match_list::parent_style;
use crate::options::Options;
use crate::syntax::{next_item, shown};
use crate::table::Opener;
use crate::watch::{Watched, words};

/// Something in a match list that the operator should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// [`Severity::Error`]: clients that get as far as this item are answered with a temporary error, or the server
    /// does not start. [`Severity::Warning`]: it works, but hardly as it was meant.
    pub severity: Severity,
    /// The pattern file and the line in it, if the item is not in the parameter itself.
    pub place: Option<(String, usize)>,
    /// The item as it is written; empty if the problem is not in one item.
    pub item: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead, or to do; empty if there is nothing better to say.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{file}:{line}: ")?;
        }
        if !self.item.is_empty() {
            write!(f, "\"{}\": ", self.item)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Lists the problems of a match list, in the order of its items. Files and tables are opened, remote servers are not
/// asked.
#[must_use]
pub fn check(parameter: &'static str, patterns: &str, options: &Options) -> Vec<Problem> {
    // A table that cannot be opened is to be described, not to end the check.
    let options = Options { daemon_table_open_error_is_fatal: false, asks_at_open: false, ..options.clone() };
    let mut problems = Vec::new();
    let style = parent_style(parameter, &options, &mut Vec::new()).unwrap_or_else(|error| {
        problems.push(Problem {
            severity: Severity::Error,
            place: None,
            item: String::new(),
            what: error.to_string(),
            remedy: "correct parent_domain_matches_subdomains".to_owned(),
        });
        ParentStyle::Domain
    });
    let mut checker = Checker { parameter, options: &options, style, place: None, problems };
    checker.text(until_nul(patterns.as_bytes()), 0);
    checker.problems
}

struct Checker<'a> {
    parameter: &'static str,
    options: &'a Options,
    style: ParentStyle,
    place: Option<(String, usize)>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn add(&mut self, severity: Severity, item: &[u8], what: impl Into<String>, remedy: impl Into<String>) {
        let (place, item) = (self.place.clone(), shown(item));
        self.problems.push(Problem { severity, place, item, what: what.into(), remedy: remedy.into() });
    }

    fn text(&mut self, text: &[u8], depth: usize) {
        let mut rest = text;
        while let Some(item) = next_item(&mut rest) {
            if item.first() == Some(&b'#') {
                let what = "a comment behind other text hides the rest of the line";
                self.add(Severity::Warning, item, what, "write the comment on a line of its own");
                return;
            }
            match classify(item) {
                None => {
                    self.add(Severity::Error, item, "no pattern after '!'", "write !pattern without a blank");
                }
                Some((_, Item::File(path))) => self.file(item, path, depth),
                Some((_, Item::Table(table))) => self.table(item, table),
                Some((_, Item::Literal(literal))) => self.literal(item, literal),
            }
        }
    }

    fn file(&mut self, item: &[u8], path: &[u8], depth: usize) {
        if depth >= self.options.nesting_max {
            let what = format!("pattern files are nested more than {} deep", self.options.nesting_max);
            return self.add(Severity::Error, item, what, "does the file include itself?");
        }
        let read = Watched::open(Path::new(OsStr::from_bytes(path)))
            .and_then(|file| file.read(self.options.file_bytes_max));
        let contents = match read {
            Ok(contents) => contents,
            Err(error) => {
                let what = format!("the pattern file cannot be read: {}", words(&error));
                return self.add(Severity::Error, item, what, "create it, or correct the path");
            }
        };
        let name = shown(path);
        let outside = self.place.take();
        let mut notices = Vec::new();
        let lines = read_logical_lines(&name, &contents, &mut notices);
        self.notices(b"", notices);
        for line in lines {
            self.place = Some((name.clone(), line.first_line));
            self.text(&line.text, depth.saturating_add(1));
        }
        self.place = outside;
    }

    fn notices(&mut self, item: &[u8], notices: Vec<Notice>) {
        for notice in notices {
            self.add(notice.severity, item, notice.text, "");
        }
    }

    fn table(&mut self, item: &[u8], table: &[u8]) {
        if let Some(instead) = bracketed(table) {
            let what = "an IPv6 address without brackets is taken for a lookup table";
            return self.add(Severity::Error, item, what, format!("write {instead}"));
        }
        let mut notices = Vec::new();
        let opened =
            Opener { parameter: self.parameter, options: self.options, notices: &mut notices, depth: 0 }
                .open_item(table);
        self.notices(item, notices);
        match opened {
            Err(error) => self.add(Severity::Error, item, error.to_string(), "write type:name"),
            Ok(table) => {
                for remark in table.remarks() {
                    self.add(Severity::Warning, item, remark, "");
                }
            }
        }
    }

    fn literal(&mut self, item: &[u8], literal: &[u8]) {
        match Literal::new(literal.to_vec()).network {
            Some(Err(error)) => {
                return self.add(Severity::Error, item, error.to_string(), dotted_mask(literal));
            }
            Some(Ok(network)) if network.is_everything() => {
                return self.add(Severity::Warning, item, "every client of this address family matches", "");
            }
            Some(Ok(_)) => return,
            None => {}
        }
        let address =
            literal.strip_prefix(b"[").and_then(|inside| inside.strip_suffix(b"]")).unwrap_or(literal);
        if address::parse_address(address).is_some() {
            return;
        }
        let name = crate::fold::fold(literal, self.options.smtputf8_enable);
        if name == b"unknown" {
            let what = "every client without a verified name matches";
            self.add(Severity::Warning, item, what, "write addresses if that is not meant");
        } else if !host::could_match_a_name(&name, self.style) {
            self.never(item, literal);
        }
    }

    /// A literal that is neither an address nor a possible name.
    fn never(&mut self, item: &[u8], literal: &[u8]) {
        let what = "this pattern never matches anything";
        let text = shown(literal);
        let remedy = if let Some(domain) =
            text.strip_prefix('.').filter(|_| self.style == ParentStyle::Domain)
        {
            let list = self.parameter;
            format!(
                "write {domain}, which matches its subdomains too since parent_domain_matches_subdomains names {list}"
            )
        } else if let Some(network) = abbreviated(&text) {
            format!("write {network}")
        } else if text.contains('*') {
            match self.style {
                ParentStyle::Domain => "there are no wildcards; write the domain alone".to_owned(),
                ParentStyle::Dot => "there are no wildcards; write .domain".to_owned(),
            }
        } else if text.contains(';') {
            "separate patterns with blanks or commas".to_owned()
        } else {
            "write a name, an address, [IPv6 address], net/bits, /file or type:table".to_owned()
        };
        self.add(Severity::Warning, item, what, remedy);
    }
}

/// The network that somebody means with `127.` or `127.0.0`.
fn abbreviated(text: &str) -> Option<String> {
    let mut octets: Vec<u8> = Vec::new();
    for octet in text.trim_end_matches('.').split('.') {
        octets.push(octet.parse().ok()?);
    }
    let bits = octets.len().checked_mul(8)?;
    if octets.len() > 3 {
        return None;
    }
    octets.resize(4, 0);
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(format!("{}/{bits}", std::net::Ipv4Addr::from(octets)))
}

/// What to write instead of `net/255.0.0.0`; empty if it is not that.
fn dotted_mask(literal: &[u8]) -> String {
    let text = shown(literal);
    let parsed = text.split_once('/').and_then(|(net, mask)| {
        let mask = ipnet::ipv4_mask_to_prefix(mask.parse().ok()?).ok()?;
        Some(ipnet::Ipv4Net::new(net.trim_matches(['[', ']']).parse().ok()?, mask).ok()?.trunc())
    });
    parsed.map(|network| format!("write {network}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(patterns: &str) -> Vec<String> {
        let found = check("qmqpd_authorized_clients", patterns, &Options::default());
        found.iter().map(|problem| format!("{}{problem}", problem.severity.prefix())).collect()
    }

    #[test]
    fn good_lists_have_none() {
        let list =
            "127.0.0.1, [::1] 10.0.0.0/8 [2001:db8::]/32 !bad.example.com example.com cidr:{{10.0.0.0/8 x}}";
        assert_eq!(problems(list), [""; 0]);
        assert_eq!(problems(""), [""; 0]);
    }

    #[test]
    fn every_problem_says_what_to_do() {
        for (item, text) in [
            ("!", "error: \"!\": no pattern after '!'; write !pattern without a blank"),
            (
                "127.0.0.1/8",
                "error: \"127.0.0.1/8\": non-null host address bits in \"127.0.0.1/8\", perhaps you should use \
                 \"127.0.0.0/8\" instead",
            ),
            (
                "10.0.0.0/255.0.0.0",
                "error: \"10.0.0.0/255.0.0.0\": bad mask value in \"10.0.0.0/255.0.0.0\"; write 10.0.0.0/8",
            ),
            ("127.", "warning: \"127.\": this pattern never matches anything; write 127.0.0.0/8"),
            ("!10.1.2", "warning: \"!10.1.2\": this pattern never matches anything; write 10.1.2.0/24"),
            (
                ".example.com",
                "warning: \".example.com\": this pattern never matches anything; write example.com, which matches its \
                 subdomains too since parent_domain_matches_subdomains names qmqpd_authorized_clients",
            ),
            (
                "*.example.com",
                "warning: \"*.example.com\": this pattern never matches anything; there are no wildcards; write the \
                 domain alone",
            ),
            (
                "2001:db8::1",
                "error: \"2001:db8::1\": an IPv6 address without brackets is taken for a lookup table; write \
                 [2001:db8::1]",
            ),
            (
                "2001:db8::/32",
                "error: \"2001:db8::/32\": an IPv6 address without brackets is taken for a lookup table; write \
                 [2001:db8::]/32",
            ),
            ("0.0.0.0/0", "warning: \"0.0.0.0/0\": every client of this address family matches"),
            (
                "unknown",
                "warning: \"unknown\": every client without a verified name matches; write addresses if that is not \
                 meant",
            ),
            (
                "hash:/etc/postfix/c",
                "error: \"hash:/etc/postfix/c\": unsupported dictionary type: hash; run \"postmap lmdb:/etc/postfix/c\" \
                 and write lmdb:/etc/postfix/c, or write texthash:/etc/postfix/c to read the source file itself, or \
                 proxy:hash:/etc/postfix/c where Postfix runs its proxymap(8)",
            ),
            (
                "inline:{Host.Example=x}",
                "warning: \"inline:{Host.Example=x}\": the key \"Host.Example\" never matches, since lookups are in \
                 lower case; write \"host.example\"",
            ),
            (
                "inline:{10.0.0.0/8=x}",
                "warning: \"inline:{10.0.0.0/8=x}\": the key \"10.0.0.0/8\" never matches, since only whole names and \
                 addresses are looked up; write networks into the list or a cidr: table",
            ),
        ] {
            assert_eq!(problems(item), [text], "{item}");
        }
    }

    #[test]
    fn problems_in_files_have_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clients");
        std::fs::write(&path, "127.0.0.1\n\n10.0.0.1/8 # why\n").unwrap();
        let path = path.display().to_string();
        let found = problems(&format!("!{path} /nowhere/at/all"));
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with(&format!("error: {path}:3: \"10.0.0.1/8\": non-null host")));
        assert!(found[1].starts_with(&format!("warning: {path}:3: \"#\": a comment")));
        assert!(
            found[2].starts_with("error: \"/nowhere/at/all\": the pattern file cannot be read: No such file")
        );
    }

    #[test]
    fn a_file_that_includes_itself_is_one_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clients");
        std::fs::write(&path, format!("{}\n", path.display())).unwrap();
        let found = problems(&path.display().to_string());
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("nested more than 10 deep; does the file include itself?"));
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(list in "[!a-z0-9.:/ ,{}=*#\\[\\]]{0,40}") {
            // Not to open whatever the text happens to name.
            problems(&list.replace('/', "/0"));
        }
    }
}
