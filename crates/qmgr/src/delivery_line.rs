//! The line that an agent logs for each recipient, word for word as Postfix's agents do: programs read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use delivery::delays::Delays;
use delivery::outcome::Outcome;
use postfix::queue_id::QueueId;
use postfix::text::equal_but_for_case;
use smtp::address::quoted;
use spool::Timestamp;

use crate::request::{Recipient, Request};

/// An address as logs and headers have it, quoted where it must be. Line breaks and NUL become `?`.
#[must_use]
pub fn external(address: &[u8]) -> Vec<u8> {
    let clean = |&byte: &u8| if matches!(byte, b'\r' | b'\n' | 0) { b'?' } else { byte };
    quoted(address).unwrap_or_else(|_| {
        let cleaned: Vec<u8> = address.iter().map(clean).collect();
        quoted(&cleaned).unwrap_or_default()
    })
}

/// The times of a delivery that an agent began at `began` and ended at `ended`, without a connection to set up.
#[must_use]
pub fn delays_of(request: &Request, began: SystemTime, ended: SystemTime) -> Delays {
    let between = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
    let active = time_of(request.active);
    Delays {
        before_queue_manager: between(time_of(request.arrival), active),
        in_queue_manager: between(active, began),
        connection_setup: Duration::ZERO,
        transmission: between(began, ended),
    }
}

fn time_of(stamp: Timestamp) -> SystemTime {
    let since = Duration::from_secs(stamp.seconds)
        .saturating_add(Duration::from_micros(u64::from(stamp.microseconds)));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// The line. `relay` says who got the mail, or `none`.
#[must_use]
pub fn text(
    request: &Request,
    recipient: &Recipient,
    relay: &str,
    delays: Delays,
    outcome: &Outcome,
) -> Vec<u8> {
    of(&request.queue_id, recipient, relay, delays, outcome)
}

/// The same for the queue manager, which answers some recipients without a request.
pub(crate) fn of(
    queue_id: &QueueId,
    recipient: &Recipient,
    relay: &str,
    delays: Delays,
    outcome: &Outcome,
) -> Vec<u8> {
    let mut line = format!("{queue_id}: to=<").into_bytes();
    line.extend(external(&recipient.address));
    line.extend_from_slice(b">, ");
    if !recipient.original.is_empty() && !equal_but_for_case(&recipient.original, &recipient.address, true) {
        line.extend_from_slice(b"orig_to=<");
        line.extend(external(&recipient.original));
        line.extend_from_slice(b">, ");
    }
    let Outcome { status, word, reason, .. } = outcome;
    line.extend(format!("relay={relay}, {delays}, dsn={status}, status={word} ({reason})").into_bytes());
    line
}

#[cfg(test)]
mod tests {
    use delivery::outcome::status;

    use super::*;
    use crate::fixtures::request;

    #[test]
    fn the_line_is_the_one_that_pflogsumm_reads() {
        let mut request = request(&["bob smith@v.example"]);
        let delays = Delays { transmission: Duration::from_millis(40), ..Delays::default() };
        let outcome = Outcome::sent(status(2, 0, 0), "delivered to maildir");
        let line = |request: &Request| {
            let line = text(request, &request.recipients[0], "virtual", delays, &outcome);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(
            line(&request),
            "1C835288: to=<\"bob smith\"@v.example>, relay=virtual, delay=0.04, delays=0/0/0/0.04, dsn=2.0.0, \
             status=sent (delivered to maildir)"
        );
        request.recipients[0].original = b"Bob Smith@V.example".to_vec();
        assert!(!line(&request).contains("orig_to"));
        request.recipients[0].original = b"all@v.example".to_vec();
        assert!(line(&request).contains(">, orig_to=<all@v.example>, relay=virtual, "));
    }
}
