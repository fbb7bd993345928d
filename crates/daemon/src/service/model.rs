//! Service processes under a model checker: how they accept clients, report, drain and exit, with the very code of
//! `accept`, `admission`, `commits`, `drain`, `status` and the decisions of `worker`. Sockets, signals and masters
//! are imitated; shuttle decides who runs next. `make model`; a failure prints the schedule that repeats it
//! (`shuttle::replay`).

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use postfix::child::ChildState;
use shuttle::future::{block_on, yield_now};
use shuttle::rand::Rng;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle_tokio::sync::watch;

use super::accept::{Acceptor, Server};
use super::commits::Commits;
use super::connection_limit::{ConnectionLimit, Permit, RejectSlot};
use super::drain;
use super::status::Reporter;
use super::sync::{Notify, spawn};
use super::usage::Usage;
use super::worker::{Noticed, Step};

fn orders() -> usize {
    std::env::var("QMQPD_MODELS").map_or(1000, |text| text.parse().expect("QMQPD_MODELS is a number"))
}

/// Two ways to choose an order: at random, and with few changes between tasks at the worst moments (PCT).
fn check<F: Future<Output = ()> + 'static>(model: impl Fn() -> F + Send + Sync + Clone + 'static) {
    let model = move || block_on(model());
    shuttle::check_random(model.clone(), orders());
    shuttle::check_pct(model, orders(), 3);
}

type Client = usize;

/// No time limit runs out here.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// What all processes and their clients share: the listening sockets, and what has come of whom.
#[derive(Default)]
struct World {
    backlog: Mutex<VecDeque<Client>>,
    somebody_came: Notify,
    durable: Mutex<BTreeSet<Client>>,
    answered: Mutex<BTreeSet<Client>>,
    somebody_was_answered: Notify,
}

impl World {
    fn arrive(&self, client: Client) {
        self.backlog.lock().unwrap().push_back(client);
        self.somebody_came.notify_waiters();
    }

    fn answer(&self, client: Client) {
        assert!(self.answered.lock().unwrap().insert(client), "client {client} was answered twice");
        self.somebody_was_answered.notify_waiters();
    }

    async fn answered(&self, count: usize) {
        loop {
            let more = self.somebody_was_answered.notified();
            if self.answered.lock().unwrap().len() >= count {
                return;
            }
            more.await;
        }
    }
}

/// A service process.
struct Process {
    world: Arc<World>,
    connection_limit: ConnectionLimit,
    usage: Usage,
    commits: Commits,
    accepted: AtomicUsize,
    answered: AtomicUsize,
    is_outdated: AtomicBool,
    has_handed_over: Arc<AtomicBool>,
    /// A session lasts until so many clients of any process have been answered.
    patience: usize,
}

/// One of its listening sockets.
struct Socket {
    process: Arc<Process>,
}

impl Process {
    fn new(world: &Arc<World>, places: usize) -> Self {
        Self {
            world: Arc::clone(world),
            connection_limit: ConnectionLimit::new(places),
            usage: Usage::new(2, NEVER, Duration::ZERO),
            commits: Commits::default(),
            accepted: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            is_outdated: AtomicBool::new(false),
            has_handed_over: Arc::default(),
            patience: 0,
        }
    }

    /// Runs it to its end. Two sockets, so that two tasks accept.
    async fn run(
        self: Arc<Self>,
        relief: Option<Arc<Reporter>>,
        terminated: impl Future<Output = ()>,
        successor_is_wanted: impl Future<Output = ()>,
        hand_over: impl FnOnce(),
    ) {
        let socket = || Socket { process: Arc::clone(&self) };
        let hand_over = || {
            self.has_handed_over.store(true, Ordering::SeqCst);
            hand_over();
        };
        let doors = vec![socket(), socket()];
        let server = Arc::clone(&self);
        drain::run(server, doors, relief, &self.commits, terminated, successor_is_wanted, hand_over).await;
    }

    fn assert_drained(&self) {
        let counts = [&self.accepted, &self.answered].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts[0], counts[1], "accepted, and answered when the process ended");
    }
}

impl Acceptor for Socket {
    type Accepted = Client;

    async fn wait_for_client(&self) -> io::Result<()> {
        loop {
            let more = self.process.world.somebody_came.notified();
            if !self.process.world.backlog.lock().unwrap().is_empty() {
                return Ok(());
            }
            more.await;
        }
    }

