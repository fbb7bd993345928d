//! Checks a match list without a client, for `qmqpd check`.
//!
//! Postfix says nothing about most of this. A pattern that can never match is silently passed over, and an invalid
//! one is noticed only when the first client reaches it.

use postfix::text::system_words;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use postfix::notice::{Notice, Severity};
use postfix::text::read_logical_lines;

use crate::address::{self, Literal};
use crate::finding::{Finding, PatternFileLine};
use crate::host::{self, ParentStyle};
use crate::list::{Item, bracketed, classify};
use crate::match_list::parent_style;
use crate::meant;
use crate::options::Options;
use crate::order::{self, Reach, Step};
use crate::syntax::{next_item, shown};
use crate::table::{Opener, values};
use crate::watch::Watched;
use postfix::text::until_nul;

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
    let mut checker =
        Checker { parameter, options: &options, style, place: None, problems, steps: Vec::new() };
    checker.text(until_nul(patterns.as_bytes()), false, 0);
    checker.order();
    checker.problems
}

struct Checker<'a> {
    parameter: &'static str,
    options: &'a Options,
    style: ParentStyle,
    place: PatternFileLine,
    problems: Vec<Problem>,
    steps: Vec<Step>,
}

impl Checker<'_> {
    fn add(&mut self, severity: Severity, item: &[u8], what: impl Into<String>, remedy: impl Into<String>) {
        let (place, item) = (self.place.clone(), shown(item));
        self.problems.push(Problem { severity, place, item, what: what.into(), remedy: remedy.into() });
    }

    /// What never applies for the patterns before it.
    fn order(&mut self) {
        for Finding { place, item, what, remedy } in order::findings(&self.steps, self.style) {
            let (severity, item) = (Severity::Warning, shown(&item));
            self.problems.push(Problem { severity, place, item, what, remedy });
        }
    }

    /// Remembers a pattern and its place in the order.
    fn step(&mut self, item: &[u8], negated: bool, reach: Reach) {
        self.steps.push(Step { item: item.to_vec(), place: self.place.clone(), negated, reach });
    }

    /// `outer`: whether the file that the text stands in was marked with a `!`.
    fn text(&mut self, text: &[u8], outer: bool, depth: usize) {
        let mut rest = text;
        while let Some(item) = next_item(&mut rest) {
            if item.first() == Some(&b'#') {
                let what = "a comment after other text hides the rest of the line";
                self.add(Severity::Warning, item, what, "write the comment on a separate line");
                return;
            }
            match classify(item) {
                None => {
                    self.add(Severity::Error, item, "no pattern after '!'", "write !pattern without a blank");
                }
                Some((marked, Item::File(path))) => self.file(item, path, outer != marked, depth),
                Some((marked, Item::Table(table))) => {
                    let reach = self.table(item, table, outer != marked);
                    self.step(item, outer != marked, reach);
                }
                Some((marked, Item::Literal(literal))) => {
                    let reach = self.literal(item, literal);
                    self.step(item, outer != marked, reach);
                }
            }
        }
    }

    fn file(&mut self, item: &[u8], path: &[u8], negated: bool, depth: usize) {
        if depth >= self.options.nesting_max {
            let what = format!("pattern files are nested more than {} deep", self.options.nesting_max);
            return self.add(Severity::Error, item, what, "does the file include itself?");
        }
        let read = Watched::open(Path::new(OsStr::from_bytes(path)))
            .and_then(|file| file.read(self.options.file_bytes_max));
        let contents = match read {
            Ok(contents) => contents,
            Err(error) => {
                let what = format!("the pattern file cannot be read: {}", system_words(&error));
                self.step(item, negated, Reach::Unknown);
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
            self.text(&line.text, negated, depth.saturating_add(1));
        }
        self.place = outside;
    }

    fn notices(&mut self, item: &[u8], notices: Vec<Notice>) {
        for notice in notices {
            self.add(notice.severity, item, notice.text, "");
        }
    }

    fn table(&mut self, item: &[u8], table: &[u8], negated: bool) -> Reach {
        if let Some(instead) = bracketed(table) {
            let what = "an IPv6 address without brackets is read as a lookup table";
            self.add(Severity::Error, item, what, format!("write {instead}"));
            return Reach::Unknown;
        }
        if let Some((what, remedy)) = meant::by_table(&shown(table)) {
            self.add(Severity::Error, item, what, remedy);
            return Reach::Unknown;
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
                if !negated && let Some((what, remedy)) = values::remark(table.as_ref()) {
                    self.add(Severity::Warning, item, what, remedy);
                }
            }
        }
        if !table.starts_with(b"static:") {
            return Reach::Unknown;
        }
        self.add(Severity::Warning, item, "every client matches", "");
        Reach::EveryClient
    }

    fn literal(&mut self, item: &[u8], literal: &[u8]) -> Reach {
        let text = shown(literal);
        match Literal::new(literal.to_vec()).network {
            Some(Err(error)) => {
                let (what, remedy) =
                    meant::by_table(&text).unwrap_or_else(|| (error.to_string(), dotted_mask(literal)));
                self.add(Severity::Error, item, what, remedy);
                return Reach::Unknown;
            }
            Some(Ok(network)) if network.is_everything() => {
                self.add(Severity::Warning, item, "every client of this address family matches", "");
                return Reach::Network(network.net());
            }
            Some(Ok(network)) => return Reach::Network(network.net()),
            None => {}
        }
        let address =
            literal.strip_prefix(b"[").and_then(|inside| inside.strip_suffix(b"]")).unwrap_or(literal);
        let advice = meant::by_literal(&text);
        let is_address = address::parse_address(address);
        let name = postfix::text::fold(literal, self.options.smtputf8_enable);
        if let Some((what, remedy)) = advice {
            self.add(Severity::Warning, item, what, remedy);
        } else if is_address.is_none() && name == b"unknown" {
            let what = "every client without a verified name matches";
            self.add(Severity::Warning, item, what, "write addresses if that is not meant");
        } else if is_address.is_none() && !host::could_match_a_name(&name, self.style) {
            self.never(item, literal);
        }
        is_address.map_or(Reach::Name(name), |address| Reach::Network(address.into()))
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
        } else if let Some(network) = meant::network_of_octets(&text) {
            format!("write {network}")
        } else if let Some(address) = meant::without_zeros(&text) {
            format!("write {address}")
        } else if text.contains(['"', '\'', '{', '}']) {
            "write it without quotes and braces".to_owned()
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
            ("10.1.2", "warning: \"10.1.2\": this pattern never matches anything; write 10.1.2.0/24"),
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
                "error: \"2001:db8::1\": an IPv6 address without brackets is read as a lookup table; write \
                 [2001:db8::1]",
            ),
            (
                "2001:db8::/32",
                "error: \"2001:db8::/32\": an IPv6 address without brackets is read as a lookup table; \
                 write \
                 [2001:db8::]/32",
            ),
            ("0.0.0.0/0", "warning: \"0.0.0.0/0\": every client of this address family matches"),
            (
                "unknown",
                "warning: \"unknown\": every client without a verified name matches; write addresses if that is not \
                 meant",
            ),
            (
                "sdbm:/etc/postfix/c",
                "error: \"sdbm:/etc/postfix/c\": unsupported dictionary type: sdbm; run \"postmap lmdb:/etc/postfix/c\" \
                 and write lmdb:/etc/postfix/c, or write texthash:/etc/postfix/c to read the source file itself, or \
                 proxy:sdbm:/etc/postfix/c where Postfix runs its proxymap(8)",
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
    fn what_cannot_mean_what_was_meant_is_said_with_what_to_write() {
        let every_client = "write 0.0.0.0/0, [::]/0 if every client of the network may match, or $mynetworks";
        let name = "only a client with this name matches";
        for (item, text) in [
            ("permit_mynetworks", format!("warning: \"permit_mynetworks\": {name}; write $mynetworks")),
            ("All", format!("warning: \"All\": {name}; {every_client}")),
            ("yes", format!("warning: \"yes\": {name}; {every_client}")),
            ("no", format!("warning: \"no\": {name}; leave the list empty if no client may match")),
            (
                "mynetworks",
                format!("warning: \"mynetworks\": {name}; write $mynetworks for the value of that parameter"),
            ),
            (
                "192.0.2.1-192.0.2.9",
                "warning: \"192.0.2.1-192.0.2.9\": ranges of addresses are not supported; write 192.0.2.1, \
                 192.0.2.2/31, 192.0.2.4/30, 192.0.2.8/31"
                    .to_owned(),
            ),
            (
                "192.0.2.0-127",
                "warning: \"192.0.2.0-127\": ranges of addresses are not supported; write \
                 192.0.2.0/25"
                    .to_owned(),
            ),
            ("10.*", "warning: \"10.*\": this pattern never matches anything; write 10.0.0.0/8".to_owned()),
            (
                "192.0.2.010",
                "warning: \"192.0.2.010\": this pattern never matches anything; write 192.0.2.10".to_owned(),
            ),
            ("0.0.0.0", format!("warning: \"0.0.0.0\": no client has this address; {every_client}")),
            (
                "127.0.0.1:628",
                "error: \"127.0.0.1:628\": a pattern cannot contain a port; write 127.0.0.1".to_owned(),
            ),
            ("[::1]:628", "error: \"[::1]:628\": a pattern cannot contain a port; write [::1]".to_owned()),
            (
                "mx.example.com:628",
                "error: \"mx.example.com:628\": a pattern cannot contain a port; write \
                 mx.example.com"
                    .to_owned(),
            ),
            (
                "192.0.2.:deny",
                "error: \"192.0.2.:deny\": a rule of tcprules(1) is not a pattern; write \
                 !192.0.2.0/24"
                    .to_owned(),
            ),
            (
                ":allow",
                "error: \":allow\": a rule of tcprules(1) is not a pattern; write 0.0.0.0/0, [::]/0 if \
                 every client may \
                 match"
                    .to_owned(),
            ),
            ("static:all", "warning: \"static:all\": every client matches".to_owned()),
        ] {
            assert_eq!(problems(item), [text], "{item}");
        }
        for fine in ["mailhost", "localhost", "permit.example.com", "yes.example.com", "a-b.example.com"] {
            assert_eq!(problems(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn an_exception_that_comes_too_late_is_named() {
        let never = |item: &str, kind: &str, by: &str| {
            format!(
                "warning: \"{item}\": this {kind} never applies: \"{by}\" before it already matches; write it before \"{by}\""
            )
        };
        let in_vain = |item: &str| {
            format!(
                "warning: \"{item}\": this exception never applies: no later pattern would match; write \
                 exceptions before the patterns that they modify"
            )
        };
        let exceptions = "warning: there are only exceptions: no client matches; write after them the \
         pattern that they modify, such as $mynetworks";
        for (list, expected) in [
            ("198.51.100.0/24, !198.51.100.7", vec![never("!198.51.100.7", "exception", "198.51.100.0/24")]),
            (
                "[2001:db8::]/32 ![2001:db8:1::]/48 10.0.0.1",
                vec![never("![2001:db8:1::]/48", "exception", "[2001:db8::]/32")],
            ),
            ("!10.0.0.0/8, 10.1.2.3, 192.0.2.1", vec![never("10.1.2.3", "pattern", "!10.0.0.0/8")]),
            (
                "example.com !bad.example.com a.test",
                vec![never("!bad.example.com", "exception", "example.com")],
            ),
            ("10.0.0.0/8 !bad.example.com", vec![in_vain("!bad.example.com")]),
            ("10.0.0.0/8 !192.0.2.0/24", vec![in_vain("!192.0.2.0/24")]),
            ("!10.0.0.1", vec![exceptions.to_owned()]),
            // The wider exception still counts for what is outside, and one that is there twice is no fault.
            ("10.1.0.0/16 !10.0.0.0/8 0.0.0.0/1", vec![]),
            ("!10.0.0.1 10.0.0.0/8", vec![]),
            ("!10.0.0.1 10.0.0.0/8 !10.0.0.1 192.0.2.1", vec![]),
            ("!bad.example.com example.com", vec![]),
        ] {
            assert_eq!(problems(list), expected, "{list}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denied");
        std::fs::write(&path, "10.0.0.9\n10.0.0.10\n").unwrap();
        let path = path.display();
        assert_eq!(problems(&format!("!{path} 10.0.0.0/8")), [""; 0]);
        let found = problems(&format!("10.0.0.0/8 !{path} 192.0.2.1"));
        assert_eq!(found.len(), 2);
        assert!(
            found[0].contains(&format!("{path}:1: \"10.0.0.9\": this exception never applies")),
            "{found:?}"
        );
        let many: String = (0..100).map(|n| format!(" !10.0.0.{n}")).collect();
        let found = problems(&format!("10.0.0.0/8{many}"));
        assert_eq!(found.len(), 21);
        assert!(found[20].ends_with("80 more patterns never apply; check their order"));
    }

    #[test]
    fn a_table_whose_values_refuse_is_named() {
        let said = problems("inline:{ {192.0.2.5=REJECT go away}, {192.0.2.6=OK} }");
        assert_eq!(said.len(), 1);
        assert!(said[0].ends_with(
            "the value \"REJECT go away\" of \"192.0.2.5\" has no effect: every client that the table knows matches; \
             write !192.0.2.5 before the table, or remove the entry"
        ));
        assert_eq!(problems("!inline:{{192.0.2.5=REJECT}} 10.0.0.1"), [""; 0]);
        assert_eq!(problems("cidr:{{10.0.0.0/8 REJECT}}").len(), 1);
        assert_eq!(problems("unionmap:{inline:{a=b}, inline:{c=554}}").len(), 1);
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
