//! The same bytes to Postfix's qmqpd(8) and to ours: same reply, same queue file, same log lines.
//!
//! Each case is data (`protocol.rs`, `content.rs`, …). Where ours differs on purpose, the case names the heading in
//! docs/postfix-differences.md that gives the reason, and states what each server does; it fails when Postfix no longer
//! does what the page says, and when the two no longer differ.
//!
//! `QMQPD_SEEDS=DIRECTORY` writes the cases there as seeds for the fuzzer, and compares nothing.
//!
//! `QMQPD_ORACLE=only` runs the cases against Postfix alone: for a new case, before ours can do it.
#![cfg(test)]

mod addresses;
mod checks;
mod content;
mod envelope;
mod generated;
mod limits;
mod maps;
mod milters;
mod names;
mod policy;
mod protocol;
mod random;
mod releases;
mod rewriting;
mod strict;
mod tables;
mod timing;

use std::collections::BTreeSet;
use std::process::ExitCode;

use testbed::case::{Case, RECIPIENT, SENDER};
use testbed::client;
use testbed::isolation;
use testbed::name_server;
use testbed::ours;
use testbed::peers::{self, Peer};
use testbed::postfix::{scratch, write_config};
use testbed::seeds;
use testbed::suite::{self, Suite};

fn main() -> ExitCode {
    testbed::program::set(env!("CARGO_BIN_EXE_qmqpd"), env!("CARGO_TARGET_TMPDIR"));
    isolation::enter();
    if isolation::inside() {
        name_server::start();
    }
    let cases: Vec<Case> = [
        protocol::cases(),
        content::cases(),
        checks::cases(),
        strict::cases(),
        addresses::cases(),
        rewriting::cases(),
        envelope::cases(),
        limits::cases(),
        milters::cases(),
        policy::cases(),
        names::cases(),
        tables::cases(),
        maps::cases(),
        releases::cases(),
        timing::cases(),
    ]
    .concat();
    if let Some(directory) = seeds::wanted() {
        seeds::write(&directory, &cases);
        return ExitCode::SUCCESS;
    }
    let mut suite = Suite::default();
    let proven: BTreeSet<_> = cases.iter().filter_map(|case| case.difference).map(|d| d.anchor).collect();
    suite
        .trials
        .add("page::every_difference_is_proven", &[], move || suite::every_difference_is_proven(&proven));
    suite.trials.add(
        "names_of_parameters::the_installed_postconf",
        &[Peer::Postfix],
        every_parameter_is_known,
    );
    suite.trials.add("values::call_functions_of_later_releases", &[Peer::Postfix], functions_are_understood);
    suite.add_all(cases);
    random::add(&mut suite);
    checks::add_random(&mut suite);
    generated::add(&mut suite);
    strict::add_random(&mut suite);
    suite.run()
}

/// `qmqpd check` calls no name misspelt that the installed Postfix has.
fn every_parameter_is_known() {
    let dir = scratch("postconf");
    let config = write_config(dir.path(), "", "");
    let output =
        peers::command("/usr/sbin/postconf").unwrap().arg("-d").arg("-c").arg(&config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(" =")?.0)).collect();
    assert!(names.len() > 800, "{text}");
    let is_known = |name: &str| {
        postfix::parameter::find(name).is_some()
            || postfix::parameter::is_read_by_other_programs(name)
            || postfix::main_cf::READ_ONLY.contains(&name)
    };
    let unknown: Vec<&str> = names.into_iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Postfix 3.7 says that it is no syntax, ours serves.
fn functions_are_understood() {
    const LINE: &str = "mail_name = Mail of ${domain_to_ascii{b\u{fc}cher.example}}";
    const MEANT: &str = "Mail of xn--bcher-kva.example";
    let dir = scratch("postconf");
    let config = write_config(dir.path(), &format!("{LINE}\n"), "");
    let mut postconf = peers::command("/usr/sbin/postconf").unwrap();
    let output = postconf.arg("-c").arg(&config).args(["-x", "mail_name"]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("syntax error") || said.contains(MEANT), "{said}");
    let server = ours::Instance::start(&ours::Setup { main_cf: vec![LINE.to_owned()], ..Default::default() });
    let reply = client::send(server.address, b"Subject: x\n\nx\n", SENDER, &[RECIPIENT]);
    assert!(reply.starts_with('K'), "{reply}");
    let file = server.queue.take().remove(0).unwrap();
    let message = String::from_utf8_lossy(&file.message()).into_owned();
    assert!(message.contains(&format!("by mx.example.test ({MEANT}) with QMQP")), "{message}");
}
