//! What the targets share: how an input is cut into pieces, and files that a parser insists on opening.

pub mod message;

use std::path::{Path, PathBuf};

/// Cuts `data` into pieces; where depends on the data alone, so that an input always does the same. The ways differ from
/// input to input: byte by byte, large pieces, anything between.
#[must_use]
pub fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let longest = match state % 4 {
        0 => 1,
        1 => 7,
        2 => 64,
        _ => 4096,
    };
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let wanted = usize::try_from(state % longest).unwrap_or(0) + 1;
        let (piece, behind) = rest.split_at(wanted.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Takes the first line off `data`, without its end: for targets that need a key or a setting beside the bytes.
#[must_use]
pub fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

/// A file in memory that is written again for each input: some parsers take nothing but a path.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// `name` tells the targets apart, the process ID the workers of one.
    ///
    /// # Panics
    /// When there is no place to write to.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = base.join(format!("qmqpd-fuzz.{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a place for scratch files");
        Self { path: directory.join(name) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces what is in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, data: &[u8]) {
        std::fs::write(&self.path, data).expect("a scratch file");
    }
}
