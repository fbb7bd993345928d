//! The headers of a message on their way to a filter or into the queue file, with the changes that filters ask for.
//!
//! Changes are not made in place: each is a small machine through which all headers pass, in the order in which the
//! filters asked for them. So a header section of any size needs the memory of one header.

use postfix::milter_protocol::Edit;
use postfix::record::{Reader, RecordType};

use crate::header::{self, name_len};

/// Changes of headers of one message, of all filters together.
const EDITS_MAX: usize = 1000;
/// Bytes of names and values in them.
const EDIT_BYTES_MAX: usize = 1024 * 1024;

/// More changes than one message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many changes of a message: at most {EDITS_MAX} headers with {EDIT_BYTES_MAX} bytes together")]
pub struct LimitExceeded;

/// A header as its records.
#[derive(Debug, Clone)]
struct Item {
    records: Vec<u8>,
    /// Our own Received: header, which filters do not see.
    is_hidden: bool,
}

impl Item {
    fn is_called(&self, name: &[u8]) -> bool {
        let first = Reader::new(&self.records).next();
        let Some(Ok((_, record))) = first else { return false };
        let len = name_len(record.data).unwrap_or_default();
        record.data.get(..len).is_some_and(|found| found.eq_ignore_ascii_case(name))
    }
}

/// A change of a header.
#[derive(Debug, Clone)]
enum Change {
    /// Behind all.
    Append,
    /// Before the header at this position, from 1.
    Insert(u64),
    /// Instead of this instance of the name, from 1; a missing one is appended.
    Replace(u64),
    /// This instance of the name goes.
    Delete(u64),
}

#[derive(Debug, Clone)]
struct Stage {
    change: Change,
    name: Vec<u8>,
    /// The new header.
    records: Vec<u8>,
    /// Headers, or those of this name, seen in this pass.
    seen: u64,
    is_done: bool,
}

/// The changes of headers that filters have asked for.
#[derive(Debug, Default)]
pub struct Edits {
    stages: Vec<Stage>,
    bytes: usize,
}

impl Edits {
    /// Takes a change of a header; it ignores anything else. `header` is the new header, none for one that
    /// goes; `header_size_limit` and `line_length_limit` bound it.
    ///
    /// # Errors
    /// There are too many.
    pub fn push(
        &mut self,
        edit: &Edit,
        header: Option<&[u8]>,
        header_size_limit: usize,
        line_length_limit: usize,
    ) -> Result<(), LimitExceeded> {
        let (change, name) = match edit {
            Edit::AddHeader { name, .. } => (Change::Append, name),
            Edit::InsertHeader { position, name, .. } => {
                (Change::Insert(u64::from(*position).saturating_add(1)), name)
            }
            Edit::ChangeHeader { instance, name, .. } => {
                let instance = u64::from(*instance);
                (if header.is_some() { Change::Replace(instance) } else { Change::Delete(instance) }, name)
            }
            _ => return Ok(()),
        };
        let header = header.unwrap_or_default();
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(header.len());
        if self.stages.len() >= EDITS_MAX || self.bytes > EDIT_BYTES_MAX {
            return Err(LimitExceeded);
        }
        let mut records = Vec::new();
        if !header.is_empty() {
            header::write(header, header_size_limit, line_length_limit, &mut records);
        }
        self.stages.push(Stage { change, name: name.clone(), records, seen: 0, is_done: false });
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// A pass of headers through all changes so far.
    #[must_use]
    pub fn pass(&self) -> Headers {
        Headers { stages: self.stages.clone(), partial: Vec::new(), in_line: false, hidden_next: false }
    }
}

/// The header that a change brings, lines separated by LF; `None` if it brings none. `leading_blank`: the value brings its
/// own blank.
#[must_use]
pub fn new_header(edit: &Edit, leading_blank: bool) -> Option<Vec<u8>> {
    match edit {
        Edit::ChangeHeader { value, .. } if value.is_empty() => None,
        Edit::AddHeader { name, value }
        | Edit::InsertHeader { name, value, .. }
        | Edit::ChangeHeader { name, value, .. } => {
            let blank: &[u8] = if leading_blank { b"" } else { b" " };
            Some([name.as_slice(), b":", blank, value].concat())
        }
        _ => None,
    }
}

/// One pass of the headers of a message: records in, headers out.
#[derive(Debug)]
pub struct Headers {
    stages: Vec<Stage>,
    /// The header that is being put together.
    partial: Vec<u8>,
    /// Its last record was a piece of a line.
    in_line: bool,
    /// It is the one that filters do not see.
    hidden_next: bool,
}

impl Headers {
    /// Takes our own Received: header, before all others. `sink` gets the records of each header, and whether filters
    /// see it.
    pub fn hidden(&mut self, records: &[u8], sink: &mut impl FnMut(Vec<u8>, bool)) {
        self.hidden_next = true;
        self.records(records, sink);
        self.complete(sink);
        self.hidden_next = false;
    }

