//! Programs of other projects: where they are, and whether they can be used.
//!
//! `make peers` installs them, or unpacks their packages below `target/peers` (nullmailer always, since Debian lets
//! only one mail system be installed; the others where the user is not root).

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `make peers` unpacks packages.
fn unpacked() -> PathBuf {
    crate::program::target().join("peers")
}

/// The file of a package, installed or unpacked.
pub fn file(path: &str) -> Option<PathBuf> {
    let below = unpacked().join(path.trim_start_matches('/'));
    [PathBuf::from(path), below].into_iter().find(|candidate| candidate.exists())
}

/// Where Debian has db_load(1).
pub const DB_LOAD: &str = "/usr/bin/db5.3_load";

/// A command for a program of a package, or why there is none.
pub fn command(path: &str) -> Result<Command, String> {
    let program = file(path).ok_or_else(|| format!("{path} is not there; run make peers"))?;
    let mut command = Command::new(&program);
    if program.starts_with(unpacked()) {
        // Debian's Postfix finds its own libraries by an absolute path.
        command.env("LD_LIBRARY_PATH", unpacked().join("usr/lib/postfix"));
    }
    Ok(command)
}

/// Where qmqp-send is, if it is built: beside the program under test.
pub fn qmqp_send() -> PathBuf {
    Path::new(crate::program::qmqpd()).with_file_name("qmqp-send")
}

/// Where qmqpctl is, if it is built.
pub fn qmqpctl() -> PathBuf {
    Path::new(crate::program::qmqpd()).with_file_name("qmqpctl")
}

/// What a test may need from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A private Postfix with its own master: needs root and the installed package.
    Postfix,
    /// Postfix's load generator.
    QmqpSource,
    /// Postfix's SMTP server that takes everything.
    SmtpSink,
    /// Postfix's queue file reader.
    Postcat,
    /// Berkeley DB's program that makes files of any shape.
    DbLoad,
    /// nullmailer's QMQP client.
    Nullmailer,
    /// Our own client, which cargo builds with the whole workspace.
    QmqpSend,
    /// Our own control program, which cargo builds with the whole workspace.
    Qmqpctl,
    /// The log summary program.
    Pflogsumm,
    /// The filter that signs messages and verifies signatures.
    OpenDkim,
    /// The filter that asks SpamAssassin, and its daemon.
    SpamassMilter,
    /// The filter that judges spam by itself.
    Rspamd,
    /// The e-mail samples of CPython's test suite and of other packages.
    Samples,
    /// The programs of XFS, and a kernel that knows it.
    Xfs,
    /// Root, for mounts and for changing users.
    Root,
    /// Namespaces of our own, with our own hosts file and name server.
    Isolation,
    /// FUSE, for a file that the test program serves.
    Fuse,
    /// Loop devices, and the program that makes an ext4 on one.
    Ext4,
    /// IPv6 on the loopback interface.
    Ipv6,
    /// The program that judges unit files.
    SystemdAnalyze,
    /// The library that gives a program another time of day.
    Faketime,
    /// A kernel with Landlock.
    Landlock,
    /// A kernel and a file system for scratch directories that let an ordinary user write a file without a name and give it one.
    NamelessFiles,
    /// strace(1), for faults in system calls; and the right to use it on the processes of others.
    Strace,
}

