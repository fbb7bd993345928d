//! `qmqpctl queue hold|release|delete|requeue|expire|flush`

use super::act_on::{Report, Work};
use super::action::{Action, PICKUP, QUEUE_MANAGER};
use super::directory::Directory;
use super::list::counted;
use super::select::Filters;
use super::walk::Walk;
use super::{QueueChoice, QueueError, complain, now, owner, wake};
use postfix::queue_id::QueueId;
use spool::journal::Instance;
use spool::lease::Queues;
use spool::operator::Operator;
use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// A line of standard input that is longer is not a queue ID.
const LINE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    queue_choice: QueueChoice,
    #[command(flatten)]
    filters: Filters,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask before ALL
    #[arg(long)]
    yes: bool,
    /// Print the summary alone
    #[arg(short, long)]
    quiet: bool,
    /// Name queue IDs; - reads them from standard input, one per line, or lines of `queue list --json`; ALL stands
    /// for all messages
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Acts. `Ok(false)` if nothing was done, or something failed; standard error says what.
pub(super) fn run(action: Action, args: &Args, out: &mut dyn Write) -> Result<bool, QueueError> {
    let is_all = args.ids.iter().any(|id| id == "ALL");
    check_selection(args, is_all)?;
    let layout = args.queue_choice.layout()?;
    let root = args.queue_choice.resolve()?;
    if !args.dry_run {
        owner::become_owner(&root)?;
    }
    let directory = Directory::open(&root)?;
    if is_all && !args.yes && !args.dry_run && !is_confirmed(action, &root)? {
        return Ok(false);
    }
    if action == Action::Flush && is_all && !args.filters.is_set() && !args.dry_run {
        return flush_all(&root, out);
    }
    let through_pickup = action == Action::Requeue && wake::is_there(&root, PICKUP);
    let operator = if args.dry_run {
        None
    } else {
        let mut instance = [0; 16];
        rustix::rand::getrandom(&mut instance, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| QueueError::Output(error.into()))?;
        let disk = Directory::open(&root)?.into_disk();
        Some(Operator::new(Queues::new(disk, layout.hashed, layout.depth), Instance(instance))?)
    };
    let mut work = Work::new(action, action.verb(through_pickup), operator, args.quiet, out);
    let complete = select(action, args, is_all, &directory, &mut work)?;
    let report = work.end()?;
    if report.done > 0 && !args.dry_run {
        say_to_services(action, through_pickup, &root);
    }
    tell(action, args, is_all, &report, &root, out)?;
    Ok(complete && report.errors == 0 && report.done > 0)
}

fn check_selection(args: &Args, is_all: bool) -> Result<(), QueueError> {
    if args.ids.is_empty() && !args.filters.is_set() {
        let words = "name messages: by queue ID, by a filter, by - for standard input, or by ALL";
        return Err(QueueError::Usage(words.to_owned()));
    }
    if is_all && args.ids.len() > 1 {
        return Err(QueueError::Usage("ALL stands alone, or with filters".to_owned()));
    }
    for id in args.ids.iter().filter(|id| *id != "-" && *id != "ALL") {
        id.parse::<QueueId>().map_err(|error| QueueError::Usage(error.to_string()))?;
    }
    Ok(())
}

/// Hands the messages that are meant to `work`.
fn select(
    action: Action,
    args: &Args,
    is_all: bool,
    directory: &Directory,
    work: &mut Work<'_>,
) -> Result<bool, QueueError> {
    let now = now();
    if args.ids.is_empty() || is_all {
        let queues = if args.filters.names_queues() { args.filters.queues() } else { action.queues() };
        let walk = Walk { directory, filters: &args.filters, queues, with_reasons: false, now };
        return walk.run(&mut |message| {
            work.message(&message)?;
            Ok(ControlFlow::Continue(()))
        });
    }
    for id in &args.ids {
        if id == "-" {
            for_each_input(&mut |text| work.id(text, directory, &args.filters, now))?;
        } else {
            work.id(id, directory, &args.filters, now)?;
        }
    }
    Ok(true)
}

/// The queue IDs in standard input.
fn for_each_input(each: &mut dyn FnMut(&str) -> Result<(), QueueError>) -> Result<(), QueueError> {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(QueueError::Input)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.starts_with('{') {
            let value = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
            each(value.get("queue_id").and_then(serde_json::Value::as_str).unwrap_or(line))?;
        } else if let Some(word) = line.split_whitespace().next() {
            // The marks of postqueue -p.
            each(word.trim_end_matches(['*', '!', '#']))?;
        }
    }
}

/// Asks the terminal. Without one the answer is no.
fn is_confirmed(action: Action, root: &Path) -> Result<bool, QueueError> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let words = format!("{} ALL asks on a terminal; without one, give --yes", action.word());
        return Err(QueueError::Usage(words));
    }
    let mut answer = String::new();
    // A standard error that is gone shows no question, and the answer is no.
    let _ = write!(std::io::stderr(), "{} ALL messages in {}? Type yes: ", action.word(), root.display());
    std::io::stdin().lock().read_line(&mut answer).map_err(QueueError::Input)?;
    Ok(answer.trim() == "yes")
}

/// As `postqueue -f`: the queue manager knows best which messages are deferred.
fn flush_all(root: &Path, out: &mut dyn Write) -> Result<bool, QueueError> {
    let requests = [wake::FORGET_DEAD, wake::IGNORE_TIMES, wake::SCAN_DEFERRED];
    match wake::wake(root, QUEUE_MANAGER, &requests) {
        Ok(()) => {
            writeln!(out, "the queue manager of {} tries all deferred messages now", root.display())?;
            Ok(true)
        }
        Err(error) => {
            complain(&format_args!("no queue manager listens on {}/public/qmgr: {error}", root.display()));
            Ok(false)
        }
    }
}

fn say_to_services(action: Action, through_pickup: bool, root: &Path) {
    let Some((service, requests)) = action.wakes(through_pickup) else { return };
    if let Err(error) = wake::wake(root, service, requests) {
        complain(&format_args!(
            "no queue manager listens on {}/public/{service}: {error}; the messages wait for one",
            root.display()
        ));
    }
}

/// The last line.
fn tell(
    action: Action,
    args: &Args,
    is_all: bool,
    report: &Report,
    root: &Path,
    out: &mut dyn Write,
) -> Result<(), QueueError> {
    let mut line = counted(report.done, "message");
    line.push_str(if args.dry_run { " would be " } else { " " });
    line.push_str(action.done());
    for (number, words) in [
        (report.gone, "not in the queue (any more)"),
        (report.unfinished, "still being received"),
        (report.not_for, "in a queue for which this does nothing"),
        (report.replaced, "replaced by another message meanwhile"),
        (report.filtered, "left out by the filters"),
        (report.errors, "failed"),
    ] {
        if number > 0 {
            line.push_str(&format!("; {number} {words}"));
        }
    }
    writeln!(out, "{line}")?;
    out.flush()?;
    if report.done == 0 && (is_all || args.ids.is_empty()) {
        complain(&format_args!("no message in {} matches", root.display()));
    }
    Ok(())
}
