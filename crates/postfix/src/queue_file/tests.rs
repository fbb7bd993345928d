//! Real files of Postfix 3.7.11, byte for byte, and the laws of the streamed layout.

use super::letter::{Content, Event, Letter, LetterError, RecipientState};
use super::*;
use crate::record::RecordType;
use proptest::prelude::*;

/// Encodes records given as (type, data).
fn records(list: &[(u8, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, data) in list {
        encode(&mut out, RecordType(*kind), data.as_bytes());
    }
    out
}

const CLIENT: [(u8, &str); 10] = [
    (b'A', "log_client_name=localhost"),
    (b'A', "log_client_address=127.0.0.1"),
    (b'A', "log_client_port=44544"),
    (b'A', "log_message_origin=localhost[127.0.0.1]"),
    (b'A', "log_protocol_name=QMQP"),
    (b'A', "client_name=localhost"),
    (b'A', "client_address=127.0.0.1"),
    (b'A', "client_port=44544"),
    (b'A', "client_address_type=2"),
    (b'A', "protocol_name=QMQP"),
];

const RECIPIENT: [(u8, &str); 3] =
    [(b'A', "dsn_orig_rcpt=rfc822;bob@rcpt.example"), (b'O', "bob@rcpt.example"), (b'R', "bob@rcpt.example")];

const RECEIVED: [(u8, &str); 3] = [
    (b'N', "Received: from localhost (localhost [127.0.0.1])"),
    (b'N', "\tby mx.example.test (Postfix) with QMQP id 23A5D9AA1F6"),
    (b'N', "\tfor <bob@rcpt.example>; Sun, 22 Nov 2026 22:25:00 +0000 (UTC)"),
];

/// The message of the worked example, in the pieces that cleanup makes.
struct Example {
    envelope: Vec<u8>,
    recipients: Vec<u8>,
    received: Vec<u8>,
    content: Vec<u8>,
    slot: u64,
    from: Vec<u8>,
    extracted: Vec<u8>,
    counts: Counts,
}

impl Example {
    fn new(filter: Option<&str>, sender: &str, verp: Option<&str>, extracted: &[(u8, &str)]) -> Self {
        let mut envelope = records(&[(b'T', "1795386300 145704"), (b'A', "create_time=1795386300")]);
        if let Some(filter) = filter {
            encode(&mut envelope, RecordType::FILTER, filter.as_bytes());
        }
        encode(&mut envelope, RecordType::SENDER, sender.as_bytes());
        if let Some(delimiters) = verp {
            encode(&mut envelope, RecordType::VERP, delimiters.as_bytes());
        }
        envelope.extend(records(&CLIENT));
        let mut content = records(&[
            (b'N', "Subject: hi"),
            (b'N', "Message-Id: <20261122222500.23A5D9AA1F6@mx.example.test>"),
            (b'N', "Date: Sun, 22 Nov 2026 22:25:00 +0000 (UTC)"),
        ]);
        let slot = content.len() as u64;
        encode_pointer(&mut content, 0);
        content.extend(records(&[(b'N', ""), (b'N', "hello")]));
        let copies = extracted.iter().filter(|(kind, _)| *kind == b'R').count() as u64;
        Self {
            envelope,
            recipients: records(&RECIPIENT),
            received: records(&RECEIVED),
            content,
            slot,
            from: records(&[(b'N', &format!("From: {sender}"))]),
            extracted: records(extracted),
            counts: Counts { recipients: 1 + copies, ..Counts::default() },
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            envelope: &self.envelope,
            recipients: &self.recipients,
            sender_copies: SenderCopies::default(),
            received: &self.received,
            content: &self.content,
            from: Some((self.slot, &self.from)),
            extracted: &self.extracted,
            counts: self.counts,
        }
    }

    fn classic(&self) -> Vec<u8> {
        let mut out = Vec::new();
        classic(&self.parts(), &mut out).unwrap();
        out
    }

    /// The file that a streaming receiver ends up with; the hole is filled with a byte that no record begins with.
    fn streamed(&self, front_bytes: u64) -> Result<Vec<u8>, LayoutError> {
        let layout = Streamed {
            front_bytes,
            content_bytes: self.content.len() as u64,
            recipients_bytes: self.recipients.len() as u64,
        };
        let mut file = vec![0xff; usize::try_from(front_bytes).unwrap()];
        file.extend_from_slice(&self.content);
        assert_eq!(file.len() as u64, layout.extracted_offset());
        file.extend_from_slice(&EXTRACTED_RECORD);
        file.extend_from_slice(&self.recipients);
        assert_eq!(file.len() as u64, layout.tail_offset());
        let writes = layout.finish(&Late {
            envelope: &self.envelope,
            received: &self.received,
            from: Some((self.slot, &self.from)),
            extracted: &self.extracted,
            counts: self.counts,
        })?;
        for write in writes {
            let at = usize::try_from(write.offset).unwrap();
            let end = at + write.bytes.len();
            file.resize(file.len().max(end), 0xff);
            file[at..end].copy_from_slice(&write.bytes);
        }
        Ok(file)
    }
}

/// Asserts that `file` has exactly these bytes at the offset.
fn assert_at(file: &[u8], offset: usize, kind: u8, data: &str) {
    let mut expected = Vec::new();
    encode(&mut expected, RecordType(kind), data.as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&file[offset..offset + expected.len()]),
        String::from_utf8_lossy(&expected),
        "at {offset:#06x}"
    );
}