impl Peer {
    /// Why a test that needs this must be ignored here; `None` if it is at hand.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Postfix => {
                self.needs_root().or_else(|| absent("/usr/lib/postfix/sbin/master")).or_else(|| {
                    nix::unistd::User::from_name("postfix")
                        .ok()
                        .flatten()
                        .is_none()
                        .then(|| "there is no user postfix".to_owned())
                })
            }
            Self::QmqpSource => absent("/usr/sbin/qmqp-source"),
            Self::SmtpSink => absent("/usr/sbin/smtp-sink"),
            Self::Postcat => absent("/usr/sbin/postcat"),
            Self::DbLoad => absent(DB_LOAD),
            Self::Nullmailer => absent("/usr/lib/nullmailer/qmqp"),
            Self::QmqpSend => (!qmqp_send().exists())
                .then(|| "qmqp-send is not built; run cargo build --workspace".to_owned()),
            Self::Qmqpctl => {
                (!qmqpctl().exists()).then(|| "qmqpctl is not built; run cargo build --workspace".to_owned())
            }
            Self::Pflogsumm => absent("/usr/sbin/pflogsumm"),
            Self::OpenDkim => installed(&["/usr/sbin/opendkim", "/usr/bin/openssl"]),
            Self::SpamassMilter => installed(&["/usr/sbin/spamass-milter", "/usr/sbin/spamd"]),
            Self::Rspamd => installed(&["/usr/bin/rspamd", "/usr/share/rspamd/plugins/milter_headers.lua"]),
            Self::SystemdAnalyze => absent("/usr/bin/systemd-analyze"),
            Self::Samples => SAMPLES.iter().find_map(|(_, path)| {
                samples(path).is_none().then(|| format!("{path} is not there; run make peers"))
            }),
            Self::Xfs => {
                let kernel = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                let knows = kernel.lines().any(|line| line.trim() == "xfs");
                neither("mkfs.xfs")
                    .or_else(|| neither("xfs_io"))
                    .or_else(|| (!knows).then(|| "this kernel does not know XFS".to_owned()))
            }
            Self::Root => self.needs_root(),
            Self::Strace => self.needs_root().or_else(|| absent("/usr/bin/strace")),
            Self::Isolation => crate::isolation::missing(),
            Self::Fuse => kernel_lacks("/dev/fuse"),
            Self::Ext4 => kernel_lacks("/dev/loop-control").or_else(|| {
                let places = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"];
                let is_there = places.iter().any(|path| Path::new(path).exists());
                (!is_there).then(|| "mkfs.ext4 is not installed; run make peers as root".to_owned())
            }),
            Self::Ipv6 => std::net::TcpListener::bind("[::1]:0")
                .err()
                .map(|error| format!("no IPv6 on loopback: {error}")),
            Self::Faketime => {
                faketime().is_none().then(|| "libfaketime is not there; run make peers".to_owned())
            }
            Self::NamelessFiles => nameless_files()
                .err()
                .map(|error| format!("no file without a name can get one (Linux 6.10, O_TMPFILE): {error}")),
            Self::Landlock => {
                use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
                let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
                // The newest rules that the tests ask about.
                let knows = rules
                    .handle_access(AccessFs::Refer)
                    .and_then(|rules| rules.handle_access(landlock::AccessNet::BindTcp));
                knows.err().map(|_| "this kernel has no Landlock of ABI 4 (Linux 6.7)".to_owned())
            }
        }
    }

    fn needs_root(self) -> Option<String> {
        (!nix::unistd::Uid::effective().is_root()).then(|| format!("{self:?} needs root"))
    }
}

fn nameless_files() -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags};
    let directory = tempfile::tempdir()?;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, directory.path(), flags, Mode::RWXU)?;
    Ok(rustix::fs::linkat(&file, "", CWD, directory.path().join("name"), AtFlags::EMPTY_PATH)?)
}

fn kernel_lacks(device: &str) -> Option<String> {
    (!Path::new(device).exists()).then(|| format!("this machine has no {device}"))
}

fn absent(path: &str) -> Option<String> {
    file(path).is_none().then(|| format!("{path} is not there; run make peers"))
}

/// A program of the system's administration, which is in one of two places.
fn neither(program: &str) -> Option<String> {
    let places = ["/sbin", "/usr/sbin"].map(|place| Path::new(place).join(program));
    (!places.iter().any(|place| place.exists())).then(|| format!("{program} is not there; run make peers"))
}

/// The library of faketime(1), to be preloaded.
pub fn faketime() -> Option<PathBuf> {
    let architecture = std::env::consts::ARCH;
    file(&format!("/usr/lib/{architecture}-linux-gnu/faketime/libfaketimeMT.so.1"))
}

/// Programs that need all of their package's files in place.
fn installed(paths: &[&str]) -> Option<String> {
    let missing = paths.iter().find(|path| !Path::new(path).exists())?;
    Some(format!("{missing} is not installed; run make peers as root"))
}

/// Where sample messages are, and what they are called in test names. `python3*` is any version.
pub const SAMPLES: &[(&str, &str)] = &[
    ("cpython", "/usr/lib/python3*/test/test_email/data"),
    ("spamassassin", "/usr/share/doc/spamassassin/examples"),
    ("enmime", "/usr/share/gocode/src/github.com/jhillyerd/enmime/testdata"),
];

/// The directory with samples, below the unpacked packages or of the system.
pub fn samples(path: &str) -> Option<PathBuf> {
    let Some((lib, data)) = path.split_once("/python3*/") else { return file(path) };
    [unpacked().join(lib.trim_start_matches('/')), PathBuf::from(lib)]
        .iter()
        .filter_map(|lib| std::fs::read_dir(lib).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .map(|entry| entry.path().join(data))
        .find(|data| data.is_dir())
}
