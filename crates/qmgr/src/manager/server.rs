//! The queue manager as a service process: what it opens, and those who wake it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::config;
use daemon::jail::Needs;
use daemon::log::{Log, Program};
use daemon::peer_address::PeerAddress;
use daemon::service::{Opening, Permit, RejectSlot, Server, Service, Sessions, now};
use intake::{Backend, DateFormat, Given, Settlement, list_options};
use postfix::notice::{Notice, Severity};
use postfix::settings::Settings;
use rustix::process::{Resource, getrlimit};
use spool::lease::Queues;
use spool::{Queue, UnixDisk};
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::lock::{Attempt, Lock};
use super::report::Reporter;
use super::tables::Tables;
use super::work::{Event, Parts, Wake, Work};
use crate::program::QMGR;
use crate::settings::ManagerSettings;

/// The queue manager.
#[derive(Debug)]
pub struct QueueManager;

/// What it has opened with privileges.
pub struct Opened {
    tables: Tables,
    backend: intake::Opened,
    lock: Lock,
    disk: UnixDisk,
    dates: DateFormat,
}

/// The same behind the jail.
pub struct Confined {
    tables: Tables,
    backend: intake::Confined,
    lock: Lock,
    disk: UnixDisk,
    dates: DateFormat,
}

/// What answers wake-ups.
pub struct Manager {
    tables: Arc<Tables>,
    backend: Arc<Backend>,
    events: Mutex<Sender<Event>>,
}

/// Messages that may wait for table servers at a time: there is one thread that asks.
const REMOTE_LOOKUPS_MAX: usize = 4;
/// Reports that are written at the same time.
const REPORTS_MAX: usize = 64;
/// A wake-up has a few bytes.
const WAKE_BYTES_MAX: usize = 64;
/// A program that wakes us has so long for it.
const WAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long deliveries have to end when another process is to take over.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);
/// A queue file, the same for its agent, and two logs of reasons.
const DESCRIPTORS_PER_MESSAGE: u64 = 4;
/// Sockets, tables, and what else there is.
const DESCRIPTORS_BESIDE: u64 = 1024;
/// How often the lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// From so many tries on the wait is worth a line.
const LOCK_TRIES_QUIET: u32 = 50;

impl Server for QueueManager {
    const PROGRAM: &'static dyn config::Program = &QMGR;
    type Opened = Opened;
    type Confined = Confined;
    type Sessions = Manager;
    type Settlement = Settlement;

    fn refusal() -> Vec<u8> {
        Vec::new()
    }

    fn refused(_: PeerAddress) -> Vec<Notice> {
        Vec::new()
    }

    fn descriptors(settings: &Settings) -> u64 {
        let wanted = u64::try_from(settings.qmgr_message_active_limit).unwrap_or(u64::MAX);
        let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        // With fewer, there are fewer messages in hand: see `messages_for`.
        wanted.saturating_mul(DESCRIPTORS_PER_MESSAGE).min(allowed.saturating_sub(DESCRIPTORS_BESIDE))
    }

    fn threads_aside(settings: &Settings) -> usize {
        REMOTE_LOOKUPS_MAX.saturating_add(intake::file_threads(settings)).saturating_add(2)
    }

    fn open(opening: &Opening<'_>) -> Result<Opened, String> {
        let Opening { config, log, arguments } = *opening;
        let settings = &config.settings;
        let options = list_options(settings);
        let own_addresses = config::own_addresses(settings);
        let tables = Tables::open(settings, &options, own_addresses.clone(), log)
            .map_err(|error| error.to_string())?;
        let backend = intake::Opened::open(Given {
            settings,
            append_dot_mydomain_by_default: config.legacy.append_dot_mydomain,
            own_addresses: &|| own_addresses.clone(),
            tables: &options,
            remote_lookups_max: REMOTE_LOOKUPS_MAX,
            dates: DateFormat::local(),
            owner: config.jail.owner.as_ref().map(|owner| owner.user_id),
            settles: false,
            clock: Arc::new(now),
            log,
        })?;
        let disk = UnixDisk::open(Path::new(".")).map_err(|error| error.to_string())?;
        let lock = Lock::open(Path::new(&settings.process_id_directory), &arguments.service_name)?;
        Ok(Opened { tables, backend, lock, disk, dates: DateFormat::local() })
    }

    fn confine(opened: Opened) -> Result<(Confined, Needs), String> {
        let Opened { tables, backend, lock, disk, dates } = opened;
        let backend = backend.confined()?;
        let mut needs = backend.needs().jail;
        needs.connect_to(&tables.inet_servers());
        for directory in Queue::ALL.map(Queue::name).into_iter().chain(["bounce", "defer", "trace"]) {
            if !needs.spool_directories.iter().any(|known| known.as_os_str() == directory) {
                needs.spool_directories.push(directory.into());
            }
        }
        needs.log_directories.retain(|path| !needs.spool_directories.contains(path));
        Ok((Confined { tables, backend, lock, disk, dates }, needs))
    }