    fn accept(&self) -> io::Result<Option<Client>> {
        let client = self.process.world.backlog.lock().unwrap().pop_front();
        if client.is_some() {
            let is_over = self.process.has_handed_over.load(Ordering::SeqCst);
            assert!(!is_over, "a client was accepted after the process had handed over");
            self.process.accepted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(client)
    }
}

impl Server for Process {
    type Acceptor = Socket;

    fn connection_limit(&self) -> &ConnectionLimit {
        &self.connection_limit
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn is_outdated(&self) -> Option<String> {
        self.is_outdated.load(Ordering::SeqCst).then(String::new)
    }

    fn full(&self) {}

    fn begin_drain(&self, _reason: &str) {
        self.connection_limit.close();
    }

    /// As a session does: the message is durable at some time between the two ends of the commit.
    async fn serve(self: Arc<Self>, client: Client, _place: Permit) {
        self.world.answered(self.patience).await;
        let commit = self.commits.begin().await;
        self.world.durable.lock().unwrap().insert(client);
        yield_now().await;
        self.answered.fetch_add(1, Ordering::SeqCst);
        self.world.answer(client);
        drop(commit);
    }

    async fn turn_away(self: Arc<Self>, client: Client, _seat: RejectSlot) {
        yield_now().await;
        self.answered.fetch_add(1, Ordering::SeqCst);
        self.world.answer(client);
    }

    async fn failed(&self, _error: &io::Error) {}
}

/// Something that happens once, for all who wait for it, also for those who come later.
#[derive(Clone)]
struct Event(Arc<watch::Sender<bool>>);

impl Event {
    fn new() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    fn happen(&self) {
        self.0.send_replace(true);
    }

    fn has_happened(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(|happened| *happened).await;
    }
}

fn come(world: &Arc<World>, clients: std::ops::Range<Client>) {
    for client in clients {
        let world = Arc::clone(world);
        spawn(async move { world.arrive(client) });
    }
}

/// A process drains, and a replacement takes over, for any reason, while clients come.
async fn succession(places: usize, begin_drain: impl FnOnce(&Process, &Event)) {
    const CLIENTS: usize = 4;
    let world = Arc::new(World::default());
    let (wanted, ready, end) = (Event::new(), Event::new(), Event::new());
    come(&world, 0..CLIENTS);
    let old = Arc::new(Process::new(&world, places));
    let running = {
        let (old, wanted, ready) = (Arc::clone(&old), wanted.clone(), ready.clone());
        spawn(async move {
            let hand_over = || ready.happen();
            Arc::clone(&old).run(None, std::future::pending(), wanted.wait(), hand_over).await;
            old.assert_drained();
        })
    };
    begin_drain(&old, &wanted);
    let new = Arc::new(Process::new(&world, CLIENTS));
    let successor = {
        let (new, end) = (Arc::clone(&new), end.clone());
        spawn(async move {
            ready.wait().await;
            Arc::clone(&new).run(None, std::future::pending(), end.wait(), || ()).await;
            new.assert_drained();
        })
    };
    // A table is looked at when a client comes.
    world.arrive(CLIENTS);
    world.answered(CLIENTS + 1).await;
    running.await.unwrap();
    end.happen();
    successor.await.unwrap();
}

#[test]
fn a_successor_takes_over_and_every_client_is_answered() {
    check(|| succession(7, |_, wanted| wanted.happen()));
}

#[test]
fn a_changed_table_is_a_reason_to_give_way() {
    check(|| succession(7, |old, _| old.is_outdated.store(true, Ordering::SeqCst)));
}

/// Those who find no place hear that, and the process stays until they have.
#[test]
fn who_is_turned_away_is_answered_too() {
    check(|| succession(1, |_, wanted| wanted.happen()));
}

#[test]
fn a_worn_out_process_gives_way() {
    check(|| async {
        let world = Arc::new(World::default());
        // Enough for all, and for the two tasks that hold one while they look who is there.
        let process = Arc::new(Process::new(&world, 5));
        let proofs = AtomicUsize::new(0);
        come(&world, 0..3);
        let report_served = || {
            proofs.fetch_add(1, Ordering::SeqCst);
        };
        let limit_reached =
            process.usage.limit_reached(|| process.connection_limit.is_empty(), report_served);
        Arc::clone(&process).run(None, std::future::pending(), limit_reached, || ()).await;
        process.assert_drained();
        assert!(process.answered.load(Ordering::SeqCst) >= 2);
        assert_eq!(proofs.load(Ordering::SeqCst), 1);
    });
}

/// When a process ends because it was told to, no message is durable whose client has heard nothing.
#[test]
fn a_stop_leaves_no_message_without_its_reply() {
    check(|| async {
        let world = Arc::new(World::default());
        let process = Arc::new(Process::new(&world, 4));
        let (terminated, wanted) = (Event::new(), Event::new());
        come(&world, 0..4);
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            wanted.happen();
        }
        let stop = terminated.clone();
        spawn(async move { stop.happen() });
        Arc::clone(&process).run(None, terminated.wait(), wanted.wait(), || ()).await;
        let answered = world.answered.lock().unwrap().clone();
        let durable = world.durable.lock().unwrap().clone();
        assert!(durable.is_subset(&answered), "durable {durable:?}, answered {answered:?}");
    });
}

/// What a master was told, in order. To say something takes a while, in which others run.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<ChildState>>>);

impl Told {
    fn reporter(&self, then: impl Fn(ChildState) + Send + Sync + 'static) -> Arc<Reporter> {
        let told = self.clone();
        Arc::new(Reporter::new(move |states| {
            shuttle::thread::yield_now();
            for state in states {
                let mut told = told.0.lock().unwrap();
                assert_ne!(told.last(), Some(state), "told twice: {told:?}");
                told.push(*state);
                drop(told);
                then(*state);
            }
        }))
    }

