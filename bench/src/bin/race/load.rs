//! What the servers are given to do.

use std::time::Duration;

use crate::contestant::Kind;

/// A load: the arguments of `qmqp-bench source`, and what is of interest about it.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// In the table of results.
    pub(crate) title: &'static str,
    pub(crate) sessions: u32,
    pub(crate) content_bytes: u64,
    pub(crate) recipients: u64,
    pub(crate) amount: Amount,
    pub(crate) idle: u32,
    who: Who,
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    Time(Duration),
    Messages(u64),
}

/// Whom a load is for.
#[derive(Debug, Clone, Copy)]
enum Who {
    Everybody,
    /// Postfix would need a process for each connection, and the bare program a thread.
    Ours,
}

impl Load {
    pub(crate) fn is_for(&self, kind: Kind) -> bool {
        match self.who {
            Who::Everybody => !kind.is_drop_in() || self.is_small(),
            Who::Ours => kind.is_ours() && !kind.is_drop_in(),
        }
    }

    /// Whether it is one of single messages alone; a drop-in takes no other, since the service is the same one.
    const fn is_small(&self) -> bool {
        self.recipients == 1 && self.content_bytes == 4096
    }
}

/// All loads, in the order in which they run.
pub(crate) fn all(time: Duration) -> Vec<Load> {
    let small = Load {
        name: "small-1",
        title: "4 KiB to one recipient, 1 session",
        sessions: 1,
        content_bytes: 4096,
        recipients: 1,
        amount: Amount::Time(time),
        idle: 0,
        who: Who::Everybody,
    };
    let list = Load {
        name: "list-30000",
        title: "10 KB to 30,000 recipients",
        content_bytes: 10_000,
        recipients: 30_000,
        amount: Amount::Messages(2),
        ..small.clone()
    };
    vec![
        small.clone(),
        Load {
            name: "small-20",
            title: "4 KiB to one recipient, 20 sessions",
            sessions: 20,
            ..small.clone()
        },
        Load {
            name: "small-100",
            title: "4 KiB to one recipient, 100 sessions",
            sessions: 100,
            ..small.clone()
        },
        Load {
            name: "idle",
            title: "the same, 20 sessions beside 5,000 idle connections",
            sessions: 20,
            idle: 5000,
            who: Who::Ours,
            ..small
        },
        list.clone(),
        Load {
            name: "list-100000",
            title: "10 KB to 100,000 recipients",
            recipients: 100_000,
            amount: Amount::Messages(1),
            ..list.clone()
        },
        Load {
            name: "list-1000000",
            title: "10 KB to 1,000,000 recipients",
            recipients: 1_000_000,
            amount: Amount::Messages(1),
            who: Who::Ours,
            ..list.clone()
        },
        Load {
            name: "large",
            title: "9.5 MB to one recipient, 20 sessions",
            sessions: 20,
            content_bytes: 9_500_000,
            recipients: 1,
            amount: Amount::Messages(40),
            ..list
        },
    ]
}
