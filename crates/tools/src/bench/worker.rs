//! One thread of a source: sessions as a state machine each, driven by epoll(7).

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use qmqp::client::ReplyReader;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::request::Template;
use super::schedule::{Schedule, Turn};
use super::tally::{Live, Outcome, Tally, Timeline, Times};
use super::target::Target;

/// What all threads of a source share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) template: Template,
    pub(super) schedule: Schedule,
    pub(super) timeline: Timeline,
    pub(super) live: Live,
    /// From the connection to the reply.
    pub(super) timeout: Duration,
}

/// A place for one message at a time.
#[derive(Debug)]
struct Session {
    /// `None` while it is free.
    socket: Option<OwnedFd>,
    due: Instant,
    began: Instant,
    /// The part of the request that is this message's own.
    own: Vec<u8>,
    sent_bytes: usize,
    /// What epoll watches the socket for.
    watched: epoll::EventFlags,
    reply: ReplyReader,
}

/// The sessions of one thread.
#[derive(Debug)]
pub(super) struct Worker<'s> {
    shared: &'s Shared,
    epoll: OwnedFd,
    sessions: Vec<Session>,
    free: Vec<usize>,
    /// Sessions whose last connection failed, and when each may try again.
    paused: Vec<(Instant, usize)>,
    tally: Tally,
    input: Vec<u8>,
}

impl<'s> Worker<'s> {
    /// # Errors
    /// The system gives no epoll descriptor.
    pub(super) fn new(shared: &'s Shared, sessions: usize) -> std::io::Result<Self> {
        let now = shared.schedule.start();
        let session = |_| Session {
            socket: None,
            due: now,
            began: now,
            own: Vec::new(),
            sent_bytes: 0,
            watched: epoll::EventFlags::empty(),
            reply: ReplyReader::new(),
        };
        Ok(Self {
            shared,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sessions: (0..sessions).map(session).collect(),
            free: (0..sessions).rev().collect(),
            paused: Vec::new(),
            tally: Tally::new(),
            input: Vec::with_capacity(REPLY_READ_BYTES),
        })
    }

