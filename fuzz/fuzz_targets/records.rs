//! Records, one behind the other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postfix::queue_file::SizeRecord;
use postfix::queue_id::QueueId;
use postfix::record::{Reader, RecordType, decode_head, encode, encoded_len};

fuzz_target!(|data: &[u8]| {
    let mut behind = 0;
    let mut failed = false;
    for record in Reader::new(data) {
        assert!(!failed, "it goes on behind an error");
        let Ok((offset, record)) = record.inspect_err(|error| drop(error.to_string())) else {
            failed = true;
            continue;
        };
        assert_eq!(offset, behind);
        let head = decode_head(&data[offset..]).unwrap().unwrap();
        assert_eq!((head.kind, head.data_len), (record.kind, record.data.len()));
        behind = offset + head.head_len + head.data_len;
        let mut written = Vec::new();
        encode(&mut written, record.kind, record.data);
        assert_eq!(written.len(), encoded_len(record.data.len()));
        let again: Vec<_> = Reader::new(&written).collect();
        assert_eq!(again, [Ok((0, record))], "what is written is not read back");
        let _ = record.kind.to_string();
    }
    assert!(failed || behind == data.len());

    if let Ok(size) = SizeRecord::parse(data) {
        let mut written = Vec::new();
        size.encode(&mut written);
        let again = SizeRecord::parse(Reader::new(&written).next().unwrap().unwrap().1.data).unwrap();
        if again != size {
            // Only numbers that do not fit their column are changed.
            let numbers = [size.data_size, size.data_offset, size.recipients, size.content_length];
            assert!(numbers.iter().any(|number| *number > 999_999_999_999_999), "{size:?} {again:?}");
        }
        let _ = size.extracted_offset();
    }
    let mut written = Vec::new();
    encode(&mut written, RecordType::NORMAL, data);
    assert_eq!(Reader::new(&written).next().unwrap().unwrap().1.data, data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(id) = QueueId::parse(text)
    {
        assert_eq!(id.as_str(), text);
        for depth in 0..4 {
            assert!(id.hash_dir_path(depth).split('/').all(|part| part != ".." && part != "."));
        }
        let _ = id.inode();
    }
});
