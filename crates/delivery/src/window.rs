//! How many deliveries to one destination may run at a time.
//!
//! The window grows with each delivery that ends well and shrinks with each that the destination is to blame for, until
//! it is out of order and rests (Postfix's SCHEDULER_README; the figures were observed on 3.7). Besides, a server that
//! asks for less is heard: Postfix hammers on.

use std::time::Duration;

/// How much one delivery changes the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Feedback {
    /// This much.
    Constant(f64),
    /// This much divided by the window.
    PerConcurrency(f64),
    /// This much divided by the square root of the window.
    PerSqrtConcurrency(f64),
}

impl Feedback {
    /// Reads a step of at most 1000: `1`, `0.5`, `1/concurrency`, `2/sqrt_concurrency`. Nothing for anything else, a negative or an endless number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, rule) =
            text.split_once('/').map_or((text, None), |(number, rule)| (number, Some(rule.trim())));
        let number: f64 =
            number.trim().parse().ok().filter(|number: &f64| (0.0..=1000.0).contains(number))?;
        match rule {
            None => Some(Self::Constant(number)),
            Some("concurrency") => Some(Self::PerConcurrency(number)),
            Some("sqrt_concurrency") => Some(Self::PerSqrtConcurrency(number)),
            Some(divisor) => {
                let divisor: f64 =
                    divisor.parse().ok().filter(|divisor: &f64| divisor.is_finite() && *divisor > 0.0)?;
                Some(Self::Constant((number / divisor).min(1000.0)))
            }
        }
    }

    fn at(self, window: u32) -> f64 {
        let window = f64::from(window.max(1));
        match self {
            Self::Constant(amount) => amount,
            Self::PerConcurrency(amount) => amount / window,
            Self::PerSqrtConcurrency(amount) => amount / window.sqrt(),
        }
    }
}

/// The parameters of one transport.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// `initial_destination_concurrency`.
    pub initial: u32,
    /// `TRANSPORT_destination_concurrency_limit`; 0: none.
    pub limit: u32,
    /// `TRANSPORT_destination_concurrency_positive_feedback`.
    pub positive: Feedback,
    /// `TRANSPORT_destination_concurrency_negative_feedback`.
    pub negative: Feedback,
    /// `TRANSPORT_destination_concurrency_failed_cohort_limit`; 0: a destination is never out of order.
    pub failed_cohorts_max: u32,
    /// `minimal_backoff_time`: how long a destination rests.
    pub rest: Duration,
    /// `TRANSPORT_destination_rate_delay`: the pause after each delivery; with one, there is one delivery at a time.
    pub rate_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial: 5,
            limit: 20,
            positive: Feedback::Constant(1.0),
            negative: Feedback::Constant(1.0),
            failed_cohorts_max: 1,
            rest: Duration::from_secs(300),
            rate_delay: Duration::ZERO,
        }
    }
}

/// How a delivery ended, as far as the destination goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The destination works, whatever became of the mail.
    Served,
    /// The destination works and asks for less.
    AskedForLess,
    /// The destination is to blame.
    Blamed,
}

/// The state of one destination. Times are since any fixed moment.
#[derive(Debug, Clone)]
pub struct Window {
    settings: Settings,
    window: u32,
    busy: u32,
    success: f64,
    failure: f64,
    failed_cohorts: f64,
    /// Not before then: the destination is out of order, or pauses after a delivery.
    closed_until: Option<Duration>,
    out_of_order: bool,
    /// The window may not grow past this until then: the server asked for less.
    ceiling: Option<(u32, Duration)>,
}

