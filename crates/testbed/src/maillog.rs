//! Reads a log file as it grows.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{failure, wait};

/// One line: which program said it, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The last part of the tag: `qmqpd`, `cleanup`, `master`.
    pub program: String,
    /// The text behind `tag[pid]: `.
    pub text: String,
}

/// A log file in the form of postlogd(8).
#[derive(Debug)]
pub struct Maillog {
    path: PathBuf,
    offset: u64,
}

impl Maillog {
    /// The log at `path`, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        failure::uses(path);
        Self { path: path.to_owned(), offset: 0 }
    }

    /// Everything that was logged so far, as it stands.
    pub fn all(&self) -> String {
        failure::uses(&self.path);
        String::from_utf8_lossy(&std::fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Waits until these words were logged; a line is written a moment after a client can have heard of it. Everything that was
    /// logged until then.
    ///
    /// # Panics
    ///
    /// When the words do not come.
    pub fn all_with(&self, words: &str) -> String {
        let found = wait::within(wait::PATIENCE, || Some(self.all()).filter(|log| log.contains(words)));
        found.unwrap_or_else(|| panic!("{words:?} was never logged"))
    }

    /// The server and its files are about to be removed.
    pub(crate) fn ends(&self) {
        failure::keep(&self.path);
    }

    /// Forgets what was logged so far.
    pub fn skip(&mut self) {
        failure::uses(&self.path);
        self.offset = std::fs::metadata(&self.path).map_or(0, |data| data.len());
    }

    /// Waits until a line fulfils `last`, and returns the lines up to and with it.
    ///
    /// # Panics
    ///
    /// When the line does not come.
    pub fn lines_until(&mut self, what: &str, last: impl Fn(&Line) -> bool) -> Vec<Line> {
        failure::uses(&self.path);
        let start = self.offset;
        let found = wait::within(wait::PATIENCE, || {
            let (lines, ends) = self.read_from(start);
            let index = lines.iter().position(&last)?;
            self.offset = start + ends[index];
            Some(lines[..=index].to_vec())
        });
        found.unwrap_or_else(|| panic!("{what} was never logged"))
    }

    /// Whole lines behind `start`, and the offset behind each.
    fn read_from(&self, start: u64) -> (Vec<Line>, Vec<u64>) {
        let mut bytes = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&self.path) {
            file.seek(SeekFrom::Start(start)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
        }
        let (mut lines, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        for raw in bytes.split_inclusive(|&byte| byte == b'\n').filter(|raw| raw.ends_with(b"\n")) {
            end += raw.len() as u64;
            if let Some(line) = Line::parse(&String::from_utf8_lossy(raw)) {
                lines.push(line);
                ends.push(end);
            }
        }
        (lines, ends)
    }
}

impl Line {
    /// `Nov 23 22:30:10 mx postfix/qmqpd[17530]: text`; `None` for a line of another form.
    fn parse(raw: &str) -> Option<Self> {
        let (head, text) = raw.trim_end_matches('\n').split_once("]: ")?;
        let (head, pid) = head.rsplit_once('[')?;
        pid.parse::<u32>().ok()?;
        let tag = head.rsplit(' ').next()?;
        let program = tag.rsplit('/').next()?;
        Some(Self { program: program.to_owned(), text: text.to_owned() })
    }
}
