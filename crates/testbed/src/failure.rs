//! What is printed when a test fails: the few log lines that matter, and where the whole log is.
//!
//! Each thread runs one test at a time, so what a test uses is noted for its thread: the logs that it reads, and the queue IDs
//! that its clients were told.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// How many lines about messages, and from the end of a log, are printed.
const LINES_MAX: usize = 12;

/// What a server logs when something is wrong.
const TROUBLE: &[&str] = &["warning: ", "error: ", "fatal: ", "panic: ", "panicked at"];

#[derive(Default)]
struct AtHand {
    logs: BTreeMap<PathBuf, Log>,
    queue_ids: BTreeSet<String>,
    panicked_at: Option<String>,
}

struct Log {
    /// Where the log ended when this test began to use it: another test may have used the server before.
    start: usize,
    /// The log of a server that has been removed since, with all its files.
    kept: Option<Vec<u8>>,
}

thread_local! {
    static AT_HAND: RefCell<AtHand> = RefCell::default();
}

/// Forgets what the test before used.
pub(crate) fn begin() {
    AT_HAND.take();
}

/// From now on a panic says where it was to [`report`] too.
pub(crate) fn note_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        AT_HAND.with_borrow_mut(|at_hand| at_hand.panicked_at = place);
        hook(panic);
    }));
}

/// This test reads this log.
pub(crate) fn uses(log: &Path) {
    AT_HAND.with_borrow_mut(|at_hand| {
        if !at_hand.logs.contains_key(log) {
            let start = fs::metadata(log).map_or(0, |data| data.len());
            let start = usize::try_from(start).unwrap();
            at_hand.logs.insert(log.to_owned(), Log { start, kept: None });
        }
    });
}

/// The files of a server are about to be removed. After a failure its log is still needed.
pub(crate) fn keep(log: &Path) {
    if !std::thread::panicking() {
        return;
    }
    AT_HAND.with_borrow_mut(|at_hand| {
        if let Some(found) = at_hand.logs.get_mut(log) {
            found.kept = fs::read(log).ok();
        }
    });
}

/// A client of this test was told this queue ID.
pub(crate) fn names(queue_id: &str) {
    AT_HAND.with_borrow_mut(|at_hand| at_hand.queue_ids.insert(queue_id.to_owned()));
}

/// The lines that matter of each log that the failed test has used. The whole logs go to `logs/` below this directory.
pub(crate) fn report(test: &str, target: &Path) -> String {
    let AtHand { logs, queue_ids, panicked_at } = AT_HAND.take();
    let directory = target.join("logs");
    let mut out = panicked_at.map_or_else(String::new, |place| format!("at {place}\n"));
    for (number, (path, log)) in logs.into_iter().enumerate() {
        let Some(bytes) = log.kept.or_else(|| fs::read(&path).ok()) else { continue };
        let text = String::from_utf8_lossy(bytes.get(log.start..).unwrap_or_default()).into_owned();
        let copy = directory.join(format!("{}.{number}.log", test.replace("::", ".").replace('/', "-")));
        let place = fs::create_dir_all(&directory).and_then(|()| fs::write(&copy, &bytes));
        let place = place.map_or_else(|error| format!("not kept: {error}"), |()| copy.display().to_string());
        let lines = lines_that_matter(&text, &queue_ids);
        let of = text.lines().count();
        let server = server(&path);
        writeln!(out, "\nlog of {server}, {} of its {of} lines; all of them: {place}", lines.len()).unwrap();
        for line in lines {
            writeln!(out, "    {line}").unwrap();
        }
    }
    out
}

/// The first part of the directory's name that [`scratch`](crate::postfix::scratch) was given.
fn server(log: &Path) -> String {
    let directory = log.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = directory.strip_prefix("qmqpd-test-").and_then(|rest| rest.rsplit_once('-'));
    name.map_or_else(|| log.display().to_string(), |(name, _)| name.to_owned())
}

/// What says that something is wrong; what is about the messages at hand; and how the log ends. In the order of the log.
fn lines_that_matter<'l>(log: &'l str, queue_ids: &BTreeSet<String>) -> Vec<&'l str> {
    let lines: Vec<&str> = log.lines().collect();
    let is_about = |line: &str| queue_ids.iter().any(|id| line.contains(&format!(": {id}: ")));
    let wanted = |wanted: &dyn Fn(&str) -> bool| {
        let found = lines.iter().enumerate().filter(|(_, line)| wanted(line)).map(|(index, _)| index);
        found.rev().take(LINES_MAX).collect::<BTreeSet<usize>>()
    };
    let mut shown = wanted(&|line| TROUBLE.iter().any(|word| line.contains(word)));
    shown.extend(wanted(&is_about));
    shown.extend(lines.len().saturating_sub(LINES_MAX / 3)..lines.len());
    shown.into_iter().map(|index| lines[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_messages_at_hand_and_the_end_are_shown() {
        let mut log: Vec<String> = (0..100).map(|number| format!("qmqpd[1]: {number}")).collect();
        log[3] = "qmqpd[1]: warning: a table is old".to_owned();
        log[40] = "qmqpd[1]: 4ABC: client=localhost[127.0.0.1]".to_owned();
        log[41] = "qmqpd[1]: 4DEF: client=localhost[127.0.0.1]".to_owned();
        let text = log.join("\n");
        let shown = lines_that_matter(&text, &BTreeSet::from(["4ABC".to_owned()]));
        let end = ["96", "97", "98", "99"].map(|number| format!("qmqpd[1]: {number}"));
        assert_eq!(shown, [&log[3], &log[40], &end[0], &end[1], &end[2], &end[3]]);
    }

    #[test]
    fn the_last_complaints_of_many_are_shown() {
        let text: String = (0..100).map(|number| format!("qmqpd[1]: warning: {number}\n")).collect();
        let shown = lines_that_matter(&text, &BTreeSet::new());
        assert_eq!((shown.len(), shown[0]), (LINES_MAX, "qmqpd[1]: warning: 88"));
    }

    #[test]
    fn a_log_is_kept_for_the_test_that_fails() {
        let dir = tempfile::Builder::new().prefix("qmqpd-test-ours-").tempdir().unwrap();
        let log = dir.path().join("maillog");
        fs::write(&log, "qmqpd[1]: warning: of the test before\n").unwrap();
        begin();
        uses(&log);
        let old = fs::read(&log).unwrap();
        fs::write(&log, [&old[..], b"qmqpd[1]: 4ABC: client=x\n"].concat()).unwrap();
        let report = report("life::ends", dir.path());
        assert!(report.starts_with("\nlog of ours, 1 of its 1 lines; all of them: "), "{report}");
        assert!(report.ends_with("\n    qmqpd[1]: 4ABC: client=x\n"), "{report}");
        let kept = fs::read_to_string(dir.path().join("logs/life.ends.0.log")).unwrap();
        assert!(kept.starts_with("qmqpd[1]: warning: of the test before\n"), "{kept}");
    }
}
