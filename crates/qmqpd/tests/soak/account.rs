//! What was sent, what was answered, what is in the queue; and how much the processes take.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::Pid;

use testbed::ours::Instance;
use testbed::queue::Queue;
use testbed::queue_file::QueueFile;

/// How a session ended for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `K`, with the queue ID.
    Queued(String),
    /// `Z`.
    Temporary(String),
    /// `D`.
    Permanent(String),
    /// The connection ended without a reply.
    Silence,
    /// The client left first.
    Left,
    /// Nobody accepted the connection.
    NotConnected,
    /// No reply and no end in a minute.
    Late,
}

/// One message.
#[derive(Debug, Clone)]
struct Entry {
    recipients: usize,
    bytes: usize,
    outcome: Option<Outcome>,
    /// A `K` would be right.
    is_good: bool,
    /// The queue IDs under which it was found.
    found: Vec<String>,
}

/// All messages, by what stands in their subjects.
#[derive(Debug, Default)]
pub(crate) struct Account {
    entries: Mutex<HashMap<String, Entry>>,
    /// What was found in the queue and should not be there.
    faults: Mutex<Vec<String>>,
}

impl Account {
    /// A message is about to be sent.
    pub(crate) fn begin(&self, id: &str, recipients: usize, bytes: usize) {
        let entry = Entry { recipients, bytes, outcome: None, is_good: true, found: Vec::new() };
        self.entries.lock().unwrap().insert(id.to_owned(), entry);
    }

    /// Its session is over.
    pub(crate) fn end(&self, id: &str, outcome: Outcome, is_good: bool) {
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(id).unwrap();
        entry.outcome = Some(outcome);
        entry.is_good = is_good;
    }

    /// How many have been answered with `K` so far.
    pub(crate) fn queued(&self) -> usize {
        let entries = self.entries.lock().unwrap();
        entries.values().filter(|entry| matches!(entry.outcome, Some(Outcome::Queued(_)))).count()
    }

    /// How many have heard that the queue file cannot be written.
    pub(crate) fn storage_errors(&self) -> usize {
        let entries = self.entries.lock().unwrap();
        let is_one = |entry: &&Entry| matches!(&entry.outcome, Some(Outcome::Temporary(text)) if text == "ZError: queue file write error");
        entries.values().filter(is_one).count()
    }

    /// Takes messages out of the queue as a queue manager does, until the end.
    pub(crate) fn collect_until(&self, queue: &Queue, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.collect(queue);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads what is in the queue, and removes it.
    pub(crate) fn collect(&self, queue: &Queue) {
        for file in queue.take() {
            match file {
                Ok(file) => self.found(&file),
                Err(fault) => self.faults.lock().unwrap().push(fault),
            }
        }
    }

    fn found(&self, file: &QueueFile) {
        let message = String::from_utf8(file.message()).unwrap();
        let subject = message.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default();
        let mut entries = self.entries.lock().unwrap();
        let fault = match entries.get_mut(subject) {
            None => Some(format!("{} is nobody's: {subject}", file.id)),
            Some(entry) => {
                entry.found.push(file.id.clone());
                let is_whole = message.ends_with(&format!("\nthe end of {subject}\n"))
                    && message.len() >= entry.bytes
                    && file.recipients().count() == entry.recipients;
                (!is_whole).then(|| format!("{} is not whole: {subject}", file.id))
            }
        };
        self.faults.lock().unwrap().extend(fault);
    }

    /// The account, a line for each kind of outcome.
    pub(crate) fn report(&self) -> String {
        let entries = self.entries.lock().unwrap();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries.values() {
            let kind = match entry.outcome.as_ref().unwrap() {
                Outcome::Queued(_) => "K".to_owned(),
                Outcome::Temporary(text) | Outcome::Permanent(text) => text.clone(),
                Outcome::Silence => "no reply".to_owned(),
                Outcome::Left => "the client left".to_owned(),
                Outcome::NotConnected => "no connection".to_owned(),
                Outcome::Late => "nothing for a minute".to_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let mut text = format!("{:8} sent\n", entries.len());
        for (kind, count) in kinds {
            writeln!(text, "{count:8} {kind}").unwrap();
        }
        let in_queue = entries.values().map(|entry| entry.found.len()).sum::<usize>();
        writeln!(text, "{in_queue:8} in the queue").unwrap();
        let count = |fault: fn(&Entry) -> bool| entries.values().filter(|entry| fault(entry)).count();
        writeln!(text, "{:8} of them without a reply", count(Entry::is_unanswered)).unwrap();
        writeln!(text, "{:8} lost, {} duplicated", count(Entry::is_lost), count(Entry::is_duplicated))
            .unwrap();
        write!(text, "{:8} torn or invented", self.faults.lock().unwrap().len()).unwrap();
        text
    }

    /// What should not be: messages lost, duplicated, torn or invented, clients that waited in vain.
    pub(crate) fn faults(&self) -> Vec<String> {
        type Fault = (&'static str, fn(&Entry) -> bool);
        const KINDS: [Fault; 5] = [
            ("answered with K and not in the queue", Entry::is_lost),
            ("in the queue twice", Entry::is_duplicated),
            ("refused and in the queue", Entry::is_kept_though_refused),
            ("answered with K though it is no message", |entry| {
                matches!(entry.outcome, Some(Outcome::Queued(_))) && !entry.is_good
            }),
            ("left alone", |entry| matches!(entry.outcome, Some(Outcome::Late | Outcome::NotConnected))),
        ];
        let entries = self.entries.lock().unwrap();
        let mut faults = self.faults.lock().unwrap().clone();
        for (id, entry) in entries.iter() {
            let own = KINDS.iter().filter(|(_, is_fault)| is_fault(entry));
            faults.extend(own.map(|(what, _)| format!("{id} is {what}: {entry:?}")));
        }
        faults
    }
}

impl Entry {
    fn is_lost(&self) -> bool {
        matches!(&self.outcome, Some(Outcome::Queued(id)) if !self.found.contains(id))
    }

    fn is_duplicated(&self) -> bool {
        self.found.len() > 1
    }

    /// Its client sends it again: that is what a client without a reply has to do.
    fn is_unanswered(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Silence | Outcome::Left)) && !self.found.is_empty()
    }

    fn is_kept_though_refused(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Temporary(_) | Outcome::Permanent(_))) && !self.found.is_empty()
    }
}

