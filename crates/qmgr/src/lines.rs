//! Log lines of the queue manager, in Postfix's words: programs such as pflogsumm(1) read them. That of a recipient is
//! `delivery_line`.

use postfix::queue_id::QueueId;

use delivery::report::Kind;

use crate::delivery_line::external;

/// An address as log lines and reports show it: quoted where it must be.
#[must_use]
pub fn shown(address: &[u8]) -> String {
    String::from_utf8_lossy(&external(address)).into_owned()
}

/// A message was taken.
#[must_use]
pub fn active(queue_id: &QueueId, sender: &[u8], size_bytes: u64, recipients: u64) -> String {
    format!("{queue_id}: from=<{}>, size={size_bytes}, nrcpt={recipients} (queue active)", shown(sender))
}

/// A message is gone.
#[must_use]
pub fn removed(queue_id: &QueueId) -> String {
    format!("{queue_id}: removed")
}

/// A message is given up, because of its age or by order.
#[must_use]
pub fn expired(queue_id: &QueueId, sender: &[u8], by_order: bool) -> String {
    let force = if by_order { "force-" } else { "" };
    format!("{queue_id}: from=<{}>, status={force}expired, returned to sender", shown(sender))
}

/// Another process works on a message.
#[must_use]
pub fn in_delivery(queue_id: &QueueId) -> String {
    format!("{queue_id}: skipped, still being delivered")
}

/// A report about a message is in the queue.
#[must_use]
pub fn reported(queue_id: &QueueId, kind: Kind, report: &QueueId) -> String {
    let what = match kind {
        Kind::Failure => "non-delivery",
        Kind::Delay => "delay",
        Kind::Success => "delivery status",
    };
    format!("{queue_id}: sender {what} notification: {report}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of Postfix 3.7.
    #[test]
    fn lines_are_those_of_postfix() {
        let queue_id = QueueId::parse("1C835288").unwrap();
        assert_eq!(
            active(&queue_id, b"alice@sender.example", 294, 4),
            "1C835288: from=<alice@sender.example>, size=294, nrcpt=4 (queue active)"
        );
        assert_eq!(
            expired(&queue_id, b"", true),
            "1C835288: from=<>, status=force-expired, returned to sender"
        );
        assert_eq!(removed(&queue_id), "1C835288: removed");
        assert_eq!(in_delivery(&queue_id), "1C835288: skipped, still being delivered");
        let report = QueueId::parse("AB12").unwrap();
        assert_eq!(
            reported(&queue_id, Kind::Failure, &report),
            "1C835288: sender non-delivery notification: AB12"
        );
    }
}
