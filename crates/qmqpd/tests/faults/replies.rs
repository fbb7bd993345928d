//! The reply: when it is due, for how long, and until when it is waited for.

use nix::sys::signal::Signal;

use testbed::client::{self, End, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::strace::{Fault, Injection, is_in_call, threads};
use testbed::trials::Trials;
use testbed::wait;

pub(crate) fn add(trials: &mut Trials) {
    trials.add("replies::a_stop_waits_for_those_that_are_due", &[Peer::Strace], due);
    trials.add("replies::come_after_the_deadline_of_the_session", &[Peer::Strace], late);
    trials.add("replies::are_no_long_wait_for_who_is_turned_away", &[Peer::Strace], turned_away);
}

/// With one thread for all sessions: each thread counts its own calls, and a session may wander.
fn start(lines: &[&str]) -> Instance {
    let main_cf = ["qmqpd_commit = file"].iter().chain(lines).map(|line| (*line).to_owned()).collect();
    Instance::start_on_one_processor(&Setup { main_cf, ..Setup::default() })
}

fn attach(server: &Instance, faults: &[Fault]) -> Injection {
    let process = wait::until("there is a service process", || server.services().first().copied());
    Injection::attach_all(&threads(process, |_| true), faults)
}

/// The first letter of the reply.
fn send(server: &Instance) -> Option<char> {
    let bytes = request(b"Subject: replies\n\nhello\n", b"a@sender.example", &[b"b@rcpt.example"]);
    let session = client::run(server.address, &[Step::Send(bytes)]);
    client::reply(&session.received).map(|reply| char::from(reply[0]))
}

/// Once the disk has been asked to keep a message, it may be there: its client must hear so, or it sends it again.
fn due() {
    let mut server = start(&[]);
    let process = server.services()[0];
    let slow = Fault { call: "fsync", error: "delay_enter=1500ms", when: "1" };
    let injection = attach(&server, &[slow]);
    let heard = std::thread::scope(|scope| {
        let client = scope.spawn(|| send(&server));
        wait::until("the message is on its way to the disk", || {
            is_in_call(process, libc::SYS_fsync).then_some(())
        });
        server.signal(Signal::SIGTERM);
        client.join().unwrap()
    });
    assert_eq!(heard, Some('K'));
    drop(injection);
    assert!(server.wait().success());
    assert_eq!(server.queue.take().len(), 1);
}

/// The deadline is for the message of the client. How long the disk takes then, and how soon the reply can be sent, is not its
/// affair: a client that hears nothing sends its message again.
fn late() {
    // On a busy machine a session takes more than a second until its message has come.
    let server = start(&["qmqpd_session_deadline = 5s"]);
    let slow = Fault { call: "fsync", error: "delay_enter=7s", when: "1" };
    let full = Fault { call: "sendto", error: "EAGAIN", when: "1" };
    let injection = attach(&server, &[slow, full]);
    assert_eq!(send(&server), Some('K'));
    // Each thread has a first call, and the question for the client's name is one, too.
    assert!(injection.injected() > 0, "the reply could be sent at once");
    drop(injection);
    assert_eq!(server.queue.take().len(), 1);
}

/// A client for whom there is no place gets ten seconds for reading so, however long others may take.
fn turned_away() {
    let server = start(&["qmqpd_connection_limit = 1", "qmqpd_timeout = 300s"]);
    // The connection that waited for the server may still be counted.
    let (_held, _) = wait::until("a client is refused beside another", || {
        let held = client::connect(server.address);
        let said = send(&server);
        (said == Some('Z')).then_some((held, said))
    });
    let full = Fault { call: "sendto", error: "EAGAIN", when: "1+" };
    let injection = attach(&server, &[full]);
    // This waits for twenty seconds and no longer.
    let seen = client::read_to_end(&mut client::connect(server.address));
    assert_eq!(seen, (Vec::new(), End::Closed));
    assert!(injection.injected() > 0, "no reply was tried");
    let log = wait::until("the log says so", || {
        Some(server.log.all()).filter(|log| log.contains("read/write timeout while initializing"))
    });
    assert!(log.contains("too many connections"), "{log}");
}
