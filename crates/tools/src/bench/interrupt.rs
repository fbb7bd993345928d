//! Control-C ends a run early, with its results; a second one ends it at once.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Listens for SIGINT and SIGTERM. Make it before any thread: they inherit the mask.
#[derive(Debug)]
pub(super) struct Interrupt {
    signals: Option<SignalFd>,
    mask: SigSet,
}

impl Interrupt {
    pub(super) fn listen() -> Self {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGTERM);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = mask.thread_block().and_then(|()| SignalFd::with_flags(&mask, flags)).ok();
        if signals.is_none() {
            // Then a signal ends the program as it would any other.
            let _ = mask.thread_unblock();
        }
        Self { signals, mask }
    }

    /// Whether one has come. From then on the next one ends the program.
    pub(super) fn has_come(&mut self) -> bool {
        let Some(signals) = &self.signals else { return false };
        if !matches!(signals.read_signal(), Ok(Some(_))) {
            return false;
        }
        self.signals = None;
        let _ = self.mask.thread_unblock();
        true
    }
}
