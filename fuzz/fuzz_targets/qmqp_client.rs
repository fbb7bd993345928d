//! The client's protocol machine: what a server answers, and that the server reads what the client writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmqp::client::{CLOSING, REPLY_BYTES_MAX, Reply, ReplyFault, ReplyReader, Request};
use qmqp::netstring;
use qmqp::reply::{self, Status};
use qmqp::server::{Event, Limits, Server};

fn read(pieces: &[&[u8]]) -> Result<Option<Reply>, ReplyFault> {
    let mut reader = ReplyReader::new();
    for piece in pieces {
        let mut input = *piece;
        if let Some(reply) = reader.next(&mut input)? {
            return Ok(Some(reply));
        }
        assert!(input.is_empty(), "bytes are left though more is asked for");
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(&[data]);
    assert_eq!(read(&fuzz::pieces(data)), whole, "the reply depends on the split");
    if let Ok(Some(reply)) = whole {
        assert!((reply.text.len() as u64) < REPLY_BYTES_MAX);
        let shown = reply::printable(&reply.text);
        assert!(!shown.chars().any(char::is_control));
        let again = read(&[&reply::encode(reply.status, &reply.text)]).unwrap().unwrap();
        assert_eq!((again.status, again.text), (reply.status, shown.into_bytes()));
    }
    let reply = read(&[&reply::encode(Status::Permanent, data)]);
    assert!(matches!(reply, Ok(Some(reply)) if reply.status == Status::Permanent));

    // The lines of the input are sender and recipients, all of it is the content.
    let mut addresses = data.split(|byte| *byte == b'\n');
    let sender = addresses.next().unwrap_or_default();
    let recipients: Vec<&[u8]> = addresses.collect();
    let mut request = Request::new(data.len() as u64, sender.len() as u64).unwrap();
    for recipient in &recipients {
        request = request.with_recipient(recipient.len() as u64).unwrap();
    }
    let mut bytes = request.head();
    bytes.extend_from_slice(data);
    bytes.push(b',');
    for address in std::iter::once(&sender).chain(&recipients) {
        netstring::encode(address, &mut bytes);
    }
    bytes.extend_from_slice(CLOSING);
    assert_eq!(bytes.len() as u64, request.total_bytes());

    let none =
        Limits { content_bytes_max: u64::MAX, sender_bytes_max: u64::MAX, recipient_bytes_max: u64::MAX };
    let mut server = Server::new(none);
    let mut input = bytes.as_slice();
    let (mut content, mut heard, mut ended) = (Vec::new(), Vec::new(), false);
    while let Some(event) = server.next(&mut input).expect("the server refuses what the client writes") {
        match event {
            Event::Content(piece) => content.extend_from_slice(piece),
            Event::Sender(address) | Event::Recipient(address) => heard.push(address.to_vec()),
            Event::End => ended = true,
            Event::Begin { .. } | Event::ContentBegin { .. } | Event::ContentEnd => {}
        }
    }
    assert!(ended && content == data);
    assert!(heard.iter().map(Vec::as_slice).eq(std::iter::once(sender).chain(recipients)));
});
