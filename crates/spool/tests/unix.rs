//! The spool on the machine's own file system.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use postfix::notice::Notice;
use postfix::queue_id::QueueId;
use spool::simulated::Simulated;
use spool::{Disk, ErrorKind, Options, Queue, Spool, SpoolError, Timestamp, UnixDisk, directories};

/// A queue in a directory that goes away, and what was logged.
struct Fixture {
    directory: tempfile::TempDir,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), notices: Arc::default() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, options: &Options) -> Result<Spool<UnixDisk>, SpoolError> {
        let notices = Arc::clone(&self.notices);
        let disk = UnixDisk::open(self.directory.path()).unwrap();
        Spool::open(disk, options, Arc::new(move |notice| notices.lock().unwrap().push(notice)))
    }

    fn log(&self) -> Vec<String> {
        self.notices.lock().unwrap().iter().map(|notice| notice.text.clone()).collect()
    }

    /// Descriptors of this process below the queue directory, so that tests beside this one do not count.
    fn open_descriptors(&self) -> usize {
        let is_ours = |link: &fs::DirEntry| {
            fs::read_link(link.path()).is_ok_and(|to| to.starts_with(self.directory.path()))
        };
        fs::read_dir("/proc/self/fd").unwrap().flatten().filter(is_ours).count()
    }
}

fn own_queue() -> Options {
    Options { create_missing: true, ..Options::default() }
}

fn hashed(depth: usize) -> Options {
    let names = ["incoming", "defer", "deferred"].map(str::to_owned).to_vec();
    Options { hash_queue_names: names, hash_queue_depth: depth, ..own_queue() }
}

