//! Faults that the simulator plants, to show that it would find them. In no build but its own is any of them there: the
//! question is a constant elsewhere, and the compiler takes both away.

/// A fault in the promise that nothing accepted is lost, and nothing delivered comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Planted {
    /// A batch is written and not synced.
    SkipJournalSync = 1,
    /// Clients are told before their batch is written.
    AnswerBeforeBatch,
    /// A checkpoint retires without having synced.
    RetireWithoutSync,
    /// A checkpoint retires also what came while it synced.
    RetireTooMuch,
    /// The journals of processes that are gone are left alone.
    SettleNoJournal,
    /// An equal boot ID counts as proof that the mount lasts.
    TrustBootId,
    /// Nothing counts as proof of it.
    TrustNothing,
    /// Settlement marks what it has not synced.
    SettleWithoutSync,
    /// Settlement marks a step before it does it.
    MarkBeforeStep,
    /// A journal that could not be settled goes all the same.
    RemoveUnsettled,
    /// What a crash left of a message counts as the message.
    RemnantIsWhole,
    /// A queue file that no journal answers for is not synced.
    SkipFileSync,
    /// The name of a new journal is not synced.
    SkipNameSync,
    /// A journal is not locked by the process that writes it.
    SkipJournalLock,
    /// A stop removes the journal without a last checkpoint.
    CloseWithoutCheckpoint,
    /// A journal that met an error is removed.
    RemoveGivenUp,
    /// A message that waited for a failed journal is accepted without its own sync.
    ProofWithoutSync,
    /// A failed sync of a queue file counts as one that succeeded.
    IgnoreSyncError,
    /// A file whose sync failed is synced again without being written again.
    SyncAgain,
    /// The ring begins anew over batches that are still needed.
    OverwriteRing,
    /// Settlement looks for messages in `incoming` alone.
    LookInIncomingOnly,
    /// A failed checkpoint goes on as if it had synced.
    IgnoreCheckpointError,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::SkipJournalSync,
        Self::AnswerBeforeBatch,
        Self::RetireWithoutSync,
        Self::RetireTooMuch,
        Self::SettleNoJournal,
        Self::TrustBootId,
        Self::TrustNothing,
        Self::SettleWithoutSync,
        Self::MarkBeforeStep,
        Self::RemoveUnsettled,
        Self::RemnantIsWhole,
        Self::SkipFileSync,
        Self::SkipNameSync,
        Self::SkipJournalLock,
        Self::CloseWithoutCheckpoint,
        Self::RemoveGivenUp,
        Self::ProofWithoutSync,
        Self::IgnoreSyncError,
        Self::SyncAgain,
        Self::OverwriteRing,
        Self::LookInIncomingOnly,
        Self::IgnoreCheckpointError,
    ];
}

#[cfg(all(shuttle, feature = "simulated"))]
static NOW: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a fault from here on, or takes it out. It does nothing but under `--cfg shuttle`.
#[cfg(feature = "simulated")]
pub fn plant(planted: Option<Planted>) {
    let number = planted.map_or(0, |planted| planted as u8);
    #[cfg(shuttle)]
    NOW.store(number, std::sync::atomic::Ordering::SeqCst);
    #[cfg(not(shuttle))]
    let _ = number;
}

#[cfg(all(shuttle, feature = "simulated"))]
pub(crate) fn is_planted(planted: Planted) -> bool {
    NOW.load(std::sync::atomic::Ordering::SeqCst) == planted as u8
}

#[cfg(not(all(shuttle, feature = "simulated")))]
pub(crate) const fn is_planted(_: Planted) -> bool {
    false
}
