//! Clients that leave, disks that fill up.

use std::fs;

use testbed::client::{self, Step, request};
use testbed::ours::{Instance, Setup};
use testbed::peers::Peer;
use testbed::queue::{self, directory};
use testbed::small_disk::SmallDisk;
use testbed::trials::Trials;

pub(crate) fn add(trials: &mut Trials) {
    trials.add("trouble::vanishing_at_every_byte_leaves_nothing", &[], || vanish_everywhere(&Step::Vanish));
    trials.add("trouble::resetting_at_every_byte_leaves_nothing", &[], || vanish_everywhere(&Step::Reset));
    trials.add("trouble::half_closing_at_every_byte_leaves_nothing", &[], || {
        vanish_everywhere(&Step::HalfClose)
    });
    trials.add("trouble::vanishing_in_a_large_message_leaves_nothing", &[], vanish_in_large);
    trials.add("trouble::a_full_disk_is_z_and_leaves_nothing", &[Peer::Isolation, Peer::Root], full_disk);
    trials.add("trouble::no_inodes_is_z", &[Peer::Isolation, Peer::Root], no_inodes);
}

/// A message whose last byte, the outer comma, never comes may be accepted: everything that it says was said.
fn vanish_everywhere(leave: &Step) {
    let server = Instance::start(&Setup::default());
    let whole = request(b"Subject: x\n\nhello\n", b"a@sender.example", &[b"b@x.example", b"c@x.example"]);
    for length in 0..whole.len() - 1 {
        let session = client::run(server.address, &[Step::Send(whole[..length].to_vec()), leave.clone()]);
        assert!(session.received.is_empty(), "{} after {length} bytes", client::text(&session.received));
    }
    // The server has seen every one of them only when the sessions have ended.
    let said = client::send(server.address, b"Subject: last\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert!(said.starts_with('K'), "{said}");
    assert_eq!(server.queue.take().len(), 1);
    server.queue.wait_until_empty();
}

fn vanish_in_large() {
    let server = Instance::start(&Setup::default());
    let content = [b"Subject: x\n\n".to_vec(), b"0123456789abcde\n".repeat(200_000)].concat();
    let whole = request(&content, b"a@sender.example", &[b"b@x.example"]);
    for length in [whole.len() / 3, whole.len() - 40, whole.len() - 5] {
        let session = client::run(server.address, &[Step::Send(whole[..length].to_vec()), Step::Vanish]);
        assert!(session.received.is_empty());
    }
    server.queue.wait_until_empty();
}

const WRITE_ERROR: &str = "ZError: queue file write error";

fn full_disk() {
    let disk = SmallDisk::mount("size=1m");
    let queue = disk.queue();
    let server = Instance::start(&Setup { main_cf: vec![], queue: Some(queue.path.clone()) });
    let large = [b"Subject: x\n\n".to_vec(), b"0123456789abcde\n".repeat(150_000)].concat();
    let said = client::send(server.address, &large, b"a@sender.example", &[b"b@x.example"]);
    assert_eq!(said, WRITE_ERROR);
    queue.wait_until_empty();

    let said = client::send(server.address, b"Subject: small\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert!(said.starts_with('K'), "{said}");
    assert_eq!(queue.take().into_iter().map(Result::unwrap).count(), 1);

    let filler = disk.fill();
    let said = client::send(server.address, b"Subject: small\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert_eq!(said, WRITE_ERROR);
    queue.wait_until_empty();

    fs::remove_file(&filler).unwrap();
    let said = client::send(server.address, b"Subject: small\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert!(said.starts_with('K'), "{said}");
}

/// The queue file cannot even be made.
fn no_inodes() {
    let disk = SmallDisk::mount("size=1m,nr_inodes=40");
    let queue = disk.queue();
    let server = Instance::start(&Setup { main_cf: vec![], queue: Some(queue.path.clone()) });
    let fillers = disk.path().join("fillers");
    directory(&fillers, 0o755);
    let made = (0..100).take_while(|i| fs::write(fillers.join(i.to_string()), b"").is_ok()).count();
    assert!(made < 100, "the file system has no limit");
    let said = client::send(server.address, b"Subject: small\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert!(said.starts_with('Z'), "{said}");
    assert!(queue::files_below(&queue.path.join("incoming")).is_empty());
    // One for the message, one for the journal.
    for filler in ["0", "1"] {
        fs::remove_file(fillers.join(filler)).unwrap();
    }
    let said = client::send(server.address, b"Subject: small\n\n", b"a@sender.example", &[b"b@x.example"]);
    assert!(said.starts_with('K'), "{said}");
}
