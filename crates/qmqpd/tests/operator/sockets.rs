//! Services on sockets in the file system, as lines of master.cf ask for them.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use testbed::trials::Trials;

use super::site::{Site, free_address, request, send_over, text, until};

pub(crate) fn add(trials: &mut Trials) {
    trials.add(
        "sockets::unix_and_pass_services_are_served_and_kept_over_a_reload",
        &[],
        unix_and_pass_services_are_served_and_kept_over_a_reload,
    );
    trials.add(
        "sockets::a_line_that_cannot_be_served_is_an_error_and_opens_no_port",
        &[],
        a_line_that_cannot_be_served_is_an_error_and_opens_no_port,
    );
}

fn unix_and_pass_services_are_served_and_kept_over_a_reload() {
    let site = Site::new();
    site.configure("compatibility_level = 3.6\nqmqpd_authorized_clients = 127.0.0.1\n");
    site.write("etc/master.cf", "qmqp unix n - n - - qmqpd\nclients pass - - n - - qmqpd\n");
    let (status, said) = site.outcome(&["check", "-c", "etc"]);
    assert_eq!(status, Some(0), "{said}");
    let server = site.serve(&["-c", "etc"]);
    let path = site.path("queue/public/qmqp");
    until("both run", || (server.status().matches(": running\n").count() == 2).then_some(()));
    let status = server.status();
    for place in [&path, &site.path("queue/private/clients")] {
        assert!(status.contains(&format!("listens on: {}\n", place.display())), "{status}");
    }
    assert!(!status.contains("127.0.0.1:"), "no TCP port that nobody asked for: {status}");
    let send = || send_over(UnixStream::connect(&path).unwrap());
    assert!(send().starts_with("KOk: queued as "));
    assert!(passed(&site).starts_with("KOk: queued as "));
    let mut session = UnixStream::connect(&path).unwrap();
    session.write_all(&request()[..5]).unwrap();
    let reloaded = server.control("reload");
    assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
    assert!(send().starts_with("KOk: queued as "));
    session.write_all(&request()[5..]).unwrap();
    let mut reply = String::new();
    session.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("KOk: queued as "), "{reply}");
    drop(server);
    // The socket that is left behind is no obstacle.
    let _again = site.serve(&["-c", "etc"]);
    until("it listens again", || UnixStream::connect(&path).ok());
    assert!(send().starts_with("KOk: queued as "));
}

/// A client whose connection somebody else has accepted and hands over.
fn passed(site: &Site) -> String {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let (accepted, _) = door.accept().unwrap();
    let mut service = UnixStream::connect(site.path("queue/private/clients")).unwrap();
    let descriptors = [accepted.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&service, &[IoSlice::new(b"\0")], &mut beside, SendFlags::empty()).unwrap();
    service.write_all(b"\0").unwrap();
    drop((accepted, service));
    send_over(client)
}

fn a_line_that_cannot_be_served_is_an_error_and_opens_no_port() {
    let site = Site::new();
    site.configure("qmqpd_authorized_clients = 127.0.0.1\n");
    for kind in ["fifo", "unix-dgram"] {
        site.write("etc/master.cf", &format!("qmqp {kind} n - n - - qmqpd\n"));
        for command in ["check", "serve"] {
            let (status, said) = site.outcome(&[command, "-c", "etc"]);
            assert_eq!(status, Some(78), "{said}");
            let words = "master.cf, line 1: ";
            let what =
                format!("qmqpd does not serve a {kind}; write inet, unix or pass into the second column");
            assert!(said.contains(words) && said.contains(&what), "{said}");
        }
    }
    // One that is not for us is nobody's business.
    site.write("etc/master.cf", "qmqp fifo n - n - - qmqpd\n");
    let listen = format!("qmqpd_listen={}", free_address());
    let (status, said) = site.outcome(&["check", "-c", "etc", "-o", &listen]);
    assert_eq!(status, Some(0), "{said}");
}
