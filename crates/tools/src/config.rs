//! `qmqpctl config`: the configuration as qmqpd(8) sees it, in the manner of postconf(1).

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use postfix::main_cf::{MainCf, READ_ONLY};
use postfix::parameter::{DefaultValue, Parameter, Reach, find, suggestion, table::PARAMETERS};
use postfix::settings::{HostFacts, Namespace};

use crate::complain;

/// The default directory of Postfix's configuration.
const DEFAULT_DIRECTORY: &str = "/etc/postfix";

/// `qmqpctl config …`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read main.cf in this directory [default: $MAIL_CONFIG, or /etc/postfix if it has a main.cf, or no file]
    #[arg(short = 'c', long, value_name = "DIR")]
    config_directory: Option<PathBuf>,
    /// Print only what main.cf sets
    #[arg(short = 'n', long)]
    non_default: bool,
    /// Print the defaults, and ignore main.cf
    #[arg(short = 'd', long, conflicts_with = "non_default")]
    defaults: bool,
    /// Expand $name in the values
    #[arg(short = 'x', long)]
    expand: bool,
    /// Print a JSON list of objects with stable keys
    #[arg(long)]
    json: bool,
    /// Explain parameters: type, default, meaning, and whether they take effect
    #[arg(long, conflicts_with_all = ["non_default", "defaults", "expand", "json"])]
    explain: bool,
    /// Print these parameters; all by default
    #[arg(value_name = "NAME", required_if_eq("explain", "true"))]
    names: Vec<String>,
}

/// Why nothing can be printed.
#[derive(Debug, thiserror::Error)]
enum ConfigCommandError {
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot open {}: {error}; name the directory of main.cf with -c", path.display())]
    MainCf { path: PathBuf, error: io::Error },
}

/// Runs the command. The exit status is 1 if a name is unknown, a line is invalid, or a value cannot be expanded.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = show(args, &mut out).and_then(|complaints| {
        out.flush()?;
        Ok(complaints)
    });
    match done {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                complain(&complaint);
            }
            ExitCode::FAILURE
        }
        Err(ConfigCommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Prints what `args` ask for; the result are errors to print.
fn show(args: &Args, out: &mut dyn Write) -> Result<Vec<String>, ConfigCommandError> {
    if args.explain {
        return explain(&args.names, out);
    }
    let (facts, main_cf) = if args.defaults {
        let (directory, _) = main_cf_directory(args.config_directory.as_deref());
        (host_facts(directory.display().to_string()), MainCf::default())
    } else {
        load(args.config_directory.as_deref(), |directory| {
            complain(&format_args!("{}/main.cf does not exist; these are the defaults", directory.display()));
        })?
    };
    let namespace = Namespace::new(&main_cf, &[], &facts);
    for notice in main_cf.notices() {
        complain(&format_args!("{}{}", notice.severity.prefix(), notice.text));
    }
    let mut complaints: Vec<String> = main_cf.errors().iter().map(ToString::to_string).collect();
    let mut rows = Vec::new();
    for name in names(args, &main_cf) {
        match row(args, &name, &main_cf, &namespace) {
            Ok(row) => rows.push(row),
            Err(complaint) => complaints.push(complaint),
        }
    }
    if args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        serde_json::to_writer_pretty(&mut *out, &rows).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for row in rows {
            // postconf(1) leaves no blank behind the "=" of an empty value.
            writeln!(out, "{}", format!("{} = {}", row.name, row.value).trim_end())?;
        }
    }
    Ok(complaints)
}

fn host_facts(config_directory: String) -> HostFacts<'static> {
    HostFacts {
        host_name: host::name(),
        interfaces: host::interfaces(),
        resolve: &host::resolve,
        // Raw and expanded values are shown, and those of myorigin have the name of the file.
        first_line: &|_| Ok(Vec::new()),
        config_directory,
        process_name: "qmqpd".to_owned(),
        process_id: std::process::id(),
        service_name: "qmqpd".to_owned(),
        is_under_postfix: false,
    }
}

/// main.cf and what its values may depend on; `on_missing` is called with the directory that has no main.cf.
fn load(
    config_directory: Option<&Path>,
    on_missing: impl FnOnce(&Path),
) -> Result<(HostFacts<'static>, MainCf), ConfigCommandError> {
    match read_main_cf(config_directory)? {
        (directory, Some(main_cf)) => Ok((host_facts(directory.display().to_string()), main_cf)),
        (directory, None) => {
            on_missing(&directory);
            Ok((host_facts(String::new()), MainCf::default()))
        }
    }
}

