//! Telling the queue manager that there is new mail.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postfix::settings::Settings;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Wakes the queue manager through its socket or named pipe, if it has one. Requests that come while one is under way, or soon
/// after it, are made into one: a scan of the incoming queue finds all files that were there before it began.
#[derive(Debug, Clone)]
pub(super) struct Wake {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_due: AtomicBool,
    due: Notify,
}

impl Wake {
    /// Starts the task that does the waking. `service` is relative to the queue directory, `public/qmgr` as a rule.
    pub(super) fn start(service: &str, trigger_timeout: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let waker = Self { shared: Arc::clone(&shared) };
        let service = service.to_owned();
        tokio::spawn(async move {
            loop {
                shared.due.notified().await;
                while shared.is_due.swap(false, Ordering::AcqRel) {
                    // Nothing waits for this or depends on it: without the trigger the queue manager finds
                    // the file at its next scan, as cleanup(8) documents.
                    let _ = timeout(trigger_timeout, trigger(Path::new(&service))).await;
                    sleep(PAUSE).await;
                }
            }
        });
        waker
    }

    /// Asks for a scan of the incoming queue; returns at once.
    pub(super) fn queue_manager(&self) {
        if !self.shared.is_due.swap(true, Ordering::AcqRel) {
            self.shared.due.notify_one();
        }
    }
}

/// Wakes the queue manager once, from a process without a runtime. Waits as long as that may take.
pub(super) fn wake_once(service: &str, trigger_timeout: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    if let Ok(runtime) = runtime {
        // As above.
        let _ = runtime.block_on(async { timeout(trigger_timeout, trigger(Path::new(service))).await });
    }
}

/// Where the queue manager is woken, relative to the queue directory.
pub(super) fn queue_manager(settings: &Settings) -> String {
    format!("public/{}", settings.queue_service_name)
}

/// Where a process that wakes the queue manager writes into a named pipe. Postfix makes the pipe anew when it starts, so it is the
/// directory that counts. Call it where the queue directory is the working directory.
pub(super) fn pipe_directories(settings: &Settings) -> Vec<PathBuf> {
    let service = PathBuf::from(queue_manager(settings));
    service.parent().filter(|_| is_named_pipe(&service)).map(Path::to_owned).into_iter().collect()
}

/// As Postfix's own programs do, it looks at the file for what the service is: its type in master.cf is not ours to know,
/// and may have changed since we started.
async fn trigger(service: &Path) -> std::io::Result<()> {
    if is_named_pipe(service) {
        // Without a reader this is an error, and never waits.
        let mut sender = pipe::OpenOptions::new().open_sender(service)?;
        return sender.write_all(SCAN_INCOMING).await;
    }
    let mut stream = UnixStream::connect(service).await?;
    stream.write_all(SCAN_INCOMING).await
}

/// Whether a service has the type `fifo` in master.cf, as the queue manager has in old configurations.
fn is_named_pipe(service: &Path) -> bool {
    std::fs::symlink_metadata(service).is_ok_and(|file| file.file_type().is_fifo())
}

/// Between one wake-up and the next. The first message is delivered at once; of a thousand a second the queue manager
/// hears often enough.
const PAUSE: Duration = Duration::from_millis(20);

/// `W`: wake up; what cleanup(8) of Postfix 3.7 sends after each message.
const SCAN_INCOMING: &[u8] = b"W\0";

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Instant;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn named_pipe() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmgr");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    /// Its pipe is full, and it reads nothing.
    #[test]
    fn a_queue_manager_that_hangs_is_given_up() {
        let (_directory, service) = named_pipe();
        let mut both_ends = std::fs::File::options();
        let both_ends = both_ends.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let mut pipe = both_ends.open(&service).unwrap();
        while pipe.write(&[0; 4096]).is_ok() {}
        while pipe.write(&[0]).is_ok() {}
        let (done, is_done) = std::sync::mpsc::channel();
        let limit = Duration::from_millis(200);
        let began = Instant::now();
        std::thread::spawn(move || {
            wake_once(&service, limit);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(PATIENCE).expect("it waits for ever");
        assert!(began.elapsed() >= limit, "given up after {:?}", began.elapsed());
    }

    /// One is for all messages that come until the next, and the last message has one behind it.
    #[tokio::test]
    async fn many_messages_make_few_wake_ups() {
        let (_directory, service) = named_pipe();
        let mut reader = std::fs::File::options().read(true).write(true).open(&service).unwrap();
        let wake = Wake::start(&service, PATIENCE);
        let began = Instant::now();
        for _ in 0..200 {
            wake.queue_manager();
            sleep(Duration::from_millis(1)).await;
        }
        let until = Instant::now() + PATIENCE;
        while wake.shared.is_due.load(Ordering::Acquire) && Instant::now() < until {
            sleep(PAUSE).await;
        }
        let most = began.elapsed().as_millis() / PAUSE.as_millis() + 2;
        let mut told = [0; 4096];
        let count = reader.read(&mut told).unwrap() / SCAN_INCOMING.len();
        assert!(count >= 1 && count as u128 <= most, "{count} wake-ups, {most} at most");
    }
}