/// What the processes take.
#[derive(Debug, Clone)]
pub(crate) struct Footprint {
    pub(crate) service_pids: Vec<Pid>,
    service: (u64, usize),
    master: (u64, usize),
}

impl Footprint {
    /// Resident memory in KiB, and descriptors.
    pub(crate) fn of(server: &Instance) -> Self {
        let service_pids = server.services();
        let service = service_pids
            .iter()
            .map(|pid| measure(*pid))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Self { service, service_pids, master: measure(server.pid()) }
    }

    /// Memory moves a little, and descriptors by the sessions of the moment; what grows grows more than that.
    pub(crate) fn assert_no_more_than(&self, before: &Self) {
        let memory_allowed_kib = before.service.0 + before.service.0 / 4 + 8 * 1024;
        assert!(self.service.0 <= memory_allowed_kib, "the service process grows: {before}, then {self}");
        assert!(
            self.service.1 <= before.service.1 + 4 * super::CLIENTS,
            "descriptors leak: {before}, then {self}"
        );
    }

    /// The master lives through all troubles, and none of them may leave anything behind.
    pub(crate) fn assert_same_master(&self, start: &Self) {
        const MORE_MEMORY_KIB: u64 = 4 * 1024;
        const MORE_DESCRIPTORS: usize = 4;
        assert!(self.master.0 <= start.master.0 + MORE_MEMORY_KIB, "the master grows: {start}, then {self}");
        let more = self.master.1.saturating_sub(start.master.1);
        assert!(more <= MORE_DESCRIPTORS, "descriptors of the master leak: {start}, then {self}");
    }

    /// Without clients there is nothing but what a process has at its start.
    pub(crate) fn assert_idle(&self, busy: &Self) {
        const DESCRIPTORS_MAX: usize = 40;
        assert!(
            self.service.1 <= DESCRIPTORS_MAX.min(busy.service.1),
            "descriptors leak: {busy}, then {self}"
        );
    }
}

fn measure(process: Pid) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory_kib = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    (memory_kib.unwrap_or_default(), descriptors)
}

impl fmt::Display for Footprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((service_kib, service_files), (master_kib, master_files)) = (self.service, self.master);
        write!(
            out,
            "service {service_kib} KiB, {service_files} descriptors; master {master_kib} KiB, {master_files} descriptors"
        )
    }
}

/// The test of the test.
pub(crate) fn notices_what_is_wrong() {
    let complains = |outcome: Outcome, is_good: bool, found: &[&str]| {
        let account = Account::default();
        account.begin("good", 1, 0);
        account.end("good", Outcome::Queued("A".to_owned()), true);
        account.begin("other", 1, 0);
        account.end("other", outcome, is_good);
        let mut entries = account.entries.lock().unwrap();
        entries.get_mut("good").unwrap().found.push("A".to_owned());
        entries.get_mut("other").unwrap().found.extend(found.iter().map(|id| (*id).to_owned()));
        drop(entries);
        !account.faults().is_empty()
    };
    let queued = || Outcome::Queued("B".to_owned());
    assert!(!complains(queued(), true, &["B"]));
    assert!(!complains(Outcome::Silence, true, &["B"]), "nobody knows, and the client sends it again");
    assert!(!complains(Outcome::Temporary("Z".to_owned()), true, &[]));
    assert!(complains(queued(), true, &[]), "lost");
    assert!(complains(queued(), true, &["C"]), "lost, and another invented");
    assert!(complains(queued(), true, &["B", "C"]), "duplicated");
    assert!(complains(queued(), false, &["B"]), "no message, and K");
    assert!(complains(Outcome::Temporary("Z".to_owned()), true, &["B"]), "Z, and kept");
    assert!(complains(Outcome::Late, true, &[]), "left alone");
}
