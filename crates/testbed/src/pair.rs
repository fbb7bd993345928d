//! Postfix and ours side by side under the same main.cf, and what a session leaves behind on each.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::case::{Case, Expect};
use crate::client::{self, End};
use crate::maillog::{Line, Maillog};
use crate::mask::Mask;
use crate::milter::Filter;
use crate::postfix::Version;
use crate::queue::Queue;
use crate::queue_file::QueueFile;
use crate::{drop_in, ours, postfix};

/// Everything that one session left behind on one server, with what no two sessions share already hidden.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Who it was; for messages.
    pub server: &'static str,
    /// The queue ID, where the session got so far.
    pub id: Option<String>,
    /// The payload of the reply, `None` when nothing came.
    pub reply: Option<String>,
    /// How the connection ended.
    pub end: End,
    /// How long the session took.
    pub took: Duration,
    /// The log, `program: text`, programs one after the other.
    pub log: Vec<String>,
    /// What was queued.
    pub files: Vec<QueueFile>,
    /// What the mail filters heard, each line with the number of the filter.
    pub heard: Vec<String>,
    /// Hides what no two sessions share.
    pub mask: Mask,
    /// The case is about a later release: what that adds is compared, too.
    pub is_later: bool,
    /// Postfix's version, of its outcomes.
    pub version: Option<Version>,
}

impl Outcome {
    /// Runs the client of a case against a server.
    pub fn observe(
        server: &'static str,
        address: SocketAddr,
        queue: &Queue,
        log: &mut Maillog,
        case: &Case,
    ) -> Self {
        log.skip();
        let began = SystemTime::now();
        let session = client::run_from(case.from, address, &case.steps);
        let ends = |line: &Line| line.program == "qmqpd" && line.text.starts_with("disconnect from ");
        let mut lines = log.lines_until("the end of the session", ends);
        let reply = (!session.received.is_empty()).then(|| {
            let payload = client::reply(&session.received);
            client::text(
                payload
                    .unwrap_or_else(|| panic!("{server}: no netstring: {}", client::text(&session.received))),
            )
        });
        let queued = reply.as_deref().is_some_and(|reply| reply.starts_with('K'));
        let id = lines.iter().find_map(queue_id);
        if !queued {
            queue.wait_until_empty();
        }
        let files: Vec<QueueFile> = queue
            .take()
            .into_iter()
            .map(|file| file.unwrap_or_else(|fault| panic!("{server}: {fault}")))
            .collect();
        let mask = Mask::new(id.as_deref(), session.port, began);
        let is_later = case.names_a_release();
        lines.retain(is_compared);
        // Postfix's cleanup(8) hears of a client that went away, perhaps the one before, when it does.
        let is_removal = |line: &Line| line.text.contains(": removed (");
        let is_of_this = |line: &Line| id.as_ref().is_some_and(|id| line.text.starts_with(id.as_str()));
        lines.retain(|line| !is_removal(line) || is_later && is_of_this(line));
        if matches!(server, POSTFIX | DROP_IN) {
            // When Postfix starts a process of its cleanup, which says this then, is its own affair: mostly for the first
            // client of all, now and then for a later one.
            lines.retain(|line| line.program != "cleanup" || !line.text.starts_with("error: "));
        }
        lines.sort_by(|a, b| b.program.cmp(&a.program));
        let log = lines.iter().map(|line| format!("{}: {}", line.program, mask.line(&line.text))).collect();
        let reply = reply.map(|reply| mask.line(&reply));
        Self {
            server,
            id,
            reply,
            end: session.end,
            took: session.took,
            log,
            files,
            heard: Vec::new(),
            mask,
            is_later,
            version: None,
        }
    }

    /// The reply, or an empty text.
    pub fn said(&self) -> &str {
        self.reply.as_deref().unwrap_or("")
    }

    /// Fails unless the session ended as expected.
    pub fn check(&self, expect: &Expect) {
        match expect {
            Expect::Queued => self.assert_queued(),
            Expect::Same => {}
            Expect::Each(check) => check(self),
            Expect::Reply(text) => self.assert_refused(text),
            Expect::Silence => {
                assert_eq!(self.reply, None, "{}: a reply where none was expected", self.server);
                assert!(self.files.is_empty(), "{}: something was queued", self.server);
            }
        }
    }

    /// Fails unless one message was queued and the client was told.
    pub fn assert_queued(&self) {
        assert_eq!(self.said(), "KOk: queued as QUEUE-ID", "{}: {:#?}", self.server, self.log);
        assert_eq!(self.files.len(), 1, "{}: files in the queue", self.server);
    }