impl Window {
    /// A destination that has not been tried.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut window = Self {
            settings,
            window: 1,
            busy: 0,
            success: 0.0,
            failure: 0.0,
            failed_cohorts: 0.0,
            closed_until: None,
            out_of_order: false,
            ceiling: None,
        };
        window.window = window.initial(0);
        window
    }

    /// May a delivery begin now?
    #[must_use]
    pub fn has_room(&mut self, now: Duration) -> bool {
        self.reopen(now);
        self.closed_until.is_none() && self.busy < self.window
    }

    /// When it opens again, if it is closed.
    #[must_use]
    pub const fn closed_until(&self) -> Option<Duration> {
        self.closed_until
    }

    /// Is the destination out of order? Then what waits for it is deferred, and not kept waiting.
    #[must_use]
    pub fn is_out_of_order(&mut self, now: Duration) -> bool {
        self.reopen(now);
        self.out_of_order
    }

    /// How many deliveries run.
    #[must_use]
    pub const fn busy(&self) -> u32 {
        self.busy
    }

    /// How many may run.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.window
    }

    /// A delivery begins.
    pub const fn begin(&mut self) {
        self.busy = self.busy.saturating_add(1);
    }

    /// A delivery has ended.
    pub fn end(&mut self, end: End, now: Duration) {
        self.busy = self.busy.saturating_sub(1);
        match end {
            End::Served => self.grow(now),
            End::AskedForLess => self.halve(now),
            End::Blamed => self.shrink(now),
        }
        if !self.out_of_order && !self.settings.rate_delay.is_zero() {
            self.closed_until = Some(now.saturating_add(self.settings.rate_delay));
        }
    }

    /// An operator's flush: what was out of order is tried again.
    pub fn revive(&mut self) {
        self.closed_until = None;
        if std::mem::take(&mut self.out_of_order) {
            self.window = self.initial(self.busy);
            self.failed_cohorts = 0.0;
        }
    }

    /// Is there nothing to remember about it? Then its state can go.
    #[must_use]
    pub fn is_idle(&mut self, now: Duration) -> bool {
        self.reopen(now);
        self.busy == 0 && self.closed_until.is_none() && self.ceiling.is_none_or(|(_, until)| until <= now)
    }

    fn reopen(&mut self, now: Duration) {
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
            if std::mem::take(&mut self.out_of_order) {
                self.window = self.initial(self.busy);
                self.failed_cohorts = 0.0;
                self.success = 0.0;
                self.failure = 0.0;
            }
        }
    }

    /// Up to the limit, but not further than the initial window beyond what runs: a window that no mail fills says
    /// nothing.
    fn grow(&mut self, now: Duration) {
        self.failed_cohorts = 0.0;
        let limit = self.limit(now);
        let is_filled = self.window < self.busy.saturating_add(1).saturating_add(self.settings.initial);
        if self.window < limit && is_filled {
            let step = self.settings.positive.at(self.window);
            self.success += step;
            while self.success + step / 2.0 >= 1.0 {
                self.success -= 1.0;
                self.failure = 0.0;
                self.window = self.window.saturating_add(1).min(limit);
            }
        }
    }

    fn shrink(&mut self, now: Duration) {
        self.failed_cohorts += 1.0 / f64::from(self.window.max(1));
        if self.settings.failed_cohorts_max > 0
            && self.failed_cohorts >= f64::from(self.settings.failed_cohorts_max)
        {
            self.out_of_order = true;
            self.closed_until = Some(now.saturating_add(self.settings.rest));
            return;
        }
        let step = self.settings.negative.at(self.window);
        self.failure -= step;
        // Half a step more, as with Postfix: the first failure takes two places at the default.
        while self.failure - step / 2.0 < 0.0 {
            self.failure += 1.0;
            self.success = 0.0;
            self.window = self.window.saturating_sub(1).max(1);
        }
    }

    fn halve(&mut self, now: Duration) {
        self.window = (self.window / 2).max(1);
        self.success = 0.0;
        self.ceiling = Some((self.window, now.saturating_add(self.settings.rest)));
    }

    const fn initial(&self, busy: u32) -> u32 {
        let wanted = if busy > self.settings.initial { busy } else { self.settings.initial };
        let limit = self.configured_limit();
        let window = if wanted < limit { wanted } else { limit };
        if window == 0 { 1 } else { window }
    }

    const fn configured_limit(&self) -> u32 {
        match (self.settings.rate_delay.is_zero(), self.settings.limit) {
            (false, _) => 1,
            (true, 0) => u32::MAX,
            (true, limit) => limit,
        }
    }

    fn limit(&mut self, now: Duration) -> u32 {
        let ceiling = self.ceiling.filter(|&(_, until)| now < until).map_or(u32::MAX, |(ceiling, _)| ceiling);
        if ceiling == u32::MAX {
            self.ceiling = None;
        }
        self.configured_limit().min(ceiling)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Duration = Duration::ZERO;

    fn fill(window: &mut Window, now: Duration) {
        while window.has_room(now) {
            window.begin();
        }
    }

    /// Seen on Postfix 3.7 with 120 waiting messages: 5, 6, 7 … 20, a step for each delivery.
    #[test]
    fn the_window_grows_by_one_for_each_delivery_up_to_the_limit() {
        let mut window = Window::new(Settings::default());
        let mut sizes = vec![window.size()];
        for _ in 0..20 {
            fill(&mut window, T0);
            window.end(End::Served, T0);
            sizes.push(window.size());
        }
        assert_eq!(sizes.get(..16).unwrap(), (5..=20).collect::<Vec<_>>());
        assert_eq!(window.size(), 20);
    }

    #[test]
    fn a_window_that_no_mail_fills_does_not_grow() {
        let mut window = Window::new(Settings { limit: 0, ..Settings::default() });
        for _ in 0..1000 {
            window.begin();
            window.end(End::Served, T0);
        }
        assert_eq!(window.size(), 6);
    }

    /// Seen on Postfix 3.7 with a refused connection: windows 5, 3, 2, then out of order after three counted failures.
    #[test]
    fn a_destination_that_fails_three_times_is_out_of_order() {
        let mut window = Window::new(Settings::default());
        fill(&mut window, T0);
        let sizes: Vec<u32> = (0..2)
            .map(|_| {
                window.end(End::Blamed, T0);
                window.size()
            })
            .collect();
        assert_eq!((sizes, window.is_out_of_order(T0)), (vec![3, 2], false));
        window.end(End::Blamed, T0);
        assert!(window.is_out_of_order(T0));
        window.end(End::Served, T0);
        window.end(End::Served, T0);
        assert!(!window.has_room(Duration::from_secs(299)));
        assert!(window.has_room(Duration::from_secs(300)));
        assert_eq!(window.size(), 5);
    }

    #[test]
    fn a_success_clears_what_failed() {
        let mut window = Window::new(Settings::default());
        for _ in 0..100 {
            fill(&mut window, T0);
            window.end(End::Blamed, T0);
            window.end(End::Served, T0);
            assert!(!window.is_out_of_order(T0));
        }
        let mut never = Window::new(Settings { failed_cohorts_max: 0, ..Settings::default() });
        for _ in 0..100 {
            never.begin();
            never.end(End::Blamed, T0);
        }
        assert_eq!((never.is_out_of_order(T0), never.size()), (false, 1));
    }

    #[test]
    fn a_server_that_asks_for_less_gets_half_and_no_more_for_a_while() {
        let mut window = Window::new(Settings { initial: 16, ..Settings::default() });
        fill(&mut window, T0);
        window.end(End::AskedForLess, T0);
        assert_eq!(window.size(), 8);
        for _ in 0..30 {
            fill(&mut window, T0);
            window.end(End::Served, T0);
        }
        assert_eq!(window.size(), 8);
        let later = Duration::from_secs(300);
        for _ in 0..30 {
            fill(&mut window, later);
            window.end(End::Served, later);
        }
        assert_eq!(window.size(), 20);
        for _ in 0..30 {
            window.begin();
            window.end(End::AskedForLess, later);
        }
        assert_eq!(window.size(), 1);
        assert!(window.has_room(later) || window.busy() > 0);
    }

    #[test]
    fn a_rate_delay_is_one_delivery_at_a_time_with_a_pause() {
        let mut window = Window::new(Settings { rate_delay: Duration::from_secs(1), ..Settings::default() });
        assert!(window.has_room(T0));
        window.begin();
        assert!(!window.has_room(T0));
        window.end(End::Served, T0);
        assert!(!window.has_room(Duration::from_millis(999)));
        assert!(window.has_room(Duration::from_secs(1)));
    }

    #[test]
    fn a_flush_revives() {
        let mut window = Window::new(Settings { initial: 1, ..Settings::default() });
        window.begin();
        window.end(End::Blamed, T0);
        assert!(window.is_out_of_order(T0) && !window.is_idle(T0));
        window.revive();
        assert!(window.has_room(T0) && window.is_idle(T0));
    }

    #[test]
    fn feedback_is_read_as_postfix_reads_it() {
        assert_eq!(Feedback::parse("1"), Some(Feedback::Constant(1.0)));
        assert_eq!(Feedback::parse("1/8"), Some(Feedback::Constant(0.125)));
        assert_eq!(Feedback::parse("1/concurrency"), Some(Feedback::PerConcurrency(1.0)));
        assert_eq!(Feedback::parse("2 / sqrt_concurrency"), Some(Feedback::PerSqrtConcurrency(2.0)));
        for wrong in ["", "x", "-1", "1/0", "1/x", "inf", "NaN"] {
            assert_eq!(Feedback::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// Whatever happens: never more than the limit, never a window of nothing, and room again in the end.
        #[test]
        fn a_window_never_locks_up(
            ends in proptest::collection::vec((0u8..4, 0u64..400), 0..200),
            initial in 1u32..30, limit in 0u32..30,
        ) {
            let mut window = Window::new(Settings { initial, limit, ..Settings::default() });
            let mut now = T0;
            for (what, secs) in ends {
                now += Duration::from_secs(secs);
                match what {
                    0 => fill(&mut window, now),
                    1 if window.busy() > 0 => window.end(End::Served, now),
                    2 if window.busy() > 0 => window.end(End::Blamed, now),
                    3 if window.busy() > 0 => window.end(End::AskedForLess, now),
                    _ => {}
                }
                prop_assert!(window.size() >= 1 && (limit == 0 || window.size() <= limit.max(1)));
                if limit == 0 { prop_assert!(window.busy() < 1000); }
            }
            while window.busy() > 0 {
                window.end(End::Served, now);
            }
            prop_assert!(window.has_room(now + Duration::from_secs(300)));
        }
    }
}