    fn last(&self) -> Option<ChildState> {
        self.0.lock().unwrap().last().copied()
    }
}

/// Tasks that find no place, tasks that report_served, and the end.
#[test]
fn the_master_hears_the_truth_and_hears_it_once() {
    check(|| async {
        let (told, full) = (Told::default(), Arc::new(AtomicUsize::new(0)));
        let houses = Arc::clone(&full);
        let reporter = told.reporter(move |state| {
            let is_full = houses.load(Ordering::SeqCst) > 0;
            assert!(state == ChildState::Taken || !is_full, "available while a client waits for a permit");
        });
        reporter.ready();
        let waiters = (0..3).map(|_| {
            let (reporter, full) = (Arc::clone(&reporter), Arc::clone(&full));
            spawn(async move {
                for _ in 0..2 {
                    let report = reporter.report_full();
                    full.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                    full.fetch_sub(1, Ordering::SeqCst);
                    report.end();
                }
            })
        });
        let waiters: Vec<_> = waiters.collect();
        let prover = Arc::clone(&reporter);
        spawn(async move { prover.report_served() }).await.unwrap();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(told.last(), Some(ChildState::Available));
        // Two that give up, because the process accepts no client any more.
        let first = reporter.report_full();
        drop(reporter.report_full());
        drop(first);
        reporter.retire();
        assert_eq!(told.last(), Some(ChildState::Taken));
    });
}

/// Under Postfix's master: it starts another process when a client waits and no process is available. The sessions of
/// the first process last until the second has served a client, so this ends only if it was told.
#[test]
fn a_full_process_lets_the_master_start_another() {
    const CLIENTS: usize = 3;
    check(|| async {
        let world = Arc::new(World::default());
        let (told, end) = (Told::default(), Event::new());
        let mut first = Process::new(&world, 1);
        first.patience = 1;
        let first = Arc::new(first);
        let is_busy = Event::new();
        let busy = is_busy.clone();
        let reporter = told.reporter(move |state| {
            if state == ChildState::Taken {
                busy.happen();
            }
        });
        reporter.ready();
        let running = {
            let (first, end, relief) = (Arc::clone(&first), end.clone(), Arc::clone(&reporter));
            spawn(async move {
                let retire = || relief.retire();
                let relief = Some(Arc::clone(&relief));
                Arc::clone(&first).run(relief, std::future::pending(), end.wait(), retire).await;
                first.assert_drained();
            })
        };
        come(&world, 0..CLIENTS);
        is_busy.wait().await;
        let second = Arc::new(Process::new(&world, CLIENTS));
        let helping = {
            let (second, end) = (Arc::clone(&second), end.clone());
            spawn(async move { second.run(None, std::future::pending(), end.wait(), || ()).await })
        };
        world.answered(CLIENTS).await;
        end.happen();
        running.await.unwrap();
        helping.await.unwrap();
        assert_eq!(told.last(), Some(ChildState::Taken), "{:?}", told.0.lock().unwrap());
    });
}

/// Also a process whose clients wait for permits drains: its sessions last until the replacement has served a client.
#[test]
fn a_full_process_gives_way_too() {
    const CLIENTS: usize = 3;
    check(|| async {
        let world = Arc::new(World::default());
        let (told, ready, end) = (Told::default(), Event::new(), Event::new());
        let mut first = Process::new(&world, 1);
        first.patience = 1;
        let first = Arc::new(first);
        let reporter = told.reporter(|_| ());
        reporter.ready();
        come(&world, 0..CLIENTS);
        let running = {
            let (first, ready, relief) = (Arc::clone(&first), ready.clone(), Arc::clone(&reporter));
            spawn(async move {
                let hand_over = || {
                    relief.retire();
                    ready.happen();
                };
                let relief = Some(Arc::clone(&relief));
                Arc::clone(&first).run(relief, std::future::pending(), yield_now(), hand_over).await;
                first.assert_drained();
            })
        };
        ready.wait().await;
        // No place has become free in between: nothing else was true.
        assert_eq!(*told.0.lock().unwrap(), [ChildState::Available, ChildState::Taken]);
        let second = Arc::new(Process::new(&world, CLIENTS + 2));
        let helping = {
            let (second, end) = (Arc::clone(&second), end.clone());
            spawn(async move { second.run(None, std::future::pending(), end.wait(), || ()).await })
        };
        world.answered(CLIENTS).await;
        running.await.unwrap();
        end.happen();
        helping.await.unwrap();
    });
}

/// The process that Postfix's master knows: it sees things in any order, and ends.
async fn known_process(
    terminated: Event,
    worker_closed: Event,
    master_closed: Event,
    to_worker: Event,
    gone: Event,
) {
    let step = loop {
        let noticed = Noticed {
            terminated: terminated.has_happened(),
            worker_closed: worker_closed.has_happened(),
            master_closed: master_closed.has_happened(),
        };
        match noticed.step() {
            Step::Wait => {}
            step => break step,
        }
        super::sync::select! {
            () = terminated.wait() => {}
            () = worker_closed.wait() => {}
            () = master_closed.wait() => {}
        }
    };
    // As in the real one, a SIGTERM may still come for a moment after the end of the channel.
    if step == Step::Terminate || (step == Step::End && terminated.has_happened()) {
        to_worker.happen();
    }
    gone.happen();
}

/// Postfix's master wants a replacement, or removes the service, while the worker drains for another reason.
#[test]
fn the_known_process_gives_way_and_its_worker_ends() {
    const CLIENTS: usize = 3;
    check(|| async {
        let world = Arc::new(World::default());
        let [terminated, handed_over, master_closed, stop, gone, end] = [(); 6].map(|()| Event::new());
        let worker = Arc::new(Process::new(&world, CLIENTS));
        come(&world, 0..CLIENTS);
        spawn(known_process(
            terminated.clone(),
            handed_over.clone(),
            master_closed.clone(),
            stop.clone(),
            gone.clone(),
        ));
        let is_removed = shuttle::rand::thread_rng().gen_bool(0.3);
        let is_outdated = shuttle::rand::thread_rng().gen_bool(0.3);
        let running = {
            let (worker, gone, handed_over) = (Arc::clone(&worker), gone.clone(), handed_over.clone());
            spawn(async move { worker.run(None, stop.wait(), gone.wait(), || handed_over.happen()).await })
        };
        worker.is_outdated.store(is_outdated, Ordering::SeqCst);
        master_closed.happen();
        if is_removed {
            terminated.happen();
        }
        gone.wait().await;
        running.await.unwrap();
        let durable = world.durable.lock().unwrap().clone();
        let answered = world.answered.lock().unwrap().clone();
        assert!(durable.is_subset(&answered), "durable {durable:?}, answered {answered:?}");
        if is_removed {
            return;
        }
        worker.assert_drained();
        let successor = Arc::new(Process::new(&world, CLIENTS));
        let running = {
            let (successor, end) = (Arc::clone(&successor), end.clone());
            spawn(async move { successor.run(None, std::future::pending(), end.wait(), || ()).await })
        };
        world.answered(CLIENTS).await;
        end.happen();
        running.await.unwrap();
    });
}