/// With drafts that have names from the beginning, as where files cannot be without one.
fn named(options: Options) -> Options {
    Options { names_drafts: true, ..options }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp { seconds: now.as_secs(), microseconds: now.subsec_micros() }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_message_appears_ready_under_its_id_and_nothing_else_stays() {
    for options in [own_queue(), named(own_queue())] {
        appears_ready(&options);
    }
}

fn appears_ready(options: &Options) {
    let fixture = Fixture::new();
    let spool = fixture.open(options).unwrap();
    let descriptors = fixture.open_descriptors();
    let mut draft = spool.create(&now).unwrap();
    let path = fixture.path(&format!("incoming/{}", draft.queue_id()));
    if options.names_drafts {
        assert_eq!(mode(&path), 0o1600, "a draft is marked");
    } else {
        assert_eq!(spool.list(Queue::Incoming).count(), 0, "a draft has no name");
    }
    draft.write_at(6, b"world").unwrap();
    draft.write_at(0, b"hello ").unwrap();
    let created = draft.created();
    let receipt = draft.commit().unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    assert_eq!(fs::read(&path).unwrap(), b"hello world");
    assert_eq!(mode(&path), 0o700);
    assert_eq!(*receipt.queue_id(), QueueId::new(false, created.seconds, created.microseconds, inode));
    assert_eq!(fs::read_dir(fixture.path("incoming")).unwrap().count(), 1);
    assert_eq!(fixture.open_descriptors(), descriptors);
    assert_eq!(fixture.log(), Vec::<String>::new());
}

#[test]
fn a_dropped_draft_is_gone() {
    for options in [hashed(2), named(hashed(2))] {
        let fixture = Fixture::new();
        let spool = fixture.open(&options).unwrap();
        let descriptors = fixture.open_descriptors();
        let mut draft = spool.create(&now).unwrap();
        draft.write_at(0, b"half a").unwrap();
        assert_eq!(spool.list(Queue::Incoming).count(), usize::from(options.names_drafts));
        drop(draft);
        assert_eq!(spool.list(Queue::Incoming).count(), 0);
        assert_eq!(fixture.open_descriptors(), descriptors);
        assert_eq!(fixture.log(), Vec::<String>::new());
    }
}

#[test]
fn directories_have_the_names_and_modes_of_postfix() {
    let fixture = Fixture::new();
    fixture.open(&own_queue()).unwrap();
    for (names, wanted) in [
        ("incoming active deferred hold corrupt saved bounce defer trace flush private", 0o700),
        ("public", 0o710),
        ("maildrop", 0o730),
        ("pid", 0o755),
    ] {
        for name in names.split(' ') {
            assert_eq!(mode(&fixture.path(name)), wanted, "{name}");
        }
    }
    fs::set_permissions(fixture.path("incoming"), fs::Permissions::from_mode(0o755)).unwrap();
    fixture.open(&own_queue()).unwrap();
    assert!(fixture.log()[0].contains("incoming: mode 0755 gives access to others"), "{:?}", fixture.log());
}

#[test]
fn a_queue_that_cannot_be_used_is_refused_in_words() {
    let missing = Fixture::new();
    let words = missing.open(&Options::default()).unwrap_err().to_string();
    assert!(words.contains("incoming: the directory does not exist; "), "{words}");

    let file = Fixture::new();
    fs::write(file.path("incoming"), b"").unwrap();
    let error = file.open(&own_queue()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Layout);
    assert!(error.to_string().contains("incoming: it is not a directory; "), "{error}");

    let link = Fixture::new();
    symlink("/tmp", link.path("incoming")).unwrap();
    assert!(link.open(&own_queue()).unwrap_err().to_string().contains("it is not a directory"));

    let shut = Fixture::new();
    shut.open(&own_queue()).unwrap();
    fs::set_permissions(shut.path("incoming"), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(shut.open(&own_queue()).unwrap_err().to_string().contains("its mode is 0500"));
}

#[test]
fn root_gives_the_directories_away_and_then_does_not_write_into_them() {
    let fixture = Fixture::new();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    if disk.user() != 0 {
        // Only root can give files away; the check for a wrong owner is the same for everybody.
        assert!(
            directories::create_missing(
                &disk,
                Some(directories::Owners { mail_owner_uid: 4711, setgid_group_gid: 4712 })
            )
            .is_err()
        );
        return;
    }
    let owners = directories::Owners { mail_owner_uid: 4711, setgid_group_gid: 4712 };
    directories::create_missing(&disk, Some(owners)).unwrap();
    for (name, uid, gid) in
        [("incoming", 4711, 0), ("public", 4711, 4712), ("maildrop", 4711, 4712), ("pid", 0, 0)]
    {
        let metadata = fs::metadata(fixture.path(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{name}");
    }
    assert_eq!(mode(&fixture.path("maildrop")), 0o730);
    let words = fixture.open(&Options::default()).unwrap_err().to_string();
    assert!(words.contains("it belongs to user 4711, but this process runs as user 0"), "{words}");
}

#[test]
fn a_missing_queue_is_told_and_one_on_another_file_system_is_refused() {
    let fixture = Fixture::new();
    fixture.open(&own_queue()).unwrap();
    fs::remove_dir(fixture.path("deferred")).unwrap();
    assert!(fixture.open(&Options::default()).is_ok());
    assert!(fixture.log()[0].contains("deferred: the directory does not exist"), "{:?}", fixture.log());

    let disk = Simulated::new();
    directories::create_missing(&disk, None).unwrap();
    disk.set_device("active", 2);
    let words = directories::verify(&disk).unwrap_err().to_string();
    assert!(words.contains("active: it is on another file system than incoming; "), "{words}");
}

#[test]
fn names_taken_within_one_microsecond_are_tried_again() {
    let fixture = Fixture::new();
    let spool = fixture.open(&named(own_queue())).unwrap();
    let frozen = now();
    // The temporary name, in another's hands.
    let taken = format!("incoming/{}.{}", frozen.microseconds, std::process::id());
    fs::write(fixture.path(&taken), b"another's").unwrap();
    let drafts: Vec<_> = (0..20).map(|_| spool.create(&|| frozen).unwrap()).collect();
    let mut ids: Vec<String> = drafts.iter().map(|draft| draft.queue_id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    drop(drafts);
    assert_eq!(fs::read(fixture.path(&taken)).unwrap(), b"another's");
    assert_eq!(fs::read_dir(fixture.path("incoming")).unwrap().count(), 1);
}

#[test]
fn a_file_clock_ahead_of_ours_is_told_and_corrected() {
    let fixture = Fixture::new();
    let spool = fixture.open(&own_queue()).unwrap();
    let early = now().minus_seconds(1000);
    for _ in 0..3 {
        let draft = spool.create(&|| early).unwrap();
        let path = fixture.path(&format!("incoming/{}", draft.queue_id()));
        let receipt = draft.commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mtime(), early.seconds as i64, "{}", receipt.queue_id());
    }
    let log = fixture.log();
    assert_eq!(log.len(), 2, "once, not for each message: {log:?}");
    assert!(
        log[0].starts_with("file system clock is 100") && log[0].ends_with("seconds ahead of local clock")
    );
}

#[test]
fn logs_of_an_earlier_message_with_the_same_id_go() {
    let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let log = Arc::clone(&notices);
    let notify: spool::Notify = Arc::new(move |notice| log.lock().unwrap().push(notice));
    let options = Options { hash_queue_names: vec!["defer".to_owned()], ..own_queue() };
    let disk = Simulated::new();
    drop(Spool::open(disk.clone(), &options, Arc::clone(&notify)).unwrap());
    for digit in "0123456789ABCDEF".chars() {
        disk.create_directory(&format!("defer/{digit}"), 0o700).unwrap();
    }
    // A copy of the disk gives the same inode numbers, so it tells the ID that the next message will have.
    let next_id = |disk: Simulated| {
        disk.put("defer/x", 0o600, b"");
        disk.put("trace/x", 0o600, b"");
        let spool = Spool::open(disk, &options, Arc::clone(&notify)).unwrap();
        *spool.create(&|| Timestamp { seconds: 5, microseconds: 6 }).unwrap().queue_id()
    };
    let wanted = next_id(disk.after_kill());
    let logs = [format!("defer/{}{wanted}", wanted.hash_dir_path(1)), format!("trace/{wanted}")];
    for path in &logs {
        disk.put(path, 0o600, b"about another message");
    }
    notices.lock().unwrap().clear();
    let spool = Spool::open(disk.clone(), &options, notify).unwrap();
    let draft = spool.create(&|| Timestamp { seconds: 5, microseconds: 6 }).unwrap();
    assert_eq!(*draft.queue_id(), wanted);
    let words: Vec<String> = notices.lock().unwrap().iter().map(|notice| notice.text.clone()).collect();
    let spurious = |directory: &str| format!("{directory}: removed spurious {wanted} log");
    assert!(words.starts_with(&[spurious("defer"), spurious("trace")]), "{words:?}");
    for path in &logs {
        assert_eq!(disk.bytes(path), None);
    }
}

#[test]
fn empty_log_directories_are_left_alone_until_they_change() {
    let disk = Simulated::new();
    let options = named(Options { hash_queue_names: Vec::new(), ..own_queue() });
    let spool = Spool::open(disk.clone(), &options, Arc::new(|_| ())).unwrap();
    let moment = |seconds: u64| Timestamp { seconds: 1_795_000_000 + seconds, microseconds: 6 };
    let calls_at = |seconds: u64| {
        disk.set_clock(moment(seconds));
        let before = disk.calls();
        let receipt = spool.create(&|| moment(seconds)).unwrap().commit().unwrap();
        assert!(disk.bytes(&format!("incoming/{}", receipt.queue_id())).is_some());
        disk.calls() - before
    };
    // Just made, so that nobody can say that they will not change without a trace: look, and unlink.
    let careful = calls_at(0);
    // Now each is looked into, and from then on it is known.
    assert_eq!(calls_at(10), careful);
    assert_eq!(calls_at(11), careful - 3);
    disk.put("defer/ABC123", 0o600, b"a log");
    assert_eq!(calls_at(12), careful - 2);
    // The message whose log this is comes back in this very second.
    let copy = disk.after_kill();
    copy.put("defer/X", 0o600, b"");
    let copied = Spool::open(copy, &options, Arc::new(|_| ())).unwrap();
    let wanted = *copied.create(&|| moment(13)).unwrap().queue_id();
    disk.put(&format!("defer/{wanted}"), 0o600, b"");
    assert_eq!(*spool.create(&|| moment(13)).unwrap().queue_id(), wanted);
    assert_eq!(disk.bytes(&format!("defer/{wanted}")), None);
    assert!(disk.bytes("defer/ABC123").is_some());
}

#[test]
fn only_our_own_orphans_are_removed() {
    let fixture = Fixture::new();
    let spool = fixture.open(&named(hashed(1))).unwrap();
    let old = now().minus_seconds(3600);
    let place = |name: &str, mode: u32| {
        fs::create_dir_all(fixture.path(name).parent().unwrap()).unwrap();
        fs::write(fixture.path(name), b"some").unwrap();
        fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(mode)).unwrap();
        let old = UNIX_EPOCH + std::time::Duration::from_secs(old.seconds);
        fs::File::open(fixture.path(name)).unwrap().set_modified(old).unwrap();
    };
    place("incoming/123456.789", 0o1600);
    place("incoming/A/A1B2C3D4E5", 0o1600);
    place("hold/A2B2C3D4E5", 0o1600);
    let stay = ["incoming/123457.790", "incoming/B/B1B2C3D4E5", "incoming/C/C1B2C3D4E5", "incoming/README"];
    place(stay[0], 0o600); // cleanup(8) at work
    place(stay[1], 0o600); // cleanup(8) at work
    place(stay[2], 0o700); // a message
    place(stay[3], 0o644);
    place("active/D1B2C3D4E5", 0o1600); // not where drafts of ours are
    let alive = spool.create(&now).unwrap();
    let alive_path = spool.find(alive.queue_id()).unwrap().unwrap().path;
    // Ours, old, and still being written by a slow client.
    let old_time = UNIX_EPOCH + std::time::Duration::from_secs(old.seconds);
    fs::File::open(fixture.path(&alive_path)).unwrap().set_modified(old_time).unwrap();
    place("incoming/E/E1B2C3D4E5", 0o1600);
    fs::File::open(fixture.path("incoming/E/E1B2C3D4E5")).unwrap().set_modified(SystemTime::now()).unwrap();

    let notices = spool.remove_stale(now().minus_seconds(60)).unwrap();
    let mut words: Vec<&str> = notices.iter().map(|notice| notice.text.as_str()).collect();
    words.sort_unstable();
    assert_eq!(
        words,
        [
            "removed hold/A2B2C3D4E5, left incomplete by a process that has exited",
            "removed incoming/123456.789, left incomplete by a process that has exited",
            "removed incoming/A/A1B2C3D4E5, left incomplete by a process that has exited",
        ]
    );
    for path in stay.into_iter().chain(["active/D1B2C3D4E5", "incoming/E/E1B2C3D4E5", alive_path.as_str()]) {
        assert!(fixture.path(path).exists(), "{path} must stay");
    }
    assert!(alive.commit().is_ok());
}

#[test]
fn a_message_on_hold_is_where_the_queue_manager_does_not_look() {
    for (depth, names_drafts) in [(0, false), (0, true), (2, false), (2, true)] {
        let fixture = Fixture::new();
        let names = if depth == 0 { vec![] } else { vec!["hold".to_owned()] };
        let options = Options {
            hash_queue_names: names,
            hash_queue_depth: depth,
            names_drafts,
            create_missing: true,
            ..Options::default()
        };
        let spool = fixture.open(&options).unwrap();
        let mut draft = spool.create(&now).unwrap();
        draft.write_at(0, b"held").unwrap();
        draft.hold();
        let queue_id = *draft.queue_id();
        let path = format!("hold/{}{queue_id}", queue_id.hash_dir_path(depth));
        assert!(draft.commit().is_ok());
        assert!(fixture.path(&path).exists(), "{path}");
        let entry = spool.find(&queue_id).unwrap().unwrap();
        assert_eq!((entry.queue, entry.path.as_str(), entry.is_ready()), (Queue::Hold, path.as_str(), true));
        let mut dropped = spool.create(&now).unwrap();
        dropped.hold();
        let queue_id = *dropped.queue_id();
        drop(dropped);
        assert_eq!(spool.find(&queue_id).unwrap(), None);
    }
}

#[test]
fn a_name_that_a_restored_file_has_is_left_to_it() {
    let fixture = Fixture::new();
    let spool = fixture.open(&own_queue()).unwrap();
    let mut draft = spool.create(&now).unwrap();
    let path = fixture.path(&format!("incoming/{}", draft.queue_id()));
    fs::write(&path, b"restored").unwrap();
    draft.write_at(0, b"new").unwrap();
    let error = draft.commit().unwrap_err();
    assert!(error.to_string().contains("run postsuper(1)"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"restored");
    assert_eq!(fs::read_dir(fixture.path("incoming")).unwrap().count(), 1);
}

#[test]
fn list_and_find_see_flat_and_hashed_queues_and_legal_names_only() {
    let fixture = Fixture::new();
    let spool = fixture.open(&named(hashed(2))).unwrap();
    for name in
        ["deferred/A1B2C3", "deferred/D/D1B2C3", "deferred/E/1/E1B2C3", "deferred/x.y", "deferred/FF/F1B2C3"]
    {
        fs::create_dir_all(fixture.path(name).parent().unwrap()).unwrap();
        fs::write(fixture.path(name), b"12345").unwrap();
        fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(fixture.directory.path().join("deferred").join("G1B2C3"), b"").unwrap();
    fs::create_dir(fixture.path("deferred/ABCDEF")).unwrap();
    let draft = spool.create(&now).unwrap();
    let mut entries: Vec<_> = spool.list(Queue::Deferred).map(Result::unwrap).collect();
    entries.sort_by_key(|entry| entry.queue_id);
    let seen: Vec<_> = entries.iter().map(|entry| (entry.path.as_str(), entry.is_ready())).collect();
    assert_eq!(
        seen,
        [
            ("deferred/A1B2C3", true),
            ("deferred/D/D1B2C3", true),
            ("deferred/E/1/E1B2C3", true),
            ("deferred/G1B2C3", false)
        ]
    );
    assert_eq!(entries[0].status.size_bytes, 5);
    for entry in &entries {
        assert_eq!(spool.find(&entry.queue_id).unwrap().as_ref(), Some(entry));
    }
    assert_eq!(spool.find(&QueueId::parse("F1B2C3").unwrap()).unwrap(), None);
    let found = spool.find(draft.queue_id()).unwrap().unwrap();
    assert!(found.queue == Queue::Incoming && found.is_draft() && !found.is_ready());
    fs::remove_dir_all(fixture.path("hold")).unwrap();
    assert_eq!(spool.list(Queue::Hold).count(), 0);
}

#[test]
fn the_queue_is_found_again_wherever_the_process_or_the_queue_goes() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("before")).unwrap();
    let disk = UnixDisk::open(&fixture.path("before")).unwrap();
    let spool = Spool::open(disk, &own_queue(), Arc::new(|_| ())).unwrap();
    fs::rename(fixture.path("before"), fixture.path("after")).unwrap();
    let receipt = spool.create(&now).unwrap().commit().unwrap();
    assert!(fixture.path(&format!("after/incoming/{}", receipt.queue_id())).exists());
}

/// Another user may own the directory above, and put a link where we look for a directory.
#[test]
fn owner_and_mode_of_what_a_link_names_stay_as_they_are() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("queue")).unwrap();
    let target = fixture.path("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&target, fixture.path("queue/link")).unwrap();
    let disk = UnixDisk::open(&fixture.path("queue")).unwrap();
    assert!(disk.set_directory_mode("link", 0o700).is_err());
    assert!(disk.set_directory_owner("link", 1, Some(1)).is_err());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o755);
    disk.create_directory("own", 0o710).unwrap();
    assert_eq!(fs::metadata(fixture.path("queue/own")).unwrap().permissions().mode() & 0o7777, 0o710);
}

/// The limit is that of a process, so the rest runs in one of its own, started by a shell that sets it.
#[test]
fn a_file_size_limit_is_an_error_with_a_kind() {
    if std::env::var_os("SPOOL_TEST_SIZE_LIMIT").is_none() {
        let shell = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact a_file_size_limit_is_an_error_with_a_kind --nocapture";
        let child = std::process::Command::new("/bin/sh")
            .args(["-c", shell])
            .arg(std::env::current_exe().unwrap())
            .env("SPOOL_TEST_SIZE_LIMIT", "8 blocks of 512 bytes")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{child:?}");
        return;
    }
    let fixture = Fixture::new();
    let spool = fixture.open(&own_queue()).unwrap();
    let mut draft = spool.create(&now).unwrap();
    draft.write_at(0, &[b'x'; 4096]).unwrap();
    let error = draft.write_at(4096, b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("message_size_limit"), "{error}");
    assert!(draft.commit().is_err());
    assert_eq!(spool.list(Queue::Incoming).count(), 0);
}

/// What is beyond the largest offset that there is.
#[test]
fn an_offset_that_no_file_has_is_an_error() {
    let fixture = Fixture::new();
    let spool = fixture.open(&own_queue()).unwrap();
    let mut draft = spool.create(&now).unwrap();
    assert!(draft.write_at(i64::MAX as u64, b"xx").is_err());
    assert!(draft.commit().is_err());
    assert_eq!(spool.list(Queue::Incoming).count(), 0);
}

/// A symbolic link in the queue leads nowhere, and a named pipe stops nothing.
#[test]
fn only_what_lies_in_the_queue_itself_is_opened() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("incoming")).unwrap();
    fs::create_dir(fixture.path("elsewhere")).unwrap();
    fs::write(fixture.path("elsewhere/file"), b"secret").unwrap();
    symlink("../elsewhere/file", fixture.path("incoming/link")).unwrap();
    symlink("elsewhere", fixture.path("directory")).unwrap();
    let disk = Arc::new(UnixDisk::open(fixture.directory.path()).unwrap());
    assert!(disk.open("incoming/link").is_err());
    assert!(disk.open_to_write("incoming/link").is_err());
    assert!(disk.create_new("incoming/link", 0o600).is_err());
    assert!(disk.names("directory").is_err());
    assert!(disk.is_empty("directory").is_err());
    let before = mode(&fixture.path("elsewhere"));
    assert!(disk.set_directory_mode("directory", 0o711).is_err());
    assert!(disk.set_directory_mode("elsewhere/file", 0o711).is_err(), "only directories");
    assert_eq!(mode(&fixture.path("elsewhere")), before);
    assert!(disk.names("elsewhere/file").is_err());
    assert!(UnixDisk::open(&fixture.path("elsewhere/file")).is_err());

    let (pipe, mode) = (fixture.path("incoming/pipe"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (to, from) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let opened = disk.open("incoming/pipe");
        to.send(opened.is_ok()).unwrap();
    });
    assert_eq!(from.recv_timeout(std::time::Duration::from_secs(20)), Ok(true), "it waits for the other end");
}

