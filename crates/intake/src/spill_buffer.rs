//! Bytes that wait for their turn: in memory as long as they are few, then in a file without a name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Bytes of one buffer that are kept in memory; as many are read from a file at a time.
pub(super) const BYTES_IN_MEMORY_MAX: usize = 64 * 1024;

/// Where files without a name are made, and how many threads may be busy with them.
#[derive(Debug)]
pub(super) struct TemporaryFiles {
    directory: PathBuf,
    threads: Semaphore,
}

impl TemporaryFiles {
    /// Files on the file system of this directory, which must be writable.
    pub(super) fn new(directory: &str, threads: usize) -> Self {
        Self {
            directory: directory.into(),
            threads: Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS)),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs what waits for the disk where no session has to wait with it.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let _thread = self.threads.acquire().await.map_err(io::Error::other)?;
        spawn_blocking(job).await.map_err(io::Error::other)?
    }
}

/// Bytes that are written once, from the front to the back, and then read once.
#[derive(Debug, Default)]
pub(super) struct SpillBuffer {
    /// What stands behind the bytes in the file.
    memory: Vec<u8>,
    file: Option<Arc<File>>,
    /// How many bytes are in the file.
    file_bytes: u64,
}

impl SpillBuffer {
    /// To append to; call [`Self::settle`] now and then.
    pub(super) const fn end(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Moves what is too much for the memory into the file.
    pub(super) async fn settle(&mut self, files: &TemporaryFiles) -> io::Result<()> {
        if self.memory.len() < BYTES_IN_MEMORY_MAX {
            return Ok(());
        }
        let directory = files.directory.clone();
        let (file, offset) = (self.file.clone(), self.file_bytes);
        let bytes = std::mem::take(&mut self.memory);
        let (file, mut bytes) = files
            .run(move || {
                let file = match file {
                    Some(file) => file,
                    None => Arc::new(nameless_file(&directory)?),
                };
                file.write_all_at(&bytes, offset)?;
                Ok((file, bytes))
            })
            .await?;
        self.file = Some(file);
        self.file_bytes = self.file_bytes.saturating_add(bytes.len() as u64);
        bytes.clear();
        self.memory = bytes;
        Ok(())
    }

    /// Reads from the front.
    pub(super) const fn into_reader(self) -> Reader {
        Reader { rest: self, offset: 0 }
    }
}

/// Gives back what an [`SpillBuffer`] of records took, whole records at a time, as often as one likes.
#[derive(Debug)]
pub(super) struct RecordReader<'a> {
    source: &'a SpillBuffer,
    /// How far the file has been read.
    offset: u64,
    memory_was_read: bool,
    /// The beginning of a record whose rest is still to be read.
    torn: Vec<u8>,
}

impl SpillBuffer {
    /// Reads from the front; the bytes are records.
    pub(super) const fn records(&self) -> RecordReader<'_> {
        RecordReader { source: self, offset: 0, memory_was_read: false, torn: Vec::new() }
    }

    /// How many bytes there are.
    pub(super) fn bytes(&self) -> u64 {
        self.file_bytes.saturating_add(self.memory.len() as u64)
    }
}

impl RecordReader<'_> {
    /// The next records; `None` behind the last.
    pub(super) async fn next(&mut self, files: &TemporaryFiles) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(mut bytes) = self.piece(files).await? else {
                let torn = std::mem::take(&mut self.torn);
                return if torn.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            };
            if !self.torn.is_empty() {
                let mut joined = std::mem::take(&mut self.torn);
                joined.append(&mut bytes);
                bytes = joined;
            }
            let mut records = postfix::record::Reader::new(&bytes);
            while let Some(Ok(_)) = records.next() {}
            self.torn = bytes.split_off(records.offset().min(bytes.len()));
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    async fn piece(&mut self, files: &TemporaryFiles) -> io::Result<Option<Vec<u8>>> {
        let left = self.source.file_bytes.saturating_sub(self.offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BYTES_IN_MEMORY_MAX);
        if let (Some(file), 1..) = (&self.source.file, wanted) {
            let piece = read_piece(files, file, self.offset, wanted).await?;
            self.offset = self.offset.saturating_add(wanted as u64);
            return Ok(Some(piece));
        }
        let is_first = !std::mem::replace(&mut self.memory_was_read, true);
        Ok(Some(self.source.memory.clone()).filter(|memory| is_first && !memory.is_empty()))
    }
}

async fn read_piece(
    files: &TemporaryFiles,
    file: &Arc<File>,
    offset: u64,
    wanted: usize,
) -> io::Result<Vec<u8>> {
    let file = Arc::clone(file);
    files
        .run(move || {
            let mut piece = vec![0; wanted];
            file.read_exact_at(&mut piece, offset)?;
            Ok(piece)
        })
        .await
}

