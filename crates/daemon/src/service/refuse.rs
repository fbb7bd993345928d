//! What a service process does when it cannot do its work: it says why in the log, and its clients hear that they should
//! try again later, in the words of the program. (Postfix's process ends, and the clients hear nothing at all.)

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postfix::notice::{Notice, Severity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::AddressFamily;

use super::start::{Inherited, fatal};
use super::{passed, stdin};
use crate::jail::{self, Calls, JailError, JailPlan, Owner, Sandbox};
use crate::log::{Log, Program};
use crate::peer_address::PeerAddress;

/// Logs why, and answers clients until the master closes the status channel, or for a while; then another process tries
/// again. It ends like a good process: a master that took it for a bad start would let the clients wait in the backlog,
/// with the mistake long corrected.
pub(super) fn run(
    log: &Log,
    reasons: &[String],
    sockets: Inherited,
    reply: &[u8],
    lines: fn(PeerAddress) -> Vec<Notice>,
) -> ExitCode {
    for reason in reasons {
        log.write(Program::Service, Severity::Error, reason);
    }
    if let Err(error) = confine() {
        return fatal(log, &error.to_string());
    }
    let until = Instant::now() + REFUSING_TIME;
    let mut clients = 0_u64;
    while let Some(ready) = wait(&sockets, until) {
        for socket in ready {
            let Some(peer) = answer(socket, reply, sockets.passes_connections) else { continue };
            clients = clients.saturating_add(1);
            if clients <= CLIENTS_LOGGED_MAX {
                lines(peer).iter().for_each(|line| log.notice(Program::Service, line));
            }
        }
    }
    if let Some(more @ 1..) = clients.checked_sub(CLIENTS_LOGGED_MAX) {
        let text = format!("{more} more clients have been answered so");
        log.write(Program::Service, Severity::Warning, &text);
    }
    log.flush();
    ExitCode::SUCCESS
}

/// The same for a process whose only client is at standard input and output: it is answered `Z`, and the exit status is that by
/// which programs under tcpserver(1) say "try again later". The program that started it need not wait.
pub(super) fn stdin(log: &Log, reasons: &[String], reply: &[u8]) -> ExitCode {
    for reason in reasons {
        log.write(Program::Service, Severity::Error, reason);
    }
    log.flush();
    // The client may have gone, or there was none.
    let _nobody_reads = stdin::refuse(reply);
    ExitCode::from(TEMPORARY)
}

/// Exit status: try again later.
const TEMPORARY: u8 = 111;

/// Gives up what privileges there are. Whose they should become is part of what is not known here.
fn confine() -> Result<(), JailError> {
    let owner =
        nix::unistd::Uid::effective().is_root().then(|| Owner::find("mail_owner", "nobody")).transpose()?;
    let plan = JailPlan { queue_directory: "/".into(), chroot: false, owner };
    jail::enter(&plan, "server")?;
    let sandbox = Sandbox::closed();
    sandbox.restrict_files()?;
    sandbox.restrict_calls(Calls::Serve).map(drop)
}

/// The listening sockets on which a client waits; `None` when the time is over or the master wants us gone.
fn wait(sockets: &Inherited, until: Instant) -> Option<Vec<&OwnedFd>> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    let listeners = sockets.listeners.iter();
    let mut watched: Vec<PollFd<'_>> =
        listeners.clone().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
    watched.extend(sockets.status.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
    let timeout = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    match poll(&mut watched, Some(&timeout)) {
        Ok(0) => return None,
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(_) => return None,
    }
    let is_ready = |at: usize| watched.get(at).is_some_and(|entry| !entry.revents().is_empty());
    if sockets.status.is_some() && is_ready(sockets.listeners.len()) {
        return None;
    }
    Some(listeners.enumerate().filter(|(at, _)| is_ready(*at)).map(|(_, socket)| socket).collect())
}

/// Answers the next client; the result is who it was, if one was there.
fn answer(listener: &OwnedFd, reply: &[u8], passes_connections: bool) -> Option<PeerAddress> {
    let accepted = rustix::net::acceptfrom_with(listener.as_fd(), rustix::net::SocketFlags::CLOEXEC);
    let (mut socket, address) = accepted.ok()?;
    // Stays open until the client has its answer: who passes a connection on still writes what there is to know of it.
    let mut _passer = None;
    if passes_connections {
        let passer = UnixStream::from(socket);
        let _ = passer.set_read_timeout(Some(CLIENT_TIME_MAX));
        socket = passed::take_descriptor(&passer).ok()?;
        _passer = Some(passer);
    }
    let stream = TcpStream::from(socket);
    let peer = match address {
        _ if passes_connections => stream.peer_addr().map_or(PeerAddress::Gone, PeerAddress::of),
        Some(address) if address.address_family() == AddressFamily::UNIX => PeerAddress::Local,
        address => PeerAddress::of_accepted(address),
    };
    tell(stream, reply);
    Some(peer)
}

/// Says it, and closes so that the client can read it.
pub(super) fn tell(mut stream: TcpStream, reply: &[u8]) {
    // One client at a time, each for a moment: this is for telling, not for serving.
    let _ = stream.set_write_timeout(Some(CLIENT_TIME_MAX));
    let _ = stream.set_read_timeout(Some(CLIENT_TIME_MAX));
    if stream.write_all(reply).is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let until = Instant::now() + CLIENT_TIME_MAX;
    let mut unread = [0; 8192];
    while Instant::now() < until && matches!(stream.read(&mut unread), Ok(1..)) {}
}

/// Clients of one such process that are logged.
const CLIENTS_LOGGED_MAX: u64 = 100;
/// How long a process that cannot work answers clients before it ends, and another try is made.
const REFUSING_TIME: Duration = Duration::from_secs(60);
/// How long one of them may take to read the reply.
const CLIENT_TIME_MAX: Duration = Duration::from_millis(500);
