//! What the processes of a service tell each other about their clients. The input is the file, in regions of any length; a
//! process that was taken over writes what it likes into it.
#![no_main]

use daemon::service::fuzzing::{adopt_region, read_region, sum_of_regions};
use libfuzzer_sys::fuzz_target;

/// Regions of one input.
const REGIONS_MAX: usize = 8;

const BLOCK_BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    // The first byte says how long the regions are, so that several whole ones fit.
    let Some((&length, bytes)) = data.split_first() else { return };
    let length = BLOCK_BYTES * (usize::from(length % 16) + 1);
    let mut regions: Vec<Vec<u8>> = bytes.chunks(length).take(REGIONS_MAX).map(<[u8]>::to_vec).collect();
    for region in &mut regions {
        // As it is, and with a checksum that is right: otherwise next to nothing would be read.
        look_at(region);
        make_sound(region);
        look_at(region);
    }
    let [window, minute, phase] = time_of(regions.first());
    let sum = |regions: &[Vec<u8>]| {
        sum_of_regions(regions, window, minute, u32::try_from(phase).unwrap_or(u32::MAX))
    };
    let all = sum(&regions);
    regions.reverse();
    assert_eq!(all, sum(&regions), "the order of the regions matters");
    regions.pop();
    let fewer = sum(&regions);
    assert!(all.iter().zip(&fewer).all(|(all, fewer)| all >= fewer), "one region more takes something away");
});

fn look_at(region: &[u8]) {
    if let Some(written) = read_region(region) {
        assert_eq!(read_region(&written).as_ref(), Some(&written), "what is written is not what is read");
        assert!(written.len() <= region.len(), "more is written than was read");
        let (told, remembered) = adopt_region(region).expect("a region that can be read");
        assert!(remembered <= told, "{remembered} clients of {told}");
    }
}

/// The mark, and the checksum of what the number of clients covers.
fn make_sound(region: &mut [u8]) {
    if region.len() < BLOCK_BYTES {
        return;
    }
    region[..8].copy_from_slice(b"qmqpdct1");
    let count = usize::from(region[12]) % (region.len() / BLOCK_BYTES);
    region[12..16].copy_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
    let checksum = crc32fast::hash(&region[12..BLOCK_BYTES * (count + 1)]);
    region[8..12].copy_from_slice(&checksum.to_le_bytes());
}

/// The time unit of the first client, the minute of the log quota, and where that begins: those in which something is counted.
fn time_of(region: Option<&Vec<u8>>) -> [u64; 3] {
    let number = |at: usize, length: usize| {
        let field = region.and_then(|region| region.get(at..at + length)).unwrap_or_default();
        field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    [number(BLOCK_BYTES + 32, 8), number(32, 8), number(40, 4)]
}
