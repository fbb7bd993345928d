//! Under Postfix's master, with mail through its cleanup(8): the calls of the session threads around the socket of that.

use nix::unistd::Pid;

use super::record;
use testbed::client::{self, Step, request};
use testbed::drop_in::{self, Submit};
use testbed::peers::Peer;
use testbed::postfix::{Instance, Setup};
use testbed::strace::{Fault, Injection, descriptors, threads};
use testbed::trials::Trials;
use testbed::wait;

/// The call, its errors, and what its failure can mean for a message whose client hears `Z`.
type Case = (&'static str, &'static [&'static str], Hears);

/// What becomes of a message when the call fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// Another try goes well.
    Queued,
    /// Nothing of it may stay.
    AllOrNothing,
    /// What cleanup(8) says at the end is not heard: it may have the message, and the client sends it again.
    MaybeTwice,
}

pub(crate) fn add(trials: &mut Trials) {
    use Hears::{AllOrNothing, MaybeTwice, Queued};
    let cases: &[Case] = &[
        ("socket", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"], AllOrNothing),
        // A full backlog, which says EAGAIN here, is waited for.
        ("connect", &["EAGAIN", "EINTR"], Queued),
        ("connect", &["ECONNREFUSED", "ENOENT", "EACCES"], AllOrNothing),
        ("epoll_ctl", &["ENOMEM", "ENOSPC"], AllOrNothing),
        ("epoll_wait", &["EINTR"], Queued),
        ("sendto", &["EPIPE", "ECONNRESET", "ENOBUFS"], AllOrNothing),
        ("sendto", &["EINTR"], Queued),
        // As from a cleanup(8) that reads no more: that is waited for, as long as ipc_timeout.
        ("sendto", &["EAGAIN"], AllOrNothing),
        ("recvfrom", &["ECONNRESET", "EIO", "ENOMEM"], MaybeTwice),
        ("recvfrom", &["EAGAIN"], MaybeTwice),
        ("recvfrom", &["EINTR"], Queued),
    ];
    for (call, errors, hears) in cases {
        let name = format!("drop_in::{call}::{}", errors.join("_"));
        trials.add(&name, &[Peer::Strace, Peer::Postfix], move || try_call(call, errors, *hears));
    }
}

/// Calls of one thread that are tried. A session makes fewer of each.
const WHENS: [&str; 5] = ["1", "2", "3", "4", "5"];

fn start(errors: &[&str]) -> Instance {
    // Postfix's own programs wait no longer than that for one another either: on a busy machine it must not be less.
    let is_waited_for = errors.contains(&"EAGAIN");
    let ipc_timeout = if is_waited_for { "ipc_timeout = 6s" } else { "ipc_timeout = 3600s" };
    let main_cf = [ipc_timeout, "qmqpd_timeout = 3s"].map(str::to_owned).to_vec();
    drop_in::start(Submit::Postfix, &Setup { main_cf, ..Setup::default() })
}

/// The process that serves, which the master does not know.
fn worker(server: &Instance) -> Pid {
    wait::until("there is one worker", || {
        let known: Vec<Pid> = server.children().into_iter().map(|(pid, _)| pid).collect();
        let is_ours = |pid: &Pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "qmqpd\n")
        };
        let workers: Vec<Pid> =
            server.processes().into_iter().filter(|pid| !known.contains(pid) && is_ours(pid)).collect();
        match *workers {
            [one] => Some(one),
            _ => None,
        }
    })
}

/// The first letter of the reply; nothing where there is none.
fn send(server: &Instance) -> Option<char> {
    let steps =
        [Step::Send(request(b"Subject: faults\n\nhello\n", b"a@sender.example", &[b"b@rcpt.example"]))];
    let session = client::run(server.address, &steps);
    client::reply(&session.received)?.first().map(|letter| char::from(*letter))
}

fn try_call(call: &'static str, errors: &'static [&'static str], hears: Hears) {
    let mut server = start(errors);
    let process = worker(&server);
    assert_eq!(send(&server), Some('K'));
    server.queue.take();
    let mut tried = 0;
    for error in errors {
        // While these fail there is no cleanup(8) for anybody, which is tried three times.
        let always = (hears == Hears::AllOrNothing && matches!(call, "socket" | "connect")).then_some("1+");
        for when in WHENS.into_iter().chain(always) {
            let fault = Fault { call, error, when };
            tried += usize::from(try_fault(&mut server, process, &fault, hears));
        }
    }
    assert!(tried > 0, "{call} is never called: is this list still right?");
}

/// Whether the call was made at all.
fn try_fault(server: &mut Instance, process: Pid, fault: &Fault, hears: Hears) -> bool {
    let open_before = descriptors(process);
    server.log.skip();
    // The log writer has a socket of its own, and makes the same calls.
    let injection = Injection::attach(&threads(process, |name| !name.starts_with("log")), fault);
    let heard = send(server);
    let injected = injection.injected();
    // A thread waits for events all the time. If strace lets go of it just in the call that is to fail, that call fails as if
    // the system did not know it; so all such calls must have been made before.
    let more = if fault.call == "epoll_wait" { 4 } else { 0 };
    for _ in 0..more {
        assert_eq!(send(server), Some('K'), "{fault}");
    }
    drop(injection);
    // Whatever cleanup(8) does with a message that broke off, it has done it when the next one is through.
    assert_eq!(send(server), Some('K'), "{fault}: the service does not return");
    assert_eq!(worker(server), process, "{fault}: the process has ended");
    wait::within(wait::PATIENCE, || (descriptors(process) <= open_before).then_some(()))
        .unwrap_or_else(|| panic!("{fault}: {open_before} open before, {} behind", descriptors(process)));
    // The one that broke off is removed by a process of its own.
    wait::until("no half message is left", || {
        (server.queue.incoming().len() == server.queue.committed().len()).then_some(())
    });
    let stored = server.queue.take();
    assert!(stored.iter().all(Result::is_ok), "{fault}: {stored:?}");
    if injected == 0 {
        return false;
    }
    let stored_first = stored.len() - 1 - more;
    let outcome = match (heard, stored_first) {
        (Some('K'), 1) => "K, whole; the next message K",
        (Some('Z'), 0) => {
            let says_why = || {
                let log = server.log.all();
                (log.contains("warning: ") || log.contains("error: ")).then_some(())
            };
            wait::until(&format!("{fault}: the log says why"), says_why);
            "Z, nothing left behind; the next message K"
        }
        (Some('Z'), 1) if hears == Hears::MaybeTwice => {
            "Z, though cleanup(8) has it: the client repeats it; the next message K"
        }
        (None, 0 | 1) => "this connection is lost; the next message K",
        other => panic!("{fault}: heard and stored {other:?}"),
    };
    assert!(hears != Hears::Queued || heard == Some('K'), "{fault}: {heard:?}");
    record::note("cleanup(8) of Postfix", fault, injected, outcome);
    true
}