    /// Fails unless the reply was this text and nothing was queued.
    pub fn assert_refused(&self, text: &str) {
        assert_eq!(self.said(), text, "{}: {:#?}", self.server, self.log);
        assert!(self.files.is_empty(), "{}: something was queued", self.server);
    }

    /// Fails unless some log line contains this.
    pub fn assert_logged(&self, part: &str) {
        assert!(
            self.log.iter().any(|line| line.contains(part)),
            "{}: no {part:?} in {:#?}",
            self.server,
            self.log
        );
    }

    /// Fails if some log line contains this.
    pub fn assert_not_logged(&self, part: &str) {
        assert!(
            !self.log.iter().any(|line| line.contains(part)),
            "{}: {part:?} in {:#?}",
            self.server,
            self.log
        );
    }

    /// The queued message as it would be delivered, without what no two sessions share.
    pub fn message(&self) -> String {
        let file = self.files.first().unwrap_or_else(|| panic!("{}: nothing was queued", self.server));
        client::text(&self.mask.bytes(&file.message())).replace("\\n", "\n")
    }

    /// As it would be without a queue ID: ours asks cleanup(8) for one when the client has sent the whole message
    /// (docs/postfix-differences.md, "No queue ID before the message header arrives").
    fn without_queue_id(&self) -> Self {
        let log = self.log.iter().filter(|line| !line.contains(": QUEUE-ID: client="));
        let log = log.map(|line| line.replacen(": QUEUE-ID: ", ": NOQUEUE: ", 1)).collect();
        Self { log, ..self.clone() }
    }

    /// Everything as lines, in an order that a reader of a difference can follow.
    fn lines(&self, canonical: bool, with_end: bool) -> Vec<String> {
        let mut lines = vec![format!("reply: {}", self.reply.as_deref().unwrap_or("none"))];
        if with_end {
            lines.push(format!("end: {:?}", self.end));
        }
        lines.extend(self.log.iter().map(|line| format!("log: {line}")));
        lines.extend(self.heard.iter().map(|line| format!("milter {line}")));
        for file in &self.files {
            lines.extend(
                file.lines(&self.mask, canonical, self.is_later)
                    .into_iter()
                    .map(|line| format!("file: {line}")),
            );
        }
        lines
    }
}

/// What Postfix says about itself, as that the queue manager is missing which we left out.
const POSTFIX_ALONE: &[&str] = &[
    "public/qmgr",
    // Two clocks of this machine, read on the two sides of a second.
    "file system clock is ",
    "resetting file time stamps - this hurts performance",
];

/// From this version on, a From header that cleanup(8) itself makes of a non-ASCII sender counts as a non-ASCII header.
const GENERATED_HEADERS_COUNT: Version = (3, 10);

/// What a process of ours says when it starts, which under Postfix's master is when a client is there.
const OURS_ALONE: &str = "confined: ";

/// Lines of other programs are Postfix's own affairs.
fn is_compared(line: &Line) -> bool {
    matches!(line.program.as_str(), "qmqpd" | "cleanup" | "trivial-rewrite")
        && !line.text.starts_with(OURS_ALONE)
        && !POSTFIX_ALONE.iter().any(|part| line.text.contains(part))
}

/// The queue ID of `ID: client=…`.
fn queue_id(line: &Line) -> Option<String> {
    let (id, rest) = line.text.split_once(": ")?;
    (rest.starts_with("client=") && id != "NOQUEUE").then(|| id.to_owned())
}

/// The name of Postfix.
pub const POSTFIX: &str = "Postfix";

/// The name of ours where it hands messages to Postfix's cleanup(8), so that refused messages have no queue ID.
pub const DROP_IN: &str = "ours in Postfix";

/// Both servers, each started at its first use.
#[derive(Debug, Default)]
pub struct Pair {
    main_cf: Vec<String>,
    /// The mail filters that main.cf names.
    filters: Vec<Filter>,
    postfix: Option<postfix::Instance>,
    ours: Option<Ours>,
}

/// Ours in either house.
#[derive(Debug)]
enum Ours {
    Standalone(ours::Instance),
    DropIn(postfix::Instance),
}

impl Pair {
    /// A pair under these settings.
    pub fn new(main_cf: Vec<String>) -> Self {
        Self { main_cf, filters: Vec::new(), postfix: None, ours: None }
    }

