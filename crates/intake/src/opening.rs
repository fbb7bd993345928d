//! From the settings to a back end, in the three steps in which a service process starts: with its privileges, behind the
//! jail, and with threads.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use postfix::notice::Notice;
use postfix::settings::Settings;
use postfix::settings::words::Submit;
use spool::committer::Clock;
use spool::{Spool, UnixDisk};
use tokio::sync::Semaphore;

use super::needs::{Needs, file_threads};
use super::store::directory::{QueueDirectory, remove_stale_drafts};
use super::{Backend, CleanupTables, Local, Lookups, Milters, Postfix, Store, cleanup_options};
use crate::date::DateFormat;
use daemon::log::{Log, Program};

/// What a back end starts from.
pub struct Given<'a> {
    /// The configuration of this service.
    pub settings: &'a Arc<Settings>,
    /// `append_dot_mydomain` is not set, and is on for compatibility.
    pub append_dot_mydomain_by_default: bool,
    /// The addresses of this host, which can take a while to find out.
    pub own_addresses: &'a dyn Fn() -> Vec<IpAddr>,
    /// How tables are opened.
    pub tables: &'a lookup::Options,
    /// How many messages may wait for table servers at a time, each with a thread of its own.
    pub remote_lookups_max: usize,
    /// For `Date:` and `Received:`.
    pub dates: DateFormat,
    /// The user that the process will become.
    pub owner: Option<u32>,
    /// Whether this process settles the journals of processes that are gone: our own master has another process for that.
    pub settles: bool,
    /// Tells the time, on any thread.
    pub clock: Clock,
    /// Where lines go.
    pub log: &'a Log,
}

/// A back end that has opened what it could not open behind the jail.
pub struct Opened {
    common: Common,
    queue: QueueDirectory,
    /// For our own cleanup; Postfix's has its own.
    local: Option<(Lookups, Option<Milters>)>,
}

/// A back end behind the jail, as long as there are no threads.
pub struct Confined {
    common: Common,
    /// For our own cleanup.
    local: Option<(Spool<UnixDisk>, Lookups, Option<Milters>)>,
}

/// What both ways start from.
struct Common {
    settings: Arc<Settings>,
    options: cleanup::Options,
    dates: DateFormat,
    settles: bool,
    clock: Clock,
    log: Log,
}

impl Opened {
    /// Opens tables, mail filters and the queue directory, which must be the working directory.
    ///
    /// # Errors
    /// What cannot be opened, in words.
    pub fn open(given: Given<'_>) -> Result<Self, String> {
        let Given { settings, log, .. } = given;
        let (own_addresses, local) = match settings.qmqpd_submit {
            Submit::Postfix => (Vec::new(), None),
            Submit::Local => {
                let own_addresses = (given.own_addresses)();
                let mut notices = Vec::new();
                let tables = CleanupTables::open(settings, given.tables, &mut notices);
                notices.iter().for_each(|notice| log.notice(Program::Cleanup, notice));
                let turns = Arc::new(Semaphore::new(given.remote_lookups_max));
                let tables = tables.map_err(|error| error.to_string())?;
                let lookups = Lookups::new(tables, turns, settings.qmqpd_session_deadline);
                (own_addresses, Some((lookups, Milters::open(settings, file_threads(settings), log))))
            }
        };
        let queue =
            QueueDirectory::open().map_err(|error| format!("open {}: {error}", settings.queue_directory))?;
        if Backend::needs(settings).keeps_journal {
            queue.create_journal(given.owner, log);
        }
        let options = cleanup_options(settings, given.append_dot_mydomain_by_default, own_addresses);
        let common = Common {
            settings: Arc::clone(settings),
            options,
            dates: given.dates,
            settles: given.settles,
            clock: given.clock,
            log: log.clone(),
        };
        Ok(Self { common, queue, local })
    }

    /// Opens the queue for our own cleanup. For Postfix's it is opened only if an earlier process of ours has left a journal.
    ///
    /// Where this process settles, journals without a process are settled here, as long as all queues are in sight. What
    /// cannot be settled now stays for the next process, and holds up no client.
    ///
    /// # Errors
    /// The queue cannot be opened, in words.
    pub fn confined(self) -> Result<Confined, String> {
        let Self { common, queue, local } = self;
        let Common { settings, log, .. } = &common;
        if local.is_none() && queue.has_no_journal() {
            return Ok(Confined { common, local: None });
        }
        let spool = match local.is_some() {
            true => queue.with_journal(settings, log).map_err(|error| error.to_string())?,
            false => match queue.without_journal(settings, log) {
                Ok(spool) => spool,
                // Postfix's cleanup(8) does the work, and finds out for itself whether it can.
                Err(_) => return Ok(Confined { common, local: None }),
            },
        };
        if common.settles
            && let Err(error) = spool.settle(&*common.clock)
        {
            let text = format!("journals of earlier processes will be settled later: {error}");
            log.notice(Program::Cleanup, &Notice::warning(text));
        }
        let local = local.map(|(lookups, milters)| (spool, lookups, milters));
        Ok(Confined { common, local })
    }
}

impl Confined {
    /// What the process needs from here on.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Backend::needs(&self.common.settings);
        if let Some((_, lookups, milters)) = &self.local {
            needs.jail.connect_to(&lookups.inet_servers());
            milters.iter().for_each(|milters| needs.jail.connect_to(&milters.inet_servers()));
        }
        needs
    }

    /// Starts its threads, and its tasks: needs the runtime. At most so many sessions use it at a time.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(self, sessions_max: usize) -> io::Result<Backend> {
        let Self { common: Common { settings, options, dates, clock, log, .. }, local } = self;
        let options = Arc::new(options);
        let Some((spool, lookups, milters)) = local else {
            let threads = file_threads(&settings);
            return Ok(Backend::Postfix(Arc::new(Postfix::new(&settings, options, dates, threads, log))));
        };
        remove_stale_drafts(&spool, &clock, &log)?;
        Ok(Backend::Local(Local {
            store: Store::start(spool, clock, &settings, sessions_max, log.clone())?,
            options,
            lookups,
            milters: milters.map(Arc::new),
            dates,
            log,
        }))
    }
}
