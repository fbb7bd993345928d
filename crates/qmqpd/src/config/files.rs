//! Reading configuration files.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file that changed less long ago may still be being written.
const HOT: Duration = Duration::from_secs(1);

/// The pause between two reads of a hot file.
const PAUSE: Duration = Duration::from_millis(300);

/// Reads at most, when a file does not come to rest.
const READS_MAX: usize = 10;

/// The content of a file that nobody is writing to: one that changed just now is read again until two reads, 0.3 s
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_rest_is_read_once_and_a_hot_one_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("main.cf");
        std::fs::write(&path, "a = 1\n").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(read_at_rest(&path).unwrap(), b"a = 1\n");
        file.set_modified(SystemTime::now()).unwrap();
        assert_eq!(read_at_rest(&path).unwrap(), b"a = 1\n");
        assert!(read_at_rest(&directory.path().join("none")).is_err());
    }
}