    /// Starts the filters that main.cf names, at their first use, and tells them what to do.
    fn prepare_filters(&mut self, case: &Case) {
        for number in self.filters.len() + 1.. {
            let name = format!("@milter{number}@");
            if !self.main_cf.iter().any(|line| line.contains(&name)) {
                break;
            }
            let filter = Filter::start();
            for line in &mut self.main_cf {
                *line = line.replace(&name, &filter.address.to_string());
            }
            self.filters.push(filter);
        }
        for (number, filter) in self.filters.iter().enumerate() {
            filter.set(case.milters.get(number).cloned().unwrap_or_default());
        }
    }

    fn heard(&self, mask: &Mask) -> Vec<String> {
        let numbered = |(number, filter): (usize, &Filter)| {
            let lines = filter.take();
            lines.into_iter().map(move |line| format!("{}: {}", number + 1, mask.line(&line)))
        };
        self.filters.iter().enumerate().flat_map(numbered).collect()
    }

    /// What Postfix does.
    pub fn postfix(&mut self, case: &Case) -> Outcome {
        self.prepare_filters(case);
        let server = self.postfix.get_or_insert_with(|| {
            let setup = postfix::Setup { main_cf: self.main_cf.clone(), ..Default::default() };
            postfix::Instance::start(&setup)
        });
        let version = server.version();
        let outcome = Outcome::observe(POSTFIX, server.address, &server.queue, &mut server.log, case);
        let heard = self.heard(&outcome.mask);
        Outcome { version: Some(version), heard, ..outcome }
    }

    /// What ours does.
    pub fn ours(&mut self, case: &Case) -> Outcome {
        self.prepare_filters(case);
        let server = self.ours.get_or_insert_with(|| {
            let main_cf = self.main_cf.clone();
            match drop_in::asked_for() {
                None => {
                    Ours::Standalone(ours::Instance::start(&ours::Setup { main_cf, ..Default::default() }))
                }
                Some(submit) => {
                    let setup = postfix::Setup { main_cf, ..Default::default() };
                    Ours::DropIn(drop_in::start(submit, &setup))
                }
            }
        });
        let outcome = match server {
            Ours::Standalone(server) => {
                Outcome::observe("ours", server.address, &server.queue, &mut server.log, case)
            }
            Ours::DropIn(server) => {
                let name =
                    if drop_in::asked_for() == Some(drop_in::Submit::Postfix) { DROP_IN } else { "ours" };
                Outcome::observe(name, server.address, &server.queue, &mut server.log, case)
            }
        };
        let heard = self.heard(&outcome.mask);
        Outcome { heard, ..outcome }
    }
}

/// Fails, with what differs, unless both outcomes are the same.
pub fn assert_same(postfix: &Outcome, ours: &Outcome, compare_end: bool) {
    if let Some(difference) = difference(postfix, ours, compare_end) {
        panic!("ours (+) differs from Postfix (-):\n{difference}");
    }
}

/// What differs, as lines with `-` for Postfix and `+` for ours; `None` if nothing does.
pub fn difference(postfix: &Outcome, ours: &Outcome, compare_end: bool) -> Option<String> {
    let without_id;
    let mut postfix = postfix;
    if ours.server == DROP_IN && ours.id.is_none() {
        without_id = postfix.without_queue_id();
        postfix = &without_id;
    }
    let canonical = postfix.files.iter().chain(&ours.files).any(|file| file.streamed);
    let mut theirs = postfix.lines(canonical, compare_end);
    let mut mine = ours.lines(canonical, compare_end);
    if postfix.version >= Some(GENERATED_HEADERS_COUNT)
        && !ours.is_later
        && mine.iter().any(|line| line.starts_with("file: S ") && line.contains("\\x"))
    {
        for line in theirs.iter_mut().chain(&mut mine).filter(|line| line.starts_with("file: C ")) {
            *line = line.replace("options=6", "options=4").replace("options=2", "options=0");
        }
    }
    (theirs != mine).then(|| difference_of(&theirs, &mine))
}

/// The stretch between the first and the last differing line, with a little of what surrounds it.
fn difference_of(old: &[String], new: &[String]) -> String {
    const AROUND: usize = 3;
    let same_front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let same_back = old[same_front..]
        .iter()
        .rev()
        .zip(new[same_front..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut out = String::new();
    let mut push = |mark: char, lines: &[String]| {
        for line in lines {
            let shown: String = line.chars().take(400).collect();
            out.push_str(&format!("{mark} {shown}\n"));
        }
    };
    push(' ', &old[same_front.saturating_sub(AROUND)..same_front]);
    push('-', &old[same_front..old.len() - same_back]);
    push('+', &new[same_front..new.len() - same_back]);
    push(' ', &old[old.len() - same_back..(old.len() - same_back + AROUND).min(old.len())]);
    out
}
