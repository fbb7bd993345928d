//! How a message ends at a back end: with a proof, or with a reason.

use postfix::cleanup_dialogue::{Judgement, status};
use postfix::queue_id::QueueId;

/// Proof that a message is durable, or that an operator's rule has made it vanish. These are the only ways to get one.
#[derive(Debug)]
pub struct Receipt(Proof);

#[derive(Debug)]
enum Proof {
    /// It is on our disk.
    OnDisk(spool::Receipt),
    /// Postfix's cleanup(8) has said that it has it.
    Judged(QueueId),
    /// A rule says that it is to vanish, and that the client hears that it is queued.
    DiscardedByRule(QueueId),
}

impl From<spool::Receipt> for Receipt {
    fn from(receipt: spool::Receipt) -> Self {
        Self(Proof::OnDisk(receipt))
    }
}

impl Receipt {
    /// What cleanup(8) has said of this message.
    ///
    /// # Errors
    /// It does not have it.
    pub(super) fn of_judgement(queue_id: QueueId, judgement: Judgement) -> Result<Self, Refusal> {
        match refusal_of(judgement) {
            None => Ok(Self(Proof::Judged(queue_id))),
            Some(refusal) => Err(refusal.into()),
        }
    }

    /// For a message that cleanup's rules have said is to vanish.
    pub(super) const fn discarded_by_rule(queue_id: QueueId) -> Self {
        Self(Proof::DiscardedByRule(queue_id))
    }

    /// The name of the queue file that is now durable, or of the one that a discarded message had.
    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        match &self.0 {
            Proof::OnDisk(receipt) => receipt.queue_id(),
            Proof::Judged(queue_id) | Proof::DiscardedByRule(queue_id) => queue_id,
        }
    }
}

/// Why a message was not accepted. `Display` is the reply behind `Error: `, in Postfix's words where it has some.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The message itself, as cleanup(8) sees it.
    #[error(transparent)]
    Message(#[from] cleanup::Refusal),
    /// The queue could not take it. What went wrong is in the log, not in the reply.
    #[error("queue file write error")]
    Storage,
    /// It was handed over, and there was no answer: it may be in the queue. The client sends it again, so it can come twice.
    #[error("queue file write error")]
    Unknown,
}

/// The refusal that a judgement of cleanup(8) is; `None` if the message is on disk. Where several things are wrong,
/// qmqpd(8) tells the gravest, in this order (process and status codes of Postfix 3.7).
fn refusal_of(judgement: Judgement) -> Option<cleanup::Refusal> {
    use cleanup::Refusal as R;
    let Judgement { status: bits, reason } = judgement;
    let has = |bit| bits & bit != 0;
    Some(match bits {
        0 => return None,
        _ if has(status::DEFER) => R::Defer { text: reason },
        _ if has(status::BAD) => R::Bad { status: bits },
        _ if has(status::SIZE) => R::Size,
        _ if has(status::HOPS) => R::Hops,
        _ if has(status::CONTENT) => R::Content { text: reason },
        _ if has(status::WRITE) => R::Write,
        _ if has(status::RECIPIENTS) => R::NoRecipients,
        status => R::Bad { status },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client reads behind `Error: `.
    fn told(bits: u32, reason: &str) -> String {
        let judgement = Judgement { status: bits, reason: reason.to_owned() };
        refusal_of(judgement).map_or_else(|| "Ok".to_owned(), |refusal| Refusal::from(refusal).to_string())
    }

    #[test]
    fn the_gravest_problem_is_told() {
        assert_eq!(told(0, ""), "Ok");
        assert_eq!(told(1, ""), "internal error 1");
        assert_eq!(told(2, ""), "queue file write error");
        assert_eq!(told(4, ""), "message too large");
        assert_eq!(told(8, "4.7.1 later"), "4.7.1 later");
        assert_eq!(told(8, "5.7.1 never"), "5.7.1 never");
        assert_eq!(told(16, ""), "too many hops");
        assert_eq!(told(64, ""), "no recipients specified");
        assert_eq!(told(128, ""), "internal error 128");
        assert_eq!(told(512, ""), "internal error 512");
        // Several at once, in the order of qmqpd(8).
        assert_eq!(told(256 | 1 | 4, "4.3.0 wait"), "4.3.0 wait");
        assert_eq!(told(1 | 4, ""), "internal error 5");
        assert_eq!(told(4 | 16 | 8, "5"), "message too large");
        assert_eq!(told(16 | 8, "4"), "too many hops");
        assert_eq!(told(8 | 2, "4"), "4");
        assert_eq!(told(2 | 64, ""), "queue file write error");
    }

    #[test]
    fn only_a_status_of_zero_is_a_proof() {
        let queue_id = QueueId::parse("0123456789A").unwrap();
        let judged = |status| Receipt::of_judgement(queue_id, Judgement { status, reason: String::new() });
        assert_eq!(judged(0).unwrap().queue_id(), &queue_id);
        for bit in 0..32 {
            assert!(judged(1 << bit).is_err(), "status bit {bit}");
        }
    }
}