/// A program that this one starts inherits no file of the queue.
#[test]
fn every_descriptor_is_closed_on_exec() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("incoming")).unwrap();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    let new = disk.create_new("incoming/a", 0o600).unwrap();
    let nameless = disk.create_nameless("incoming", 0o600);
    let files = [disk.open("incoming/a").unwrap(), disk.open_to_write("incoming/a").unwrap(), new];
    disk.sync_all().unwrap();
    let mut seen = 0;
    for link in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if fs::read_link(link.path()).is_ok_and(|to| to.starts_with(fixture.directory.path())) {
            let about = fs::read_to_string(Path::new("/proc/self/fdinfo").join(link.file_name())).unwrap();
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            assert_ne!(i64::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "{link:?} has flags {flags}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 + files.len() + usize::from(nameless.is_ok()));
}

/// What the system says of a file is what we say of it.
#[test]
fn the_status_of_a_file_is_told_whole() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("incoming")).unwrap();
    fs::write(fixture.path("incoming/a"), b"12345").unwrap();
    fs::hard_link(fixture.path("incoming/a"), fixture.path("incoming/b")).unwrap();
    fs::set_permissions(fixture.path("incoming/a"), fs::Permissions::from_mode(0o1640)).unwrap();
    let modified = UNIX_EPOCH + std::time::Duration::from_micros(1_795_000_000_123_456);
    fs::File::open(fixture.path("incoming/a")).unwrap().set_modified(modified).unwrap();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    let metadata = fs::metadata(fixture.path("incoming/a")).unwrap();
    for status in
        [disk.status("incoming/a").unwrap(), disk.file_status(&disk.open("incoming/b").unwrap()).unwrap()]
    {
        assert_eq!(status.modified, Timestamp { seconds: 1_795_000_000, microseconds: 123_456 });
        assert_eq!((status.mode, status.links, status.size_bytes), (0o1640, 2, 5));
        assert_eq!((status.inode, status.device), (metadata.ino(), metadata.dev()));
        assert_eq!((status.uid, status.gid), (metadata.uid(), metadata.gid()));
        assert_eq!(status.kind, spool::FileKind::Regular);
    }
    symlink("a", fixture.path("incoming/link")).unwrap();
    assert_eq!(disk.status("incoming/link").unwrap().kind, spool::FileKind::Other);
    assert_eq!(disk.status("").unwrap().kind, spool::FileKind::Directory);
    let file = disk.open_to_write("incoming/a").unwrap();
    let earlier = Timestamp { seconds: 1_700_000_000, microseconds: 654_321 };
    disk.set_modified(&file, earlier).unwrap();
    assert_eq!(disk.file_status(&file).unwrap().modified, earlier);
}

