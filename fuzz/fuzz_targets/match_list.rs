//! Match lists: the first line is the client's name and address, the rest the patterns.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookup::{Client, ClientName, Match, MatchList, Options, check};

const PARAMETER: &str = "qmqpd_authorized_clients";

/// Files and servers have targets of their own; here nothing may be opened that happens to be on the machine.
fn reaches_outside(patterns: &str) -> bool {
    let slashes = patterns.bytes().zip(patterns.bytes().skip(1).chain([b' ']));
    patterns.starts_with('/')
        || slashes.into_iter().any(|(byte, next)| byte == b'/' && !next.is_ascii_digit())
        || ["tcp", "socketmap", "proxy", "cdb", "lmdb", "hash", "regexp", "pcre", "cidr", "/0"]
            .iter()
            .any(|word| patterns.contains(word))
}

fuzz_target!(|data: &[u8]| {
    let (client, patterns) = fuzz::split_line(data);
    let (Ok(client), Ok(patterns)) = (std::str::from_utf8(client), std::str::from_utf8(patterns)) else {
        return;
    };
    if reaches_outside(patterns) {
        return;
    }
    let (name, address) = client.split_once(' ').unwrap_or((client, "192.0.2.1"));
    let options = Options { nesting_max: 4, ..Options::default() };
    let mut notices = Vec::new();
    let problems = check(PARAMETER, patterns, &options);
    let Ok(list) = MatchList::open(PARAMETER, patterns, &options, &mut notices) else {
        assert!(!problems.is_empty(), "a list that cannot be opened passes the check");
        return;
    };
    for name in
        [ClientName::Verified(name), ClientName::Unknown, ClientName::Unresolved, ClientName::Pending]
    {
        let client = Client { name, address };
        let quiet = list.matches(&client, &mut Vec::new());
        let verbose = list.matches_verbosely(&client, 2, &mut Vec::new());
        assert_eq!(quiet.is_ok(), verbose.is_ok());
        if let (Ok(quiet), Ok(verbose)) = (quiet, verbose) {
            assert_eq!(quiet, verbose, "verbosity changes the decision");
            if list.is_empty() {
                assert_eq!(quiet, Match::No);
            }
        }
    }
});
