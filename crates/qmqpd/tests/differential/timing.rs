//! What takes time: the delay before a refusal, the timeout of a silent client, data that nobody reads.

use std::time::Duration;

use super::protocol::early;
use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client::{End, Step, envelope};

pub(crate) fn cases() -> Vec<Case> {
    [delay(), timeouts(), unread()].concat()
}

const ONE_SECOND: Duration = Duration::from_millis(950);

fn delay() -> Vec<Case> {
    let delayed = ["qmqpd_error_delay = 1s"];
    vec![
        Case::bytes("timing::a_refusal_is_delayed", *b"x").with(&delayed).each(|outcome| {
            outcome.assert_refused("Dnetstring format error while receiving QMQP packet header");
            assert!(outcome.took >= ONE_SECOND, "{}: {:?}", outcome.server, outcome.took);
        }),
        Case::content("timing::success_is_not_delayed", "Subject: x\n\n").with(&delayed).each(|outcome| {
            outcome.assert_queued();
            assert!(outcome.took < ONE_SECOND, "{}: {:?}", outcome.server, outcome.took);
        }),
        Case::new("timing::a_client_without_rights_is_delayed", vec![])
            .with(&["qmqpd_error_delay = 1s", "qmqpd_authorized_clients ="])
            .each(|outcome| {
                outcome.assert_refused("DError: localhost[127.0.0.1] is not authorized to use this service");
                assert!(outcome.took >= ONE_SECOND, "{}: {:?}", outcome.server, outcome.took);
            }),
    ]
}

fn timeouts() -> Vec<Case> {
    let whole = envelope(b"Subject: x\n\nhello\n", SENDER, &[RECIPIENT]);
    let outer = format!("{}:", whole.len());
    let timeout = ["qmqpd_timeout = 1s"];
    let mut cases = Vec::new();
    for (place, length) in [("nothing", 0), ("content", 10), ("sender", 30), ("recipient", 60)] {
        let sent = [outer.as_bytes(), &whole[..length]].concat();
        cases.push(Case::bytes(format!("timing::timeout_in_{place}"), sent).with(&timeout).silence());
    }
    cases.push(early(Case::new("timing::timeout_before_anything", vec![]).with(&timeout).silence()));
    cases.push(
        Case::bytes("timing::timeout_where_a_comma_is_due", *b"71:18:Subject: x\n\nhello\n")
            .with(&timeout)
            .differs(
                "a-lost-connection-is-logged-as-lost",
                |postfix| postfix.assert_logged("netstring format error while receiving message content"),
                |ours| ours.assert_logged("read/write timeout while receiving message content"),
            ),
    );
    cases
}

/// The client writes everything before it reads.
fn unread() -> Vec<Case> {
    let anchor = "a-rejected-request-is-read-to-its-end";
    let much = vec![b'x'; 4_000_000];
    let oversize = [b"4000030:4000000:".as_slice(), &much].concat();
    let reset: fn(&testbed::pair::Outcome) = |postfix| assert_eq!(postfix.end, End::Reset);
    vec![
        Case::bytes("timing::oversize_content_is_drained", oversize.clone())
            .with(&["message_size_limit = 1000000"])
            .differs(anchor, reset, |ours| {
                ours.assert_refused(
                    "Dnetstring length exceeds storage limit while receiving message content",
                );
                assert_eq!(ours.end, End::Closed);
            }),
        Case::bytes("timing::malformed_content_is_drained", [b"1x".as_slice(), &much].concat()).differs(
            anchor,
            reset,
            |ours| {
                ours.assert_refused("Dnetstring format error while receiving QMQP packet header");
                assert_eq!(ours.end, End::Closed);
            },
        ),
        Case::new("timing::a_refused_client_is_drained", vec![Step::Send(oversize)])
            .with(&["qmqpd_authorized_clients ="])
            .differs(anchor, reset, |ours| {
                ours.assert_refused("DError: localhost[127.0.0.1] is not authorized to use this service");
                assert_eq!(ours.end, End::Closed);
            }),
    ]
}