/// A lock of another process keeps ours away; those of the descriptor itself do not.
#[test]
fn a_lock_belongs_to_the_open_file() {
    let fixture = Fixture::new();
    fs::write(fixture.path("file"), b"").unwrap();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    let (first, second) = (disk.open_to_write("file").unwrap(), disk.open_to_write("file").unwrap());
    let reader = disk.open("file").unwrap();
    assert!(!disk.is_locked(&reader).unwrap());
    assert!(disk.try_lock(&first).unwrap() && disk.try_lock(&first).unwrap());
    assert!(!disk.try_lock(&second).unwrap());
    assert!(disk.is_locked(&reader).unwrap() && disk.is_locked(&second).unwrap());
    assert!(!disk.is_locked(&first).unwrap());
    disk.close(first).unwrap();
    assert!(disk.try_lock(&second).unwrap());
}

/// What a sync says is what the system says. No file that can be synced fails here, but a named pipe cannot be.
#[test]
fn a_sync_that_the_system_refuses_is_an_error() {
    let fixture = Fixture::new();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    assert!(
        disk.prepare_sync_all().is_err() && disk.sync_all().is_err(),
        "there is nothing to hear errors by"
    );
    fs::create_dir(fixture.path("incoming")).unwrap();
    assert!(disk.sync_all().is_ok());
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let pipe = fixture.path("incoming/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let pipe = disk.open_to_write("incoming/pipe").unwrap();
    assert!(disk.sync(&pipe).is_err() && disk.sync_data(&pipe).is_err());
    assert!(disk.truncate(&pipe, 0).is_err());
}

#[test]
fn a_file_is_cut_off_where_it_shall_be() {
    let fixture = Fixture::new();
    fs::write(fixture.path("file"), b"12345").unwrap();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    let file = disk.open_to_write("file").unwrap();
    disk.truncate(&file, 3).unwrap();
    assert!(disk.sync(&file).is_ok() && disk.sync_data(&file).is_ok());
    assert_eq!(fs::read(fixture.path("file")).unwrap(), b"123");
}

#[test]
fn a_directory_is_empty_until_something_is_in_it() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("defer")).unwrap();
    let disk = UnixDisk::open(fixture.directory.path()).unwrap();
    assert_eq!(disk.describe(), fixture.directory.path().to_str().unwrap(), "what the log calls it");
    assert!(disk.is_empty("defer").unwrap() && disk.names("defer").unwrap().is_empty());
    fs::write(fixture.path("defer/A1B2C3"), b"").unwrap();
    assert!(!disk.is_empty("defer").unwrap());
    assert_eq!(disk.names("defer").unwrap(), ["A1B2C3"]);
}

/// Linux 6.8 and later tell mounts apart; before, there is no ID that proves anything.
#[test]
fn a_mount_has_one_id_for_all_who_look_and_another_mount_has_another() {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = release.split('.').map_while(|part| part.parse().ok()).take(2).collect();
    let (fixture, proc) = (Fixture::new(), UnixDisk::open(Path::new("/proc")).unwrap());
    fs::create_dir(fixture.path("below")).unwrap();
    let disks = [fixture.directory.path().to_owned(), fixture.path("below")];
    let [disk, below] = disks.map(|path| UnixDisk::open(&path).unwrap().mount_id());
    assert_eq!(disk, below);
    if numbers >= vec![6, 8] {
        assert!(disk != 0 && proc.mount_id() != 0 && disk != proc.mount_id(), "{release}: {disk}");
    }
}
