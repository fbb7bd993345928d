//! Address tables of our own cleanup: a slow server of one keeps only those waiting who asked it, a changed file counts
//! from the next client on, and a large list of aliases takes bounded memory.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use testbed::client::{self, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::{self, Peer};
use testbed::postfix::{self, scratch, write_config};
use testbed::trials::Trials;
use testbed::{drop_in, wait};

pub(crate) fn add(trials: &mut Trials) {
    trials.add("address_tables::a_slow_server_holds_up_nobody_else", &[], slow_server);
    trials.add("address_tables::a_changed_table_is_in_force_at_once", &[], changed_table);
    trials.add("address_tables::hundred_thousand_aliases", &[], many_aliases);
    trials.add("address_tables::a_refused_message_asks_no_more", &[], refused_message);
    trials.add("address_tables::hash_and_btree_in_a_jail_serve", &[Peer::Postfix], || berkeley(false));
    trials.add("address_tables::hash_and_btree_in_a_jail_under_postfix", &[Peer::Postfix], || berkeley(true));
    trials.add(
        "address_tables::a_table_that_is_being_written_holds_up_nobody_else",
        &[Peer::Postfix],
        written_table,
    );
}

/// Sessions that wait for the table, many more than there are threads for sessions.
const WAITING: usize = 20;

