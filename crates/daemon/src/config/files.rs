//! Reading configuration files.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file that changed less long ago may still be being written.
const HOT: Duration = Duration::from_secs(1);

/// The pause between two reads of a hot file.
const PAUSE: Duration = Duration::from_millis(300);

/// Reads at most, when a file does not come to rest.
const READS_MAX: usize = 10;

/// The content of a file that is not being written: one that changed just now is read again until two reads, 0.3 s
/// apart, agree. (Postfix waits until the file is a second or two old; the result is the same.)
pub(super) fn read_at_rest(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = std::fs::read(path)?;
    for _ in 1..READS_MAX {
        let changed = std::fs::metadata(path)?.modified()?;
        // A time in the future says nothing; such a file is not waited for.
        let hot = SystemTime::now().duration_since(changed).is_ok_and(|age| age < HOT);
        if !hot {
            break;
        }
        std::thread::sleep(PAUSE);
        let again = std::fs::read(path)?;
        if again == content {
            break;
        }
        content = again;
    }
    Ok(content)
}

/// The first line of a small text file, without its end; or why it cannot be read. A line of more than
/// [`LINE_BYTES_MAX`] bytes is cut.
pub(super) fn first_line(path: &str) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut read = || {
        // A named pipe may have no writer: opening it must not wait.
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        BufReader::new(file.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line)
    };
    read().map_err(|error| postfix::text::system_words(&error))?;
    Ok(line.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(line))
}

/// Longer than any domain.
const LINE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mailname");
        let shown = path.to_str().unwrap();
        for (content, line) in [("a.test\nb\n", "a.test"), ("a.test", "a.test"), ("", ""), ("\nb", "")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(first_line(shown), Ok(line.as_bytes().to_vec()), "{content:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(first_line(shown), Err("No such file or directory".to_owned()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(first_line(shown), Err("not a regular file".to_owned()));
        assert_eq!(first_line("/dev/zero"), Err("not a regular file".to_owned()));
    }

    #[test]
    fn a_file_at_rest_is_read_once_and_a_hot_one_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("main.cf");
        std::fs::write(&path, "a = 1\n").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(read_at_rest(&path).unwrap(), b"a = 1\n");
        file.set_modified(SystemTime::now()).unwrap();
        assert_eq!(read_at_rest(&path).unwrap(), b"a = 1\n");
        assert!(read_at_rest(&directory.path().join("none")).is_err());
    }
}