/// Gives back what an [`SpillBuffer`] took.
#[derive(Debug)]
pub(super) struct Reader {
    rest: SpillBuffer,
    /// How far the file has been read.
    offset: u64,
}

impl Reader {
    /// The next bytes; `None` behind the last.
    pub(super) async fn next(&mut self, files: &TemporaryFiles) -> io::Result<Option<Vec<u8>>> {
        if let Some(file) = &self.rest.file {
            let left = self.rest.file_bytes.saturating_sub(self.offset);
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BYTES_IN_MEMORY_MAX);
            if wanted > 0 {
                let piece = read_piece(files, file, self.offset, wanted).await?;
                self.offset = self.offset.saturating_add(wanted as u64);
                return Ok(Some(piece));
            }
            self.rest.file = None;
        }
        let memory = std::mem::take(&mut self.rest.memory);
        Ok(Some(memory).filter(|memory| !memory.is_empty()))
    }
}

/// A file that is gone when it is closed, whatever happens to this process.
fn nameless_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let nameless = options.clone().custom_flags(libc::O_TMPFILE).open(directory);
    match nameless {
        // File systems that cannot do it, and kernels that do not know it.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) =>
        {
            unlinked_file(directory, &options)
        }
        other => other,
    }
}

/// A file that loses its name at once. Because of the dot in its name no program takes it for a queue file.
fn unlinked_file(directory: &Path, options: &OpenOptions) -> io::Result<File> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("qmqpd.{}.{count}", std::process::id()));
    let open = || options.clone().create_new(true).open(&path);
    let file = open().or_else(|error| match error.kind() {
        // Left behind by a process of the same number that was killed in between.
        io::ErrorKind::AlreadyExists => std::fs::remove_file(&path).and_then(|()| open()),
        _ => Err(error),
    })?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_back(bytes: SpillBuffer, files: &TemporaryFiles) -> Vec<u8> {
        let mut reader = bytes.into_reader();
        let mut all = Vec::new();
        while let Some(piece) = reader.next(files).await.unwrap() {
            assert!(!piece.is_empty() && piece.len() <= BYTES_IN_MEMORY_MAX * 2);
            all.extend(piece);
        }
        all
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let directory = tempfile::tempdir().unwrap();
        let files = TemporaryFiles::new(directory.path().to_str().unwrap(), 2);
        let expected: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for bytes in [0, 1, BYTES_IN_MEMORY_MAX - 1, BYTES_IN_MEMORY_MAX, 300_001, expected.len()] {
            let expected = &expected[..bytes];
            let found = run(async {
                let mut spill_buffer = SpillBuffer::default();
                for piece in expected.chunks(10_007) {
                    spill_buffer.end().extend_from_slice(piece);
                    spill_buffer.settle(&files).await.unwrap();
                    assert!(spill_buffer.memory.len() < BYTES_IN_MEMORY_MAX);
                }
                assert_eq!(spill_buffer.file.is_some(), bytes >= BYTES_IN_MEMORY_MAX);
                read_back(spill_buffer, &files).await
            });
            assert!(found == expected, "{bytes} bytes");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no name is left");
    }

    #[test]
    fn records_come_whole_and_as_often_as_wanted() {
        use ::postfix::record::{RecordType, encode};
        let directory = tempfile::tempdir().unwrap();
        let files = TemporaryFiles::new(directory.path().to_str().unwrap(), 2);
        let mut expected = Vec::new();
        run(async {
            let mut spill_buffer = SpillBuffer::default();
            for number in 0..4000_usize {
                let data = vec![b'x'; number % 300];
                encode(&mut expected, RecordType::NORMAL, &data);
                encode(spill_buffer.end(), RecordType::NORMAL, &data);
                spill_buffer.settle(&files).await.unwrap();
            }
            assert!(spill_buffer.file.is_some() && spill_buffer.bytes() == expected.len() as u64);
            for _ in 0..2 {
                let mut reader = spill_buffer.records();
                let mut found = Vec::new();
                while let Some(records) = reader.next(&files).await.unwrap() {
                    let mut whole = ::postfix::record::Reader::new(&records);
                    assert!(whole.by_ref().all(|record| record.is_ok()));
                    found.extend(records);
                }
                assert!(found == expected);
            }
        });
    }

    #[test]
    fn a_file_without_o_tmpfile_has_no_name_either() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = unlinked_file(directory.path(), &options).unwrap();
        file.write_all_at(b"x", 7).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let files = TemporaryFiles::new("/nonexistent/incoming", 1);
        let mut spill_buffer = SpillBuffer::default();
        spill_buffer.end().resize(BYTES_IN_MEMORY_MAX, b'x');
        assert_eq!(run(spill_buffer.settle(&files)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
