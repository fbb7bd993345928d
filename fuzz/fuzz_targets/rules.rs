//! Rules about headers and bodies. The first line has the settings, a letter each; then come rules, a line each: a letter for
//! the parameter, what to look for up to `=`, and the action; behind an empty line the content.
#![no_main]

use std::sync::{Arc, Mutex};

use cleanup::{Fate, Key, LookupFailed, Maps, Names, Options, Tables};
use fuzz::message::{Received, begin, check, complete, give_content, small_limits};
use libfuzzer_sys::fuzz_target;
use postfix::notice::Notice;
use postfix::settings::words::EndOfHeader;

/// The rules of an input. They remember what they said.
#[derive(Debug)]
struct Rules {
    rules: Vec<(Maps, Vec<u8>, Vec<u8>)>,
    said: Mutex<Vec<Vec<u8>>>,
}

impl Rules {
    fn new(lines: &[&[u8]]) -> Self {
        let rule = |line: &&[u8]| {
            let (letter, rest) = line.split_first()?;
            let maps = match letter {
                b'm' => Maps::MimeHeaderChecks,
                b'n' => Maps::NestedHeaderChecks,
                b'b' => Maps::BodyChecks,
                _ => Maps::HeaderChecks,
            };
            let end = rest.iter().position(|byte| *byte == b'=')?;
            let action = &rest[end + 1..];
            // A table gives no empty value.
            (!action.is_empty()).then(|| (maps, rest[..end].to_vec(), action.to_vec()))
        };
        Self { rules: lines.iter().filter_map(rule).collect(), said: Mutex::default() }
    }

    fn said(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

impl Tables for Rules {
    fn has(&self, maps: Maps) -> bool {
        self.rules.iter().any(|rule| rule.0 == maps)
    }

    fn find(&self, maps: Maps, key: Key<'_>, _: &mut Vec<Notice>) -> Result<Option<Vec<u8>>, LookupFailed> {
        let (Key::Whole(text) | Key::Part(text)) = key;
        assert!(!text.is_empty() && !text.contains(&0), "no table takes such a key");
        let is_in =
            |needle: &[u8]| needle.is_empty() || text.windows(needle.len()).any(|part| part == needle);
        let found = self.rules.iter().find(|rule| rule.0 == maps && is_in(&rule.1));
        if let Some((.., action)) = found {
            self.said.lock().unwrap().push(action.clone());
            if action == b"FAIL" {
                return Err(LookupFailed);
            }
        }
        Ok(found.map(|rule| rule.2.clone()))
    }

    fn is_listed(&self, _: Names, _: &[u8], _: &mut Vec<Notice>) -> Result<bool, LookupFailed> {
        Ok(false)
    }
}

fn options(settings: &[u8]) -> Options {
    let has = |letter| settings.contains(&letter);
    Options {
        message_reject_characters: if has(b'r') { b"\x07~".to_vec() } else { Vec::new() },
        message_strip_characters: if has(b's') { b"\x00#".to_vec() } else { Vec::new() },
        strict_7bit_headers: has(b'7'),
        strict_8bitmime: has(b'8'),
        strict_8bitmime_body: has(b'b'),
        strict_mime_encoding_domain: has(b'e'),
        force_mime_input_conversion: has(b'q'),
        disable_mime_input_processing: has(b'd'),
        smtputf8_enable: !has(b'u'),
        body_checks_size_limit: if has(b'l') { 100 } else { 0 },
        non_empty_end_of_header_action: if has(b'n') { EndOfHeader::Reject } else { EndOfHeader::FixQuietly },
        ..small_limits()
    }
}

/// What was said before the content, about the content, and of our own header.
struct Said {
    of_content: Vec<Vec<u8>>,
    of_own_header: Vec<Vec<u8>>,
}

fn receive(options: &Arc<Options>, rules: &Arc<Rules>, pieces: &[&[u8]]) -> (Received, Said) {
    let tables: Arc<dyn Tables> = Arc::clone(rules) as Arc<dyn Tables>;
    let mut message = begin(options, &tables);
    rules.said();
    let content = give_content(&mut message, pieces);
    let of_content = rules.said();
    let received = complete(message, content, b"alice@client.example", &[b"bob@dest.example"]);
    (received, Said { of_content, of_own_header: rules.said() })
}

/// The command of an action, in capitals.
fn command(action: &[u8]) -> Vec<u8> {
    let action = action.split(|byte| *byte == 0).next().unwrap_or_default();
    let end = action.iter().position(|byte| b" \t".contains(byte)).unwrap_or(action.len());
    action[..end].to_ascii_uppercase()
}

/// Whether nothing is asked behind this action.
fn ends(action: &[u8]) -> bool {
    let text = action.split(|byte| *byte == 0).next().unwrap_or_default();
    match command(action).as_slice() {
        b"REJECT" | b"DISCARD" | b"PASS" => true,
        b"REDIRECT" => text.contains(&b'@'),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let (settings, mut rest) = fuzz::split_line(data);
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (line, behind) = fuzz::split_line(rest);
        rest = behind;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let content = rest;
    let options = Arc::new(options(settings));
    let rules = Arc::new(Rules::new(&lines));
    let (whole, said) = receive(&options, &rules, &[content]);
    let (split, _) = receive(&options, &rules, &fuzz::pieces(content));
    assert_eq!(split.outcome, whole.outcome, "the outcome depends on the split");
    // A message that is refused, or vanishes, need not be written to its end.
    if whole.outcome.result.as_ref().is_ok_and(|finished| finished.fate != Fate::Discard) {
        assert_eq!(split.content, whole.content, "the records depend on the split");
    }
    let read = check(&options, &whole);

    for phase in [&said.of_content, &said.of_own_header] {
        let first = phase.iter().position(|action| ends(action));
        assert!(first.is_none_or(|at| at + 1 == phase.len()), "a rule was asked though one has ended all");
    }
    let all = || said.of_content.iter().chain(&said.of_own_header);
    let has_said = |name: &[u8]| all().any(|action| command(action) == name);
    match &whole.outcome.result {
        Ok(finished) => {
            assert!(finished.fate != Fate::Discard || has_said(b"DISCARD"), "nobody said DISCARD");
            assert!(finished.fate != Fate::Hold || has_said(b"HOLD"), "nobody said HOLD");
            let is_held = said.of_content.iter().any(|action| command(action) == b"HOLD");
            let own_ends = said.of_own_header.iter().any(|action| ends(action));
            assert!(!is_held || own_ends || finished.fate != Fate::Deliver, "HOLD is forgotten");
        }
        Err(_) => {
            let is_discarded = said.of_content.iter().any(|action| command(action) == b"DISCARD");
            let own_is_refused = said.of_own_header.iter().any(|action| command(action) == b"REJECT");
            assert!(!is_discarded || own_is_refused, "what was to vanish is refused");
        }
    }
    if let Some(read) = read {
        let added = all().filter(|action| command(action) == b"BCC").count();
        assert!(read.recipients.len() <= 1 + added, "recipients that nobody has named");
    }
});