/// The value of one parameter, expanded, for the other commands. Without a directory that of the environment or the
/// usual one is taken; what is wrong elsewhere in the file does not matter.
pub(crate) fn value(config_directory: Option<&Path>, name: &str) -> Result<String, String> {
    let (facts, main_cf) = load(config_directory, |_| ()).map_err(|failure| failure.to_string())?;
    match Namespace::new(&main_cf, &[], &facts).expanded(name) {
        Ok(value) => Ok(shown(&value.unwrap_or_default())),
        Err(error) => Err(format!("{}: {name}: {error}", main_cf.path())),
    }
}

/// The directory that was given or that the environment names, or else the usual one; and whether it was named.
fn main_cf_directory(given: Option<&Path>) -> (PathBuf, bool) {
    let environment = || std::env::var_os("MAIL_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    match given.map(Path::to_owned).or_else(environment) {
        Some(directory) => (directory, true),
        None => (PathBuf::from(DEFAULT_DIRECTORY), false),
    }
}

/// The directory and its main.cf. A directory that was named must have one; at the usual place there may be none.
fn read_main_cf(config_directory: Option<&Path>) -> Result<(PathBuf, Option<MainCf>), ConfigCommandError> {
    let (directory, is_named) = main_cf_directory(config_directory);
    let path = directory.join("main.cf");
    match std::fs::read(&path) {
        Ok(content) => {
            let main_cf = MainCf::parse(&path.display().to_string(), &content);
            Ok((directory, Some(main_cf)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => Ok((directory, None)),
        Err(error) => Err(ConfigCommandError::MainCf { path, error }),
    }
}

/// The names to show, in alphabetical order unless they were given.
fn names(args: &Args, main_cf: &MainCf) -> Vec<String> {
    if !args.names.is_empty() {
        return args.names.clone();
    }
    let mut names: Vec<String> = if args.non_default {
        main_cf.entries().map(|entry| entry.name.clone()).collect()
    } else {
        PARAMETERS.iter().map(|parameter| parameter.name.to_owned()).collect()
    };
    names.sort_unstable();
    names
}

struct Row {
    name: String,
    value: String,
    line: Option<usize>,
    parameter: Option<&'static Parameter>,
}

impl Row {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "value": self.value,
            "set": self.line.is_some(),
            "line": self.line,
            "kind": self.parameter.map(Parameter::kind_in_words),
            "reach": self.parameter.map(|parameter| reach_in_words(parameter.reach)),
        })
    }
}

fn row(args: &Args, name: &str, main_cf: &MainCf, namespace: &Namespace<'_>) -> Result<Row, String> {
    let value = if args.defaults {
        namespace.default_raw(name).map(|text| text.as_bytes().to_vec())
    } else {
        namespace.raw(name)
    };
    let value = match value {
        None => return Err(unknown(name)),
        Some(raw) if args.expand => {
            namespace.expand(&raw).map_err(|error| format!("{name} = {}: {error}", shown(&raw)))?
        }
        Some(raw) => raw,
    };
    Ok(Row {
        name: name.to_owned(),
        value: shown(&value),
        line: main_cf.get(name).map(|entry| entry.line),
        parameter: find(name),
    })
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Whether Postfix has a parameter of this name that this server does not read.
fn is_known_elsewhere(name: &str) -> bool {
    READ_ONLY.contains(&name) || postfix::parameter::is_read_by_other_programs(name)
}

fn unknown(name: &str) -> String {
    if READ_ONLY.contains(&name) {
        return format!("{name}: each program sets this for itself; main.cf cannot");
    }
    if postfix::parameter::is_read_by_other_programs(name) {
        return format!("{name}: another program of Postfix reads this parameter; see postconf(1)");
    }
    match suggestion(name) {
        Some(known) => format!("{name}: unknown parameter; did you mean {known}?"),
        None => format!("{name}: unknown parameter"),
    }
}

fn reach_in_words(reach: Reach) -> String {
    match reach {
        Reach::Effective => "takes effect".to_owned(),
        Reach::Validated(why) => format!("checked at start, no other effect: {why}"),
        Reach::NoEffectOnQmqp(why) => format!("no effect on QMQP mail: {why}"),
        Reach::OtherPrograms(who) => format!("read by other programs: {who}"),
    }
}

fn explain(names: &[String], out: &mut dyn Write) -> Result<Vec<String>, ConfigCommandError> {
    let mut complaints = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let parameter = find(name);
        if parameter.is_none() && !is_known_elsewhere(name) {
            complaints.push(unknown(name));
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        let Some(parameter) = parameter else {
            writeln!(out, "{}", unknown(name))?;
            continue;
        };
        let default = match parameter.default {
            DefaultValue::Text("") => "empty".to_owned(),
            DefaultValue::Text(text) => text.to_owned(),
            DefaultValue::Computed(how) => how.to_owned(),
        };
        writeln!(out, "{name}: {}", parameter.kind_in_words())?;
        writeln!(out, "default: {default}")?;
        writeln!(out, "{}", reach_in_words(parameter.reach))?;
        writeln!(out, "{}", parameter.doc.trim())?;
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests;