/// A tcp: table that answers for addresses that begin with `slow` only when it is told to.
#[derive(Default)]
struct Gate {
    /// Whether it is open, and how many wait before it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn serve(self: Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let gate = Arc::clone(&self);
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let requests = BufReader::new(stream.try_clone().unwrap());
                    for line in requests.lines().map_while(Result::ok) {
                        if line.starts_with("get slow") {
                            gate.wait();
                        }
                        if stream.write_all(b"500 not%20found\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while !state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn waiting(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }
}

fn slow_server() {
    let gate = Arc::new(Gate::default());
    let port = Arc::clone(&gate).serve();
    let main_cf = vec![format!("virtual_alias_maps = tcp:127.0.0.1:{port}")];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let address = server.address;
    let slow: Vec<_> = (0..WAITING)
        .map(|number| {
            thread::spawn(move || {
                let recipient = format!("slow{number}@x.example");
                client::send(address, b"Subject: slow\n\n", b"a@sender.example", &[recipient.as_bytes()])
            })
        })
        .collect();
    wait::until("all slow lookups", || (gate.waiting() >= WAITING).then_some(()));
    for _ in 0..WAITING {
        let said = client::send(address, b"Subject: quick\n\n", b"a@sender.example", &[b"quick@x.example"]);
        assert!(said.starts_with('K'), "{said}");
    }
    assert_eq!(server.queue.take().len(), WAITING);
    gate.open();
    for session in slow {
        let said = session.join().unwrap();
        assert!(said.starts_with('K'), "{said}");
    }
    assert_eq!(server.queue.take().len(), WAITING);
}

/// Thousands of recipients of messages that cannot be accepted, beside a message that can.
fn refused_message() {
    const RECIPIENTS: usize = 5000;
    let questions = Arc::new(Mutex::new(0_usize));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::clone(&questions);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            thread::spawn(move || {
                let requests = BufReader::new(stream.try_clone().unwrap());
                for _ in requests.lines().map_while(Result::ok) {
                    *count.lock().unwrap() += 1;
                    if stream.write_all(b"500 not%20found\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    let main_cf = vec![
        format!("virtual_alias_maps = tcp:127.0.0.1:{port}"),
        format!("recipient_bcc_maps = tcp:127.0.0.1:{port}"),
        "message_size_limit = 500000".to_owned(),
        "header_checks = regexp:{{/^X-Refused:/ REJECT} {/^X-Gone:/ DISCARD}}".to_owned(),
        "qmqpd_error_delay = 0".to_owned(),
    ];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let addresses: Vec<String> = (0..RECIPIENTS).map(|number| format!("r{number}@x.example")).collect();
    let addresses: Vec<&[u8]> = addresses.iter().map(|address| address.as_bytes()).collect();
    let asked = |content: &[u8], recipients: &[&[u8]], reply: &str| {
        let before = *questions.lock().unwrap();
        let said = client::send(server.address, content, b"a@sender.example", recipients);
        assert!(said.starts_with(reply), "{said}");
        *questions.lock().unwrap() - before
    };
    let of_two = asked(b"Subject: x\n\n", &addresses[..2], "K");
    assert!(of_two >= 4, "{of_two} questions about two recipients");
    let too_large = [b"Subject: x\n\n".as_slice(), &b"0123456789abcdef\n".repeat(28_000)].concat();
    for (content, reply) in [
        (too_large.as_slice(), "DError: message too large"),
        (b"X-Refused: x\n\n", "DError: 5.7.1 message content rejected"),
        (b"X-Gone: x\n\n", "K"),
    ] {
        let questions = asked(content, &addresses, reply);
        assert!(questions <= of_two, "{questions} questions, {of_two} about two recipients: {reply}");
    }
    assert!(asked(b"Subject: x\n\n", &addresses[..100], "K") >= 100);
}

fn changed_table() {
    let dir = scratch("aliases");
    let table = dir.path().join("aliases");
    std::fs::write(&table, "list@x.example one@x.example\n").unwrap();
    let main_cf = vec![format!("virtual_alias_maps = texthash:{}", table.display())];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    for members in ["one@x.example", "two@x.example, three@x.example", "four@x.example"] {
        std::fs::write(&table, format!("list@x.example {members}\n")).unwrap();
        let said = client::send(server.address, b"Subject: x\n\n", b"a@sender.example", &[b"list@x.example"]);
        assert!(said.starts_with('K'), "{said}");
        let file = server.queue.take().remove(0).unwrap();
        let recipients: Vec<_> = file.recipients().map(client::text).collect();
        assert_eq!(recipients.join(", "), members);
    }
}

/// A table that postmap(1) makes.
fn postmap(config: &Path, table: &str, text: &str) {
    std::fs::write(table.split_once(':').unwrap().1, text).unwrap();
    let output =
        peers::command("/usr/sbin/postmap").unwrap().arg("-c").arg(config).arg(table).output().unwrap();
    assert!(output.status.success(), "{table}: {}", client::text(&output.stderr));
}

/// What a stock main.cf of Debian has, in all three places where tables stand; opened before the jail, and read anew in it.
fn berkeley(is_under_postfix: bool) {
    let dir = scratch("aliases");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let table = |kind: &str, name: &str| format!("{kind}:{}", dir.path().join(name).display());
    let (clients, canonical, aliases) =
        (table("hash", "clients"), table("hash", "canonical"), table("btree", "aliases"));
    postmap(&config, &clients, "127.0.0.1 ok\n");
    postmap(&config, &canonical, "Old@sender.example new@sender.example\n");
    postmap(&config, &aliases, "list@x.example one@x.example\n");
    let main_cf = vec![
        format!("qmqpd_authorized_clients = {clients}"),
        format!("canonical_maps = {canonical}"),
        format!("virtual_alias_maps = {aliases}"),
    ];
    let columns = "n - y - -";
    let (serve, postfix) = if is_under_postfix {
        let setup = postfix::Setup { main_cf, columns: Some(columns), ..Default::default() };
        (None, Some(drop_in::start(drop_in::Submit::Local, &setup)))
    } else {
        (Some(Instance::start_with_columns(&Setup { main_cf, ..Default::default() }, columns)), None)
    };
    let server = serve.as_ref().map(|server| (server.address, &server.queue, &server.log));
    let (address, queue, log) = server
        .or_else(|| postfix.as_ref().map(|server| (server.address, &server.queue, &server.log)))
        .unwrap();
    let send = || client::send(address, b"Subject: x\n\n", b"OLD@sender.example", &[b"List@X.example"]);
    for members in ["one@x.example", "two@x.example, three@x.example"] {
        postmap(&config, &aliases, &format!("list@x.example {members}\n"));
        let said = send();
        assert!(said.starts_with('K'), "{said}");
        let file = queue.take().remove(0).unwrap();
        let recipients: Vec<_> = file.recipients().map(client::text).collect();
        assert_eq!(recipients.join(", "), members);
        assert_eq!(file.sender().map(client::text).as_deref(), Some("new@sender.example"));
    }
    postmap(&config, &clients, "127.0.0.9 ok\n");
    let said = send();
    assert!(said.ends_with("is not authorized to use this service"), "{said}");
    // A file that is damaged lets nobody in, and the log says what to do.
    postmap(&config, &clients, "127.0.0.1 ok\n");
    let file = clients.strip_prefix("hash:").unwrap().to_owned() + ".db";
    std::fs::File::options().write(true).open(file).unwrap().set_len(5000).unwrap();
    let said = send();
    assert_eq!(said, "ZError: server configuration error");
    let words = format!("some of its pages are missing; run \"postmap {clients}\" to rebuild it");
    log.all_with(&words);
    postmap(&config, &clients, "127.0.0.1 ok\n");
    let said = send();
    assert!(said.starts_with('K'), "{said}");
}

/// Twenty clients whom only the table can let in wait for postmap; the others do not.
fn written_table() {
    let dir = scratch("aliases");
    let config = write_config(dir.path(), "compatibility_level = 3.6\n", "");
    let table = format!("hash:{}", dir.path().join("clients").display());
    postmap(&config, &table, "127.0.0.9 ok\n");
    let main_cf = vec![format!("qmqpd_authorized_clients = 127.0.0.1, {table}")];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let address = server.address;
    let file = std::fs::File::open(dir.path().join("clients.db")).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let whole = request(b"Subject: x\n\n", b"a@sender.example", &[b"b@x.example"]);
    // They are served in the order of their connections.
    let waiting: Vec<_> = (0..WAITING)
        .map(|_| {
            let mut stream = client::connect_from("127.0.0.9", address);
            stream.write_all(&whole).unwrap();
            stream
        })
        .collect();
    for _ in 0..WAITING {
        let said = client::send(address, b"Subject: quick\n\n", b"a@sender.example", &[b"quick@x.example"]);
        assert!(said.starts_with('K'), "{said}");
    }
    assert_eq!(server.queue.take().len(), WAITING);
    drop(lock);
    for mut stream in waiting {
        let said = client::text(&client::read_to_end(&mut stream).0);
        assert!(said.contains(":KOk: "), "{said}");
    }
    assert_eq!(server.queue.take().len(), WAITING);
}

/// More than is kept in memory, so that the file is streamed; the sender's copies come first there.
fn many_aliases() {
    let dir = scratch("aliases");
    let table = dir.path().join("aliases");
    let mut text = String::new();
    for number in 0..1000 {
        writeln!(text, "u{number}@x.example a{number}@y.example b{number}@y.example").unwrap();
    }
    std::fs::write(&table, text).unwrap();
    let main_cf = vec![
        format!("virtual_alias_maps = texthash:{}", table.display()),
        "canonical_maps = inline:{@old.example=@x.example}".to_owned(),
        "sender_bcc_maps = static:copy@x.example".to_owned(),
        "message_size_limit = 0".to_owned(),
    ];
    let server = Instance::start(&Setup { main_cf, ..Default::default() });
    let recipients: Vec<Vec<u8>> =
        (0..100_000).map(|number| format!("u{number}@old.example").into_bytes()).collect();
    let slices: Vec<&[u8]> = recipients.iter().map(Vec::as_slice).collect();
    let session = client::run(
        server.address,
        &[client::Step::Send(request(b"Subject: many\n\nhello\n", b"a@sender.example", &slices))],
    );
    assert!(client::text(&session.received).contains("Ok: queued as"), "{}", client::text(&session.received));
    let file = server.queue.take().remove(0).unwrap();
    let found: Vec<_> = file.recipients().map(client::text).collect();
    assert_eq!(found.len(), 1 + 2 * 1000 + 99_000);
    assert_eq!(found[..4], ["copy@x.example", "a0@y.example", "b0@y.example", "a1@y.example"]);
    assert_eq!(found.last().unwrap(), "u99999@x.example");
}