    /// Takes whole records of the header section.
    pub fn records(&mut self, records: &[u8], sink: &mut impl FnMut(Vec<u8>, bool)) {
        let mut start = 0;
        for item in Reader::new(records) {
            let Ok((offset, record)) = item else { return };
            let continues = self.in_line || matches!(record.data.first(), Some(b' ' | b'\t'));
            if !continues {
                self.partial.extend_from_slice(records.get(start..offset).unwrap_or_default());
                start = offset;
                self.complete(sink);
            }
            self.in_line = record.kind == RecordType::PARTIAL;
        }
        self.partial.extend_from_slice(records.get(start..).unwrap_or_default());
    }

    /// There are no more headers.
    pub fn finish(mut self, sink: &mut impl FnMut(Vec<u8>, bool)) {
        self.complete(sink);
        for number in 0..self.stages.len() {
            let Some(stage) = self.stages.get_mut(number) else { return };
            let appends = match stage.change {
                Change::Append => true,
                Change::Insert(_) | Change::Replace(_) => !stage.is_done,
                Change::Delete(_) => false,
            };
            stage.is_done = true;
            if appends {
                let item = Item { records: stage.records.clone(), is_hidden: false };
                self.pass_on(number.saturating_add(1), item, sink);
            }
        }
    }

    fn complete(&mut self, sink: &mut impl FnMut(Vec<u8>, bool)) {
        self.in_line = false;
        if !self.partial.is_empty() {
            let item = Item { records: std::mem::take(&mut self.partial), is_hidden: self.hidden_next };
            self.pass_on(0, item, sink);
        }
    }

    /// Sends a header through the stages from this one on. A stage adds at most one header to what passes it.
    fn pass_on(&mut self, first: usize, item: Item, sink: &mut impl FnMut(Vec<u8>, bool)) {
        let mut passing = vec![item];
        for stage in self.stages.iter_mut().skip(first).filter(|stage| !stage.is_done) {
            let mut behind = Vec::with_capacity(passing.len());
            for item in passing {
                stage.take(item, &mut behind);
            }
            passing = behind;
        }
        for item in passing {
            sink(item.records, !item.is_hidden);
        }
    }
}

impl Stage {
    fn take(&mut self, item: Item, behind: &mut Vec<Item>) {
        if self.is_done {
            behind.push(item);
            return;
        }
        let new = || Item { records: self.records.clone(), is_hidden: false };
        match self.change {
            Change::Append => behind.push(item),
            Change::Insert(position) => {
                self.seen = self.seen.saturating_add(1);
                if self.seen == position {
                    self.is_done = true;
                    behind.push(new());
                }
                behind.push(item);
            }
            Change::Replace(instance) | Change::Delete(instance) => {
                if item.is_hidden || !item.is_called(&self.name) {
                    behind.push(item);
                    return;
                }
                self.seen = self.seen.saturating_add(1);
                if self.seen != instance {
                    behind.push(item);
                    return;
                }
                self.is_done = true;
                if matches!(self.change, Change::Replace(_)) {
                    behind.push(new());
                }
            }
        }
    }
}

/// The data of the packet that shows a header: name and value, each ended by NUL; `None` if the records are no header.
/// Lines are separated by LF. Without `leading_blank` the blank behind the colon is left out.
#[must_use]
pub fn header_packet(records: &[u8], leading_blank: bool) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(records.len().saturating_add(2));
    let mut line_ends = false;
    for item in Reader::new(records) {
        let (_, record) = item.ok()?;
        if line_ends {
            text.push(b'\n');
        }
        text.extend_from_slice(record.data);
        line_ends = record.kind != RecordType::PARTIAL;
    }
    let len = name_len(&text)?;
    let (name, rest) = text.split_at_checked(len)?;
    let colon = memchr::memchr(b':', rest)?;
    let mut value = rest.get(colon.saturating_add(1)..)?;
    if !leading_blank {
        value = value.strip_prefix(b" ").unwrap_or(value);
    }
    Some([name, b"\0", value, b"\0"].concat())
}

