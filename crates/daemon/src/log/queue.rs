//! Lines on their way to the thread that writes them.
//!
//! A line that finds the writer idle wakes it; what comes while it writes, and within [`PAUSE`] after that, is
//! written together. So a busy server has some hundred writes a second, whatever its rate, and its sessions wake no
//! thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Line;

/// Lines that wait at most, those being written included; one more is dropped and counted.
const LINES_MAX: usize = 8192;

/// So many lines are written without a pause.
const LINES_AT_ONCE: usize = LINES_MAX / 8;

/// How long after one write the next one waits for company.
const PAUSE: Duration = Duration::from_millis(5);

/// What is to be written next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    /// Lines that found no room since the last batch.
    pub(super) dropped: u64,
}

/// The queue between all threads and the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// The writer has something to do.
    due: Condvar,
    /// A batch is written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: Batch,
    /// Lines of the batch that is being written.
    being_written: usize,
    /// The writer waits for a first line.
    is_idle: bool,
    /// A thread waits until all is written.
    is_urgent: bool,
    /// There will be no more lines.
    is_closed: bool,
}

impl QueueState {
    fn is_empty(&self) -> bool {
        self.waiting.lines.is_empty() && self.waiting.dropped == 0
    }
}

impl Queue {
    /// Adds a line, or counts it as dropped. Never waits for the writer.
    pub(super) fn push(&self, line: Line) {
        let mut state = self.lock();
        if state.waiting.lines.len().saturating_add(state.being_written) < LINES_MAX {
            state.waiting.lines.push(line);
        } else {
            state.waiting.dropped = state.waiting.dropped.saturating_add(1);
        }
        let is_due = std::mem::take(&mut state.is_idle) || state.waiting.lines.len() == LINES_AT_ONCE;
        drop(state);
        if is_due {
            self.due.notify_one();
        }
    }

    /// Waits for the next batch; `None` when there will be none. `written` is the last one, whose room is used again.
    pub(super) fn next(&self, mut written: Batch) -> Option<Batch> {
        written.lines.clear();
        written.dropped = 0;
        let mut state = self.lock();
        state.being_written = 0;
        self.written.notify_all();
        let pause_ends = Instant::now().checked_add(PAUSE);
        while !state.is_urgent && !state.is_closed && state.waiting.lines.len() < LINES_AT_ONCE {
            let left = pause_ends.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            state = self.due.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        while state.is_empty() {
            if state.is_closed {
                return None;
            }
            state.is_urgent = false;
            state.is_idle = true;
            state = self.due.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_idle = false;
        state.being_written = state.waiting.lines.len();
        Some(std::mem::replace(&mut state.waiting, written))
    }

    /// Lets the writer end when it has written what is there.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.due.notify_one();
    }

    /// Returns when all lines so far are written, or after `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now().checked_add(patience);
        let mut state = self.lock();
        while !(state.is_empty() && state.being_written == 0) {
            let left = deadline.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            state.is_urgent = true;
            state.is_idle = false;
            self.due.notify_one();
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No code of ours panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use postfix::notice::Severity;

    use super::super::Program;
    use super::*;

    fn line(text: &str) -> Line {
        Line { seconds: 0, program: Program::Service, severity: Severity::Info, text: text.to_owned() }
    }

    #[test]
    fn what_comes_while_a_batch_is_written_comes_together() {
        let queue = Queue::default();
        queue.push(line("1"));
        let first = queue.next(Batch::default()).unwrap();
        assert_eq!(first.lines.len(), 1);
        queue.push(line("2"));
        queue.push(line("3"));
        let second = queue.next(first).unwrap();
        let texts: Vec<&str> = second.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["2", "3"]);
        queue.push(line("4"));
        queue.close();
        let last = queue.next(second).unwrap();
        assert_eq!(last.lines.len(), 1);
        assert!(queue.next(last).is_none());
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let queue = Queue::default();
        for _ in 0..=LINES_MAX {
            queue.push(line("x"));
        }
        let batch = queue.next(Batch::default()).unwrap();
        assert_eq!((batch.lines.len(), batch.dropped), (LINES_MAX, 1));
        // None of them is written yet.
        queue.push(line("dropped"));
        let batch = queue.next(batch).unwrap();
        assert_eq!((batch.lines.len(), batch.dropped), (0, 1));
    }

    #[test]
    fn a_flush_waits_for_what_is_being_written() {
        let queue = Queue::default();
        queue.flush(Duration::from_secs(60));
        queue.push(line("1"));
        let batch = queue.next(Batch::default()).unwrap();
        let began = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = batch;
                while let Some(next) = queue.next(batch) {
                    batch = next;
                }
            });
            for _ in 0..3 {
                queue.flush(Duration::from_secs(60));
                let state = queue.lock();
                assert!(state.is_empty() && state.being_written == 0);
                drop(state);
                queue.push(line("2"));
            }
            queue.close();
        });
    }
}
