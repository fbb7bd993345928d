//! The services that Postfix's master(8) would start us for: what `qmqpd check --postfix` looks at.

use std::path::Path;
use std::sync::Arc;

use nix::unistd::Uid;
use postfix::master_cf::{MasterCf, Service as Line, Transport};
use postfix::notice::Notice;
use postfix::settings::{ConfigError, Settings};

use super::open_error;
use super::program::{Program, first_name};
use super::service::{FoundServices, Reading, Service, as_arguments, bad_columns, own_settings, wrong_line};

/// Finds them, and what is wrong with them and with what they need of Postfix.
pub(super) fn find(reading: &Reading<'_>, file: Option<MasterCf>, found: &mut FoundServices) {
    let Reading { source, loaded, programs, .. } = *reading;
    let Some(file) = file else {
        if found.errors.is_empty() {
            let path =
                source.directory().unwrap_or_else(|| Path::new("")).join("master.cf").display().to_string();
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            found.errors.push(open_error(&path, &missing, "name the directory of Postfix's files with -c"));
        }
        return;
    };
    found.errors.extend(file.errors().iter().cloned());
    found.notices.extend(file.notices().iter().cloned());
    let is_public = |line: &&Line| line.transport == Transport::Unix && !line.private;
    let public = file.services().iter().filter(|line| is_public(line));
    found.public_services = Some(public.map(|line| line.name.clone()).collect());
    if loaded.is_set("qmqpd_listen") {
        let text = "qmqpd_listen has no effect here: Postfix's master(8) listens where master.cf says";
        found.notices.push(Notice::info(text.to_owned()));
    }
    for line in file.services() {
        if let Some(kind) = programs.iter().find(|program| is_of(line.program(), program.name())) {
            service(&file, line, *kind, reading, found);
        }
    }
    if found.services.is_empty() && found.errors.is_empty() {
        let name = first_name(programs);
        found.errors.push(
            ConfigError::new(
                format!("{}: no line has the command {name}", file.path()),
                format!("write, for example: 628 inet n - n - - {name}"),
            )
            .in_file(file.path(), None),
        );
    }
}

/// The command as it is, or that of ours beside Postfix's, with a name like `qmqpd-new`.
fn is_of(command: &str, name: &str) -> bool {
    command.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn service(
    file: &MasterCf,
    line: &Line,
    kind: &'static dyn Program,
    reading: &Reading<'_>,
    found: &mut FoundServices,
) {
    let root = Uid::effective().is_root();
    let origin = format!("{}, line {}", file.path(), line.line);
    if let Transport::UnixDatagram | Transport::Fifo = line.transport {
        let what = format!("{} does not serve a {}", kind.name(), line.transport.as_str());
        found.errors.push(wrong_line(file, line, what, "write inet, unix or pass into the second column"));
    }
    found.errors.extend(bad_columns(file, line, kind, root));
    let mut arguments = line.arguments.clone();
    arguments.extend(as_arguments(reading.overrides));
    let own = own_settings(reading, kind, &line.name, &arguments, &origin, &mut found.errors);
    let settings = own.as_ref().map_or_else(|| reading.loaded.settings.clone(), |own| own.settings.clone());
    found.notices.extend(another_program(&settings, line, &origin));
    found.services.push(Service {
        kind,
        name: line.name.clone(),
        program: line.command.clone(),
        addresses: Vec::new(),
        origin,
        process_limit: line.process_limit,
        unprivileged: root,
        chroot: root && line.chroot,
        arguments,
        settings: Arc::new(settings),
    });
}

/// What master(8) would start instead of this program.
fn another_program(settings: &Settings, line: &Line, origin: &str) -> Option<Notice> {
    let path = Path::new(&settings.daemon_directory).join(&line.command);
    let shown = path.display();
    let text = match std::fs::read(&path) {
        Err(error) => format!("{origin}: {shown} cannot be read: {error}"),
        Ok(program) if std::env::current_exe().and_then(std::fs::read).is_ok_and(|own| own == program) => {
            return None;
        }
        Ok(_) => format!("{origin}: {shown} is not the program that runs this check"),
    };
    Some(Notice::info(text))
}