#[cfg(test)]
mod tests {
    use postfix::record::encode;
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<u8> {
        let mut records = Vec::new();
        for line in text.lines() {
            header::write_line(line.as_bytes(), 20, &mut records);
        }
        records
    }

    fn text(records: &[u8]) -> String {
        let mut out = String::new();
        for item in Reader::new(records) {
            let (_, record) = item.unwrap();
            out.push_str(std::str::from_utf8(record.data).unwrap());
            if record.kind != RecordType::PARTIAL {
                out.push('|');
            }
        }
        out
    }

    fn add(name: &str, value: &str) -> Edit {
        Edit::AddHeader { name: name.into(), value: value.into() }
    }
    fn insert(position: u32, name: &str, value: &str) -> Edit {
        Edit::InsertHeader { position, name: name.into(), value: value.into() }
    }
    fn change(instance: u32, name: &str, value: &str) -> Edit {
        Edit::ChangeHeader { instance, name: name.into(), value: value.into() }
    }

    /// All headers, and what filters see of them.
    fn after(changes: &[Edit], received: &str, headers: &str) -> (String, String) {
        let mut edits = Edits::default();
        for change in changes {
            edits.push(change, new_header(change, false).as_deref(), 1000, 20).unwrap();
        }
        let (mut all, mut seen) = (String::new(), String::new());
        let mut sink = |records: Vec<u8>, is_seen: bool| {
            all.push_str(&text(&records));
            if is_seen {
                seen.push_str(&text(&records));
            }
        };
        let mut pass = edits.pass();
        pass.hidden(&lines(received), &mut sink);
        pass.records(&lines(headers), &mut sink);
        pass.finish(&mut sink);
        (all, seen)
    }

    #[test]
    fn changes() {
        let headers = "A: 1\nB: 1\n b\nA: 2";
        for (changes, expected) in [
            (vec![], "Received: we|\tby|A: 1|B: 1| b|A: 2|"),
            (vec![add("C", "3")], "Received: we|\tby|A: 1|B: 1| b|A: 2|C: 3|"),
            (vec![insert(0, "C", "3")], "C: 3|Received: we|\tby|A: 1|B: 1| b|A: 2|"),
            (vec![insert(1, "C", "3")], "Received: we|\tby|C: 3|A: 1|B: 1| b|A: 2|"),
            (vec![insert(9, "C", "3")], "Received: we|\tby|A: 1|B: 1| b|A: 2|C: 3|"),
            (
                vec![insert(0, "C", "3"), insert(0, "D", "4")],
                "D: 4|C: 3|Received: we|\tby|A: 1|B: 1| b|A: 2|",
            ),
            (vec![change(2, "a", "x\n y")], "Received: we|\tby|A: 1|B: 1| b|a: x| y|"),
            (vec![change(3, "a", "x")], "Received: we|\tby|A: 1|B: 1| b|A: 2|a: x|"),
            (vec![change(1, "b", "")], "Received: we|\tby|A: 1|A: 2|"),
            (vec![change(5, "b", "")], "Received: we|\tby|A: 1|B: 1| b|A: 2|"),
            (vec![change(1, "received", "x")], "Received: we|\tby|A: 1|B: 1| b|A: 2|received: x|"),
            (vec![add("C", "3"), change(1, "C", "4")], "Received: we|\tby|A: 1|B: 1| b|A: 2|C: 4|"),
            (vec![change(1, "A", ""), change(1, "A", "3")], "Received: we|\tby|B: 1| b|A: 3|"),
            (vec![add("C", "two\nlines")], "Received: we|\tby|A: 1|B: 1| b|A: 2|C: two|\tlines|"),
        ] {
            assert_eq!(after(&changes, "Received: we\n\tby", headers).0, expected, "{changes:?}");
        }
        let (_, seen) = after(&[insert(0, "C", "3")], "Received: we", "A: 1");
        assert_eq!(seen, "C: 3|A: 1|");
    }