fn size_data(file: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(&file[2..97]).split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn classic_is_the_file_of_postfix() {
    let file = Example::new(None, "alice@sender.example", None, &[]).classic();
    assert_eq!(file.len(), 822);
    assert_eq!(
        &file[..97],
        b"C\x5f            323             495               1               0             323               0"
    );
    assert_at(&file, 0x61, b'T', "1795386300 145704");
    assert_at(&file, 0x74, b'A', "create_time=1795386300");
    assert_at(&file, 0x8c, b'S', "alice@sender.example");
    assert_at(&file, 0xf2, b'A', "log_message_origin=localhost[127.0.0.1]");
    assert_at(&file, 0x1a2, b'A', "dsn_orig_rcpt=rfc822;bob@rcpt.example");
    assert_at(&file, 0x1db, b'R', "bob@rcpt.example");
    assert_at(&file, 0x1ed, b'M', "");
    assert_at(&file, 0x1ef, b'N', RECEIVED[0].1);
    assert_at(&file, 0x2e0, b'N', "Date: Sun, 22 Nov 2026 22:25:00 +0000 (UTC)");
    assert_at(&file, 0x30d, b'N', "From: alice@sender.example");
    assert_at(&file, 0x329, b'N', "");
    assert_at(&file, 0x32b, b'N', "hello");
    assert_at(&file, 0x332, b'X', "");
    assert_at(&file, 0x334, b'E', "");
}

#[test]
fn classic_with_automatic_copy() {
    let copy = [(b'A', "notify_flags=1"), (b'O', "archive@log.example"), (b'R', "archive@log.example")];
    let file = Example::new(None, "alice@sender.example", None, &copy).classic();
    assert_eq!(file.len(), 880);
    assert_eq!(size_data(&file), ["323", "495", "2", "0", "323", "0"]);
    assert_at(&file, 0x332, b'X', "");
    assert_at(&file, 0x334, b'A', "notify_flags=1");
    assert_at(&file, 0x344, b'O', "archive@log.example");
    assert_at(&file, 0x359, b'R', "archive@log.example");
    assert_at(&file, 0x36e, b'E', "");
}

#[test]
fn classic_with_content_filter() {
    let file = Example::new(Some("smtp:[127.0.0.1]:10025"), "alice@sender.example", None, &[]).classic();
    assert_eq!(file.len(), 846);
    assert_eq!(size_data(&file), ["323", "519", "1", "0", "323", "0"]);
    assert_at(&file, 0x8c, b'L', "smtp:[127.0.0.1]:10025");
    assert_at(&file, 0xa4, b'S', "alice@sender.example");
    assert_at(&file, 0x205, b'M', "");
    assert_at(&file, 0x34a, b'X', "");
    assert_at(&file, 0x34c, b'E', "");
}

#[test]
fn copies_for_the_sender_stand_behind_it() {
    // Observed on Postfix 3.7 with sender_bcc_maps.
    let copy = [(b'A', "notify_flags=1"), (b'O', "copy@x.example"), (b'R', "copy@x.example")];
    let message = Example::new(None, "alice@sender.example", None, &[]);
    let copies = records(&copy);
    let envelope_offset = message.envelope.len() - records(&CLIENT).len();
    let recipients = [copies.as_slice(), &message.recipients].concat();
    let sender_copies = SenderCopies { envelope_offset, bytes: copies.len() };
    let parts = Parts { recipients: &recipients, sender_copies, ..message.parts() };
    let mut file = Vec::new();
    classic(&parts, &mut file).unwrap();
    let without = message.classic();
    let at = SIZE_RECORD_BYTES + envelope_offset;
    assert_eq!(file[at..at + copies.len()], copies);
    assert_eq!(
        [&file[SIZE_RECORD_BYTES..at], &file[at + copies.len()..]].concat(),
        without[SIZE_RECORD_BYTES..]
    );
    assert!(read(&file, Content::Read).is_ok());
}

#[test]
fn classic_with_verp() {
    let file = Example::new(None, "list@sender.example", Some("-="), &[]).classic();
    assert_eq!(file.len(), 824);
    assert_eq!(size_data(&file), ["322", "498", "1", "0", "322", "0"]);
    assert_at(&file, 0x8c, b'S', "list@sender.example");
    assert_at(&file, 0xa1, b'V', "-=");
    assert_at(&file, 0xa5, b'A', "log_client_name=localhost");
    assert_at(&file, 0x1f0, b'M', "");
    assert_at(&file, 0x310, b'N', "From: list@sender.example");
    assert_at(&file, 0x334, b'X', "");
    assert_at(&file, 0x336, b'E', "");
}

#[test]
fn a_slot_must_be_one() {
    let mut example = Example::new(None, "a@b", None, &[]);
    example.slot += 1;
    let mut out = b"kept".to_vec();
    assert_eq!(classic(&example.parts(), &mut out), Err(LayoutError::NoSlot { offset: example.slot }));
    assert_eq!(out, b"kept");
    example.slot = example.content.len() as u64;
    assert_eq!(classic(&example.parts(), &mut out), Err(LayoutError::NoSlot { offset: example.slot }));
    assert_eq!(example.streamed(8192), Err(LayoutError::NoSlot { offset: example.slot }));
}

#[test]
fn streamed_front_is_right_aligned() {
    let example = Example::new(None, "alice@sender.example", None, &[(b'A', "encoding=8bit")]);
    let file = example.streamed(FRONT_BYTES).unwrap();
    let front = 8192;
    let block = front - example.received.len() - 2;
    assert_eq!(&file[block..block + 2], b"M\0");
    assert_eq!(&file[block + 2..front], &example.received[..]);
    // From: is reached by a pointer and leads back.
    let extracted = front + example.content.len();
    let tail = extracted + 2 + example.recipients.len();
    assert_at(&file, extracted, b'X', "");
    assert_at(&file, tail, b'E', "");
    let slot = front + usize::try_from(example.slot).unwrap();
    assert_at(&file, slot, b'p', &format!("{:15}", tail + 2));
    assert_at(&file, tail + 2, b'N', "From: alice@sender.example");
    assert_at(&file, tail + 2 + 28, b'p', &format!("{:15}", slot + 17));
    assert_eq!(file.len(), tail + 2 + 28 + 17);
    // The attribute stands in front, where the queue manager sees it whatever the number of recipients.
    let head = SIZE_RECORD_BYTES + example.envelope.len();
    assert_eq!(&file[97..head], &example.envelope[..]);
    assert_at(&file, head, b'A', "encoding=8bit");
    assert_at(&file, head + 15, b'p', &format!("{block:15}"));
    // Sizes: readers seek from behind M to X, and the logged size is that of the classic layout.
    let data_size = extracted - block - 2;
    assert_eq!(
        size_data(&file),
        [data_size.to_string(), (block + 2).to_string(), "1".into(), "0".into(), "323".into(), "0".into()]
    );
}

#[test]
fn a_front_that_does_not_fit_is_an_error_and_room_can_be_had() {
    let filter = "x".repeat(4000);
    let example = Example::new(Some(&filter), &"s".repeat(4000), None, &[]);
    let Err(LayoutError::FrontTooLarge { needed, available }) = example.streamed(FRONT_BYTES) else {
        panic!("it cannot fit")
    };
    assert_eq!(available, 8192);
    let records = SIZE_RECORD_BYTES + example.envelope.len() + POINTER_RECORD_BYTES;
    assert_eq!(needed, (records + CONTENT_RECORD.len() + example.received.len()) as u64);
    // Exactly enough is enough.
    assert!(example.streamed(needed).is_ok());
    assert!(example.streamed(needed - 1).is_err());
    let room = front_bytes_for(&FrontNeeds {
        sender_bytes_max: 4000,
        recipient_bytes_max: 2048,
        setting_bytes: 4020,
    });
    assert!(room >= needed);
    assert_eq!(room % 4096, 0);
    assert_eq!(front_bytes_for(&FrontNeeds::default()), FRONT_BYTES);
}

/// One byte more would overwrite the content, which is on disk already.
#[test]
fn no_front_reaches_into_the_content() {
    for extracted in [&[][..], &[(b'A', "encoding=8bit")], &COPY] {
        let example = Example::new(None, "a@b", None, extracted);
        let about_message = extracted.iter().filter(|(kind, data)| *kind == b'A' && data.starts_with("enc"));
        let attributes = records(&about_message.copied().collect::<Vec<_>>());
        let head = SIZE_RECORD_BYTES + example.envelope.len() + attributes.len() + POINTER_RECORD_BYTES;
        let least = (head + CONTENT_RECORD.len() + example.received.len()) as u64;
        for missing in 1..=40 {
            let available = least - missing;
            assert_eq!(
                example.streamed(available),
                Err(LayoutError::FrontTooLarge { needed: least, available }),
                "{missing} bytes too few"
            );
        }
        let (letter, recipients, text) = read(&example.streamed(least).unwrap(), Content::Read).unwrap();
        let (mut expected, ..) = read(&example.streamed(8192).unwrap(), Content::Read).unwrap();
        expected.size = letter.size;
        assert_eq!(letter, expected);
        assert_eq!(recipients.len(), 1 + usize::from(extracted.len() > 1));
        assert!(text.ends_with("\nFrom: a@b\n\nhello\n"), "{text}");
    }
}

#[test]
fn a_slot_may_be_the_last_of_the_content_but_not_reach_beyond() {
    let mut content = records(&[(b'N', "Subject: hi")]);
    let slot = content.len() as u64;
    encode_pointer(&mut content, 0);
    let layout = Streamed { front_bytes: 8192, content_bytes: content.len() as u64, recipients_bytes: 0 };
    let late = |slot| {
        let counts = Counts::default();
        layout
            .finish(&Late {
                envelope: &[],
                received: &[],
                from: Some((slot, b"N\0")),
                extracted: &[],
                counts,
            })
            .map(|writes| writes[0].offset)
    };
    assert_eq!(late(slot), Ok(8192 + slot));
    assert_eq!(late(slot + 1), Err(LayoutError::NoSlot { offset: slot + 1 }));
}

#[test]
fn an_unused_slot_stays_a_dummy() {
    let mut example = Example::new(None, "a@b", None, &[]);
    example.from.clear();
    let file = example.streamed(8192).unwrap();
    assert_at(&file, 8192 + usize::try_from(example.slot).unwrap(), b'p', "              0");
    let classic = example.classic();
    assert_eq!(size_data(&file)[4], size_data(&classic)[4]);
}

/// The letter, its recipients as text, and its content as text.
fn read(file: &[u8], content: Content) -> Result<(Letter, Vec<String>, String), String> {
    let (mut letter, mut recipients, mut text) = (Letter::default(), Vec::new(), String::new());
    letter
        .read(file, content, &mut |event| match event {
            Event::Recipient(recipient) => recipients.push(format!(
                "{} {} {} {} {:?}",
                recipient.state.name(),
                String::from_utf8_lossy(recipient.address),
                String::from_utf8_lossy(recipient.original.unwrap_or(b"-")),
                String::from_utf8_lossy(recipient.dsn_original.unwrap_or(b"-")),
                recipient.notify
            )),
            Event::Content { data, line_ends } => {
                text.push_str(&String::from_utf8_lossy(data));
                text.push_str(if line_ends { "\n" } else { "" });
            }
        })
        .map_err(|error| error.to_string())?;
    Ok((letter, recipients, text))
}

const COPY: [(u8, &str); 4] = [
    (b'A', "encoding=8bit"),
    (b'A', "notify_flags=1"),
    (b'O', "archive@log.example"),
    (b'R', "archive@log.example"),
];

#[test]
fn both_layouts_say_the_same() {
    let example = Example::new(Some("smtp:[127.0.0.1]:10025"), "list@sender.example", Some("-="), &COPY);
    let (classic, streamed) = (example.classic(), example.streamed(FRONT_BYTES).unwrap());
    let (mut a, recipients, text) = read(&classic, Content::Read).unwrap();
    let (mut b, streamed_recipients, streamed_text) = read(&streamed, Content::Read).unwrap();
    assert_eq!(text, streamed_text);
    assert_eq!(recipients, streamed_recipients);
    assert_eq!(
        recipients,
        [
            "todo bob@rcpt.example bob@rcpt.example rfc822;bob@rcpt.example None",
            "todo archive@log.example archive@log.example - Some(1)"
        ]
    );
    assert!(text.starts_with("Received: from localhost"), "{text}");
    assert!(text.ends_with("\nFrom: list@sender.example\n\nhello\n"), "{text}");
    assert_eq!(a.size.take().unwrap().content_length, b.size.take().unwrap().content_length);
    assert_eq!(a, b);
    assert_eq!(a.arrival, Some((1_795_386_300, 145_704)));
    assert_eq!(a.created, Some(1_795_386_300));
    assert_eq!(a.sender.as_deref(), Some(&b"list@sender.example"[..]));
    assert_eq!(a.verp.as_deref(), Some(&b"-="[..]));
    assert_eq!(a.filter.as_deref(), Some(&b"smtp:[127.0.0.1]:10025"[..]));
    assert_eq!(a.attributes.len(), 11);
    assert_eq!((a.recipients_todo, a.recipients_done), (2, 0));
}

#[test]
fn content_is_skipped_without_reading_it() {
    let example = Example::new(None, "a@b", None, &COPY);
    for mut file in [example.classic(), example.streamed(FRONT_BYTES).unwrap()] {
        let size = SizeRecord::parse(&file[2..97]).unwrap();
        let start = usize::try_from(size.data_offset).unwrap();
        let end = usize::try_from(size.extracted_offset().unwrap()).unwrap();
        let (whole, recipients, _) = read(&file, Content::Read).unwrap();
        file[start..end].fill(0xff);
        let (letter, skipped_recipients, text) = read(&file, Content::Skip).unwrap();
        assert_eq!((letter, skipped_recipients, text.as_str()), (whole, recipients, ""));
        assert!(read(&file, Content::Read).is_err());
    }
}

#[test]
fn done_recipients_are_told_apart() {
    let mut file = Example::new(None, "a@b", None, &COPY).classic();
    let at = file.windows(4).position(|window| window == b"R\x10bo").unwrap();
    file[at] = RecordType::DONE_RECIPIENT.0;
    let (letter, recipients, _) = read(&file, Content::Skip).unwrap();
    assert_eq!((letter.recipients_todo, letter.recipients_done), (1, 1));
    assert!(recipients[0].starts_with("done bob@rcpt.example"), "{recipients:?}");
    assert_eq!(RecipientState::Cancelled.name(), "cancelled");
}

#[test]
fn of_two_records_the_first_counts_but_for_filter_and_redirect() {
    let mut file = Vec::new();
    for first in [true, false] {
        let pick = |one: &'static str, two: &'static str| if first { one } else { two };
        let number = if first { 7 } else { 9 };
        SizeRecord { data_size: number, data_offset: number, ..SizeRecord::default() }.encode(&mut file);
        file.extend(records(&[
            (b'T', pick("1 2", "3 4")),
            (b'A', pick("create_time=5", "create_time=6")),
            (b'L', pick("smtp:a", "smtp:b")),
            (b'>', pick("one@redirect", "two@redirect")),
            (b'S', pick("one@sender", "two@sender")),
            (b'V', pick("+=", "-=")),
            (b'W', pick("11", "12")),
        ]));
    }
    file.extend(records(&[(b'R', "a"), (b'/', "b"), (b'D', "c"), (b'M', ""), (b'X', ""), (b'E', "")]));
    let (letter, recipients, _) = read(&file, Content::Read).unwrap();
    assert_eq!((letter.recipients_todo, letter.recipients_done), (1, 2));
    assert!(recipients[1].starts_with("cancelled b "), "{recipients:?}");
    assert_eq!(letter.redirect.as_deref(), Some(&b"two@redirect"[..]));
    assert_eq!(letter.size.unwrap().data_size, 7);
    assert_eq!((letter.arrival, letter.created, letter.warning_time), (Some((1, 2)), Some(5), Some(11)));
    assert_eq!(letter.sender.as_deref(), Some(&b"one@sender"[..]));
    assert_eq!(letter.verp.as_deref(), Some(&b"+="[..]));
    assert_eq!(letter.filter.as_deref(), Some(&b"smtp:b"[..]));
    assert_eq!(letter.attributes.len(), 1, "{:?}", letter.attributes);
}

#[test]
fn what_belongs_to_the_envelope_must_not_stand_in_the_content() {
    for kind in ["S", "R", "T", "A", "E", "M"] {
        let file = format!("T\x011S\0R\x01aM\0{kind}\x03a=bX\0E\0");
        let error = read(file.as_bytes(), Content::Read).unwrap_err();
        assert_eq!(error, format!("unexpected record type '{kind}' at offset 10"));
    }
}

#[test]
fn attributes_are_split_as_in_postfix() {
    use super::letter::split_attribute;
    assert_eq!(split_attribute(b" a\x0b=\x0c b c \n"), Some((&b"a"[..], &b"b c"[..])));
    for none in [&b"=b"[..], b" = b", b"a b=c", b"a\x0bb=c", b"a"] {
        assert_eq!(split_attribute(none), None, "{}", none.escape_ascii());
    }
}

#[test]
fn damage_is_named_as_the_queue_manager_names_it() {
    let file = Example::new(None, "a@b", None, &[]).classic();
    let error = |file: &[u8]| read(file, Content::Skip).unwrap_err();
    assert_eq!(error(b""), "missing end record");
    assert_eq!(error(&file[..file.len() - 2]), "missing end record");
    assert_eq!(error(b"T\x011Z\x00E\x00"), "unexpected record type 'Z' at offset 3");
    assert_eq!(error(b"T\x011E\x00"), "missing sender record");
    assert_eq!(error(b"S\x00E\x00"), "missing arrival time record");
    assert_eq!(error(b"A\x03a bE\x00"), "bad attribute record at offset 0: missing name or '='");
    assert_eq!(error(b"C\x011"), "invalid size record: 1");
    // Minimal files are fine with the queue manager.
    assert!(read(b"T\x011S\x00R\x01aM\x00N\x00X\x00E\x00", Content::Read).is_ok());
    // A wrong size leads to another record than X.
    let mut wrong = Vec::new();
    SizeRecord { data_size: 9, data_offset: 135, ..SizeRecord::default() }.encode(&mut wrong);
    wrong.extend_from_slice(&file[97..]);
    assert!(error(&wrong).starts_with("unexpected record type"), "{}", error(&wrong));
}

proptest! {
    /// Whatever the pieces, both layouts have the same letter and the same content in them.
    #[test]
    fn layouts_agree(
        sender in "[a-z@.]{0,60}",
        lines in proptest::collection::vec("[ -~]{0,80}", 0..40),
        recipients in proptest::collection::vec("[a-z@.]{0,40}", 0..30),
        with_slot: bool,
        front_bytes in 2048..20_000_u64,
    ) {
        let mut example = Example::new(None, &sender, None, &COPY);
        example.content = lines.iter().flat_map(|line| records(&[(b'N', line)])).collect();
        example.slot = example.content.len() as u64;
        encode_pointer(&mut example.content, 0);
        if !with_slot {
            example.from.clear();
        }
        example.content.extend(records(&[(b'N', ""), (b'L', "end")]));
        example.recipients = recipients.iter().flat_map(|to| records(&[(b'O', to), (b'R', to)])).collect();
        let (mut a, to, text) = read(&example.classic(), Content::Read).unwrap();
        let (mut b, streamed_to, streamed_text) =
            read(&example.streamed(front_bytes).unwrap(), Content::Read).unwrap();
        prop_assert_eq!(to, streamed_to);
        prop_assert_eq!(&text, &streamed_text);
        let (size, streamed_size) = (a.size.take().unwrap(), b.size.take().unwrap());
        prop_assert_eq!(size.content_length, streamed_size.content_length);
        prop_assert_eq!(a, b);
    }

    /// A damaged file ends in an error or is read to its end; nothing else happens.
    #[test]
    fn damaged_files_are_survived(
        flips in proptest::collection::vec((0_usize..9000, any::<u8>()), 1..6),
        cut in 0_usize..9000,
        streamed: bool,
    ) {
        let example = Example::new(Some("a:b"), "list@b", Some("-="), &COPY);
        let mut file = if streamed { example.streamed(8192).unwrap() } else { example.classic() };
        for (at, byte) in flips {
            let len = file.len();
            file[at % len] = byte;
        }
        file.truncate(cut);
        for content in [Content::Read, Content::Skip] {
            let result: Result<(), LetterError<_>> = Letter::default().read(&file[..], content, &mut |_| {});
            let _ = result.map_err(|error| error.to_string());
        }
    }
}