    /// Sends until the schedule is over and the last reply is there, or overdue.
    ///
    /// # Errors
    /// Waiting fails.
    pub(super) fn run(mut self) -> std::io::Result<Tally> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let start = self.shared.schedule.start();
        let mut next_check = start;
        loop {
            let now = Instant::now();
            let mut wake = now.checked_add(CHECK_INTERVAL).unwrap_or(now);
            match self.fill(now) {
                Turn::Over if self.is_idle() => break,
                Turn::Wait(due) => wake = wake.min(due),
                _ => {}
            }
            if now >= next_check {
                self.check(now);
                self.tally.flush(now.saturating_duration_since(start), &self.shared.timeline);
                next_check = now.checked_add(CHECK_INTERVAL).unwrap_or(now);
            }
            let patience = wake.saturating_duration_since(now);
            let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.advance(usize::try_from(event.data.u64()).unwrap_or(usize::MAX));
            }
        }
        self.tally.flush(start.elapsed(), &self.shared.timeline);
        Ok(self.tally)
    }

    fn is_idle(&self) -> bool {
        self.free.len().saturating_add(self.paused.len()) == self.sessions.len()
    }

    /// Gives each free session a message, as far as the schedule has some.
    fn fill(&mut self, now: Instant) -> Turn {
        while let Some(&at) = self.free.last() {
            match self.shared.schedule.turn(now) {
                Turn::Send { number, due } => {
                    self.free.pop();
                    self.begin(at, number, due);
                }
                other => return other,
            }
        }
        if self.shared.schedule.is_over(now) {
            Turn::Over
        } else {
            Turn::Wait(now.checked_add(CHECK_INTERVAL).unwrap_or(now))
        }
    }

    /// Connects and sends as much as goes.
    fn begin(&mut self, at: usize, number: u64, due: Instant) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        session.due = due;
        session.began = Instant::now();
        session.sent_bytes = 0;
        session.watched = epoll::EventFlags::empty();
        session.reply = ReplyReader::new();
        self.shared.template.write_own(number, &mut session.own);
        match self.shared.target.connect() {
            Ok(socket) => {
                session.socket = Some(socket);
                self.advance(at);
            }
            Err(_) => self.end(at, Outcome::NoConnection),
        }
    }

    /// Goes on with a session whose socket is, or may be, ready.
    fn advance(&mut self, at: usize) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        // A session that ended earlier in the same batch of events.
        let Some(socket) = &session.socket else { return };
        let mut outcome = None;
        // The reply is looked for before the first wait only if the server refuses early: not while nothing is watched.
        if !session.watched.is_empty() {
            let is_sent = !session.watched.contains(epoll::EventFlags::OUT);
            outcome = receive(socket, &mut session.reply, &mut self.input).map(|it| it.to_request(is_sent));
        }
        let mut wanted = epoll::EventFlags::IN;
        if outcome.is_none() {
            match send(socket, &session.own, self.shared.template.shared(), &mut session.sent_bytes) {
                Ok(true) => {}
                Ok(false) => wanted |= epoll::EventFlags::OUT,
                // A server that refuses early does not read on; its reply may be there all the same.
                Err(_) => {
                    let late = receive(socket, &mut session.reply, &mut self.input);
                    let failed = if session.sent_bytes == 0 { Outcome::NoConnection } else { Outcome::Lost };
                    outcome = Some(match late.map(|it| it.to_request(false)) {
                        Some(Outcome::Reply(status)) => Outcome::Reply(status),
                        _ => failed,
                    });
                }
            }
        }
        if outcome.is_none() && wanted != session.watched {
            let data = epoll::EventData::new_u64(at as u64);
            let watched = if session.watched.is_empty() {
                epoll::add(&self.epoll, socket, data, wanted)
            } else {
                epoll::modify(&self.epoll, socket, data, wanted)
            };
            session.watched = wanted;
            outcome = watched.is_err().then_some(Outcome::Lost);
        }
        if let Some(outcome) = outcome {
            self.end(at, outcome);
        }
    }

    fn end(&mut self, at: usize, outcome: Outcome) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        // Closing takes it from epoll's list.
        session.socket = None;
        let now = Instant::now();
        let times = Times {
            service: now.saturating_duration_since(session.began),
            since_due: now.saturating_duration_since(session.due),
        };
        self.tally.add(outcome, times, &self.shared.live);
        if matches!(outcome, Outcome::Reply(_)) {
            self.free.push(at);
        } else {
            // A server that is not there must not become a busy loop.
            self.paused.push((now.checked_add(PAUSE_AFTER_FAILURE).unwrap_or(now), at));
        }
    }

    /// What is looked at from time to time.
    fn check(&mut self, now: Instant) {
        for at in 0..self.sessions.len() {
            let is_overdue = self.sessions.get(at).is_some_and(|session| {
                session.socket.is_some()
                    && now.saturating_duration_since(session.began) >= self.shared.timeout
            });
            if is_overdue {
                self.end(at, Outcome::TimedOut);
            }
        }
        let Self { paused, free, .. } = self;
        paused.retain(|(until, at)| {
            if *until <= now {
                free.push(*at);
            }
            *until > now
        });
    }
}

/// Sends what is left of the request, as much as goes without waiting; whether that was all.
fn send(socket: &OwnedFd, own: &[u8], shared: &[u8], sent_bytes: &mut usize) -> Result<bool, Errno> {
    loop {
        let own_left = own.get(*sent_bytes..).unwrap_or_default();
        let shared_sent = sent_bytes.saturating_sub(own.len());
        let shared_left = shared.get(shared_sent..).unwrap_or_default();
        if own_left.is_empty() && shared_left.is_empty() {
            return Ok(true);
        }
        // One call, and for a small message one segment.
        match rustix::io::writev(socket, &[IoSlice::new(own_left), IoSlice::new(shared_left)]) {
            Ok(count) => *sent_bytes = sent_bytes.saturating_add(count),
            Err(Errno::INTR) => {}
            // A connection that is still being made.
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Reads what the server has said; `None` while the reply is incomplete.
fn receive(socket: &OwnedFd, reply: &mut ReplyReader, input: &mut Vec<u8>) -> Option<Outcome> {
    loop {
        input.clear();
        let received = rustix::net::recv(socket, spare_capacity(input), RecvFlags::DONTWAIT);
        match received {
            Ok((0, _)) => return Some(Outcome::Lost),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN | Errno::NOTCONN) => return None,
            Err(Errno::CONNREFUSED) => return Some(Outcome::NoConnection),
            Err(_) => return Some(Outcome::Lost),
        }
        let mut bytes = input.as_slice();
        match reply.next(&mut bytes) {
            Ok(Some(reply)) => return Some(Outcome::Reply(reply.status)),
            Ok(None) => {}
            Err(_) => return Some(Outcome::Garbled),
        }
    }
}

const EVENTS_MAX: usize = 256;
const REPLY_READ_BYTES: usize = 4096;
/// How exact time limits, pauses and the ends of intervals are.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