    #[test]
    fn there_is_a_limit() {
        let mut edits = Edits::default();
        for _ in 0..EDITS_MAX {
            assert!(edits.push(&add("A", "b"), Some(b"A: b"), 1000, 100).is_ok());
        }
        assert_eq!(edits.push(&add("A", "b"), Some(b"A: b"), 1000, 100), Err(LimitExceeded));
        let large = vec![b'x'; EDIT_BYTES_MAX];
        assert_eq!(Edits::default().push(&add("A", ""), Some(&large), 1000, 100), Err(LimitExceeded));
        let (_, just) = large.split_at(1);
        assert_eq!(Edits::default().push(&add("A", ""), Some(just), 1000, 100), Ok(()));
    }

    #[test]
    fn how_a_header_is_shown() {
        let shown = |header: &str, blank| {
            header_packet(&lines(header), blank).map(|data| String::from_utf8(data).unwrap())
        };
        assert_eq!(shown("A: 1", false).unwrap(), "A\x001\0");
        assert_eq!(shown("A: 1", true).unwrap(), "A\0 1\0");
        assert_eq!(shown("A:  1\n\t2", false).unwrap(), "A\0 1\n\t2\0");
        assert_eq!(shown("A:\t1", false).unwrap(), "A\0\t1\0");
        let long = "x".repeat(50);
        assert_eq!(shown(&format!("A: {long}"), false).unwrap(), format!("A\0{long}\0"));
        assert_eq!(shown("no header", false), None);
    }

    proptest! {
        #[test]
        fn headers_pass_unchanged_however_they_are_cut(
            headers in prop::collection::vec("[A-C]: [a-z]{0,30}(\n [a-z]{0,5})?", 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let records = lines(&headers.join("\n"));
            // Pieces end between records.
            let mut ends: Vec<usize> = Reader::new(&records).map(|item| item.unwrap().0).collect();
            ends.push(records.len());
            let middle = *cut.get(&ends);
            let mut out = Vec::new();
            let mut count = 0;
            let mut sink = |records: Vec<u8>, _| { out.extend(records); count += 1; };
            let mut pass = Edits::default().pass();
            pass.records(&records[..middle], &mut sink);
            pass.records(&records[middle..], &mut sink);
            pass.finish(&mut sink);
            prop_assert_eq!(out, records);
            prop_assert_eq!(count, headers.len());
        }

        #[test]
        fn any_changes_end(
            positions in prop::collection::vec((0_u32..4, 0_u8..4, "[A-C]"), 0..12),
        ) {
            let changes: Vec<Edit> = positions.iter().map(|(at, kind, name)| match kind {
                0 => add(name, "n"),
                1 => insert(*at, name, "n"),
                2 => change((*at).max(1), name, "n"),
                _ => change((*at).max(1), name, ""),
            }).collect();
            let (all, seen) = after(&changes, "R: x", "A: 1\nB: 2\nA: 3");
            prop_assert!(all.matches('|').count() <= 4 + changes.len());
            prop_assert!(seen.len() < all.len());
        }
    }

    #[test]
    fn a_record_that_is_no_header_belongs_to_nobody() {
        let mut records = Vec::new();
        encode(&mut records, RecordType::NORMAL, b"junk");
        let mut count = 0;
        let mut pass = Edits::default().pass();
        pass.records(&records, &mut |_, _| count += 1);
        pass.finish(&mut |_, _| count += 1);
        assert_eq!(count, 1);
    }
}
