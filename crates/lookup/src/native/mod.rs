//! The two regular expression engines that are C libraries. Everything `unsafe` of this crate is here.

mod pcre;
mod posix;

use std::cell::{Cell, RefCell};

use crate::budget::{Halt, Pace};

pub use pcre::pcre2_version;
pub(crate) use pcre::{Pcre, PcreFlags};
pub(crate) use posix::{Posix, PosixFlags};

/// Where a group matched: offsets of its first byte and behind its last. `None` if it took no part.
pub(crate) type Group = Option<(usize, usize)>;

/// Looks at the clock from inside an engine, which knows nothing of a pace and of errors.
struct Ticker<'p, 'b> {
    pace: RefCell<&'p mut Pace<'b>>,
    halt: RefCell<Option<Halt>>,
    /// How many calls are left until the next look.
    left: Cell<u32>,
    interval: u32,
}

impl<'p, 'b> Ticker<'p, 'b> {
    /// Looks at the clock with every so many calls.
    fn new(pace: &'p mut Pace<'b>, interval: u32) -> Self {
        Self { pace: RefCell::new(pace), halt: RefCell::new(None), left: Cell::new(interval), interval }
    }

    /// To be called by the engine as often as it can.
    fn goes_on(&self) -> bool {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left > 0 {
            return true;
        }
        self.left.set(self.interval);
        let halt = self.pace.try_borrow_mut().map_or(None, |mut pace| pace.tick().err());
        let goes_on = halt.is_none();
        if !goes_on {
            self.halt.replace(halt);
        }
        goes_on
    }

    /// Why it was told not to go on.
    fn halt(self) -> Option<Halt> {
        self.halt.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_looked_at_with_every_so_many_calls() {
        // Each look says that the time is over.
        let mut pace = Pace::Quick { until: None };
        let ticker = Ticker::new(&mut pace, 3);
        assert_eq!([(); 7].map(|()| ticker.goes_on()), [true, true, false, true, true, false, true]);
        assert_eq!(ticker.halt(), Some(Halt::TooLong));
        let mut pace = Pace::Quick { until: None };
        let ticker = Ticker::new(&mut pace, 3);
        assert!(ticker.goes_on() && ticker.goes_on());
        assert_eq!(ticker.halt(), None);
    }
}