    fn assemble(confined: Confined, service: &Service) -> io::Result<Manager> {
        let Confined { tables, backend, lock, disk, dates } = confined;
        let backend = Arc::new(backend.start(REPORTS_MAX)?);
        let tables = Arc::new(tables);
        let mut settings = ManagerSettings::new(&service.settings);
        settings.messages_max = settings.messages_max.min(messages_for(getrlimit(Resource::Nofile).current));
        let (sender, events) = mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        let reporter = Reporter {
            runtime: runtime.clone(),
            backend: Arc::clone(&backend),
            dates,
            hostname: settings.hostname.clone(),
            mail_name: settings.mail_name.clone(),
            bounce_size_max: settings.bounce_size_max,
            events: sender.clone(),
            under_way: HashMap::new(),
        };
        let parts = Parts {
            settings,
            log: service.log.clone(),
            tables: Arc::clone(&tables),
            events,
            sender: sender.clone(),
            runtime,
            reporter,
        };
        let depth = usize::try_from(service.settings.hash_queue_depth).unwrap_or(1);
        let hashed = postfix::text::split_plain_list(&service.settings.hash_queue_names);
        let queues = Queues::new(disk, hashed.into_iter().map(str::to_owned).collect(), depth);
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("queue manager".into()).spawn(move || {
            if wait_for_lock(&lock, &parts.log) {
                Work::new(&queues, parts).run();
            }
            let _process_ends = ended.send(());
            drop(lock);
        })?;
        tokio::spawn(hold_until_drained(service, sender.clone(), has_ended));
        Ok(Manager { tables, backend, events: Mutex::new(sender) })
    }
}

/// How many messages there can be in hand with so many descriptors.
fn messages_for(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return usize::MAX };
    let messages = descriptors.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_PER_MESSAGE;
    usize::try_from(messages).unwrap_or(usize::MAX).max(1)
}

/// Another queue manager may have to finish first.
fn wait_for_lock(lock: &Lock, log: &Log) -> bool {
    let mut tries = 0_u32;
    loop {
        match lock.try_take() {
            Ok(Attempt::Taken) => return true,
            Ok(attempt @ (Attempt::Ours | Attempt::Postfix)) => {
                tries = tries.saturating_add(1);
                if tries == LOCK_TRIES_QUIET {
                    let other = if attempt == Attempt::Ours { "another queue manager" } else { "a Postfix" };
                    let text = format!("{other} works on this queue: waiting for it to end");
                    log.write(Program::Service, Severity::Warning, &text);
                }
            }
            Err(words) => {
                log.write(Program::Service, Severity::Fatal, &words);
                return false;
            }
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Keeps the process from ending, as a client would, until the last delivery has.
fn hold_until_drained(
    service: &Service,
    events: Sender<Event>,
    has_ended: tokio::sync::oneshot::Receiver<()>,
) -> impl Future<Output = ()> + Send + 'static {
    let limit = Arc::clone(&service.connection_limit);
    let commits = Arc::clone(&service.commits);
    async move {
        let _permit = limit.permit().await;
        let _commit = commits.begin().await;
        let mut over = limit.watch();
        let _closed = over.wait_for(|is_over| *is_over).await.is_ok();
        if events.send(Event::Drain).is_ok() {
            let _late = timeout(DRAIN_TIME_MAX, has_ended).await;
        }
    }
}

impl Sessions for Manager {
    fn changed_table(&self) -> Option<String> {
        self.tables.changed().or_else(|| self.backend.changed())
    }

    async fn serve(self: Arc<Self>, socket: OwnedFd, _peer: PeerAddress, permit: Option<Permit>) {
        let _permit = permit;
        let Ok(mut stream) = tokio::net::UnixStream::from_std(socket.into()) else { return };
        let mut bytes = [0; WAKE_BYTES_MAX];
        let mut count = 0;
        let reading = async {
            // The first bytes count at once: a program may keep its connection.
            if let Ok(read) = stream.read(&mut bytes).await {
                count = read;
            }
        };
        let _late = timeout(WAKE_TIME_MAX, reading).await;
        let wake = Wake::of_bytes(bytes.get(..count).unwrap_or_default());
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let _process_ends = events.send(Event::Wake(wake));
    }

    async fn turn_away(self: Arc<Self>, socket: OwnedFd, _peer: PeerAddress, slot: RejectSlot) {
        // The next scan finds what there is.
        drop(socket);
        sleep(Duration::from_millis(1)).await;
        drop(slot);
    }

    fn shut_down(&self) {
        self.backend.shut_down();
    }
}
