//! The names of the files in the directory of journals.
//!
//! | name | what it is |
//! |---|---|
//! | `INSTANCE.v2` | a journal of this format |
//! | `INSTANCE`, `INSTANCE.unsynced-BOOTID` | a journal of release 0.1.0, format 1 |
//! | `INSTANCE.vN` | a journal of a later format: for the program that wrote it |
//! | `INSTANCE.damaged`, `INSTANCE.v2.damaged` | what could not be read whole, for an expert |
//! | `ID.witness` | see [`continuity`](super::continuity) |
//!
//! The version stands in the name, so that a program passes over files of later versions without opening them.

use super::identity::{Instance, WitnessId};
use super::record::{VERSION, VERSION_MIN};

/// The directory of journal files.
pub const DIRECTORY: &str = "journal";

/// The end of the name of a journal that could not be read whole.
const DAMAGED: &str = ".damaged";
/// The end of the name of a witness.
const WITNESS: &str = ".witness";
/// Behind the instance in the name of a journal of format 1 whose checkpoint failed; the boot ID of that time follows.
const UNSYNCED: &str = ".unsynced-";

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// A journal that this program reads.
    Journal {
        /// Who wrote it.
        instance: Instance,
        /// The format of its records.
        version: u8,
    },
    /// A journal of a later format.
    Later {
        /// The format.
        version: u32,
    },
    /// Proof that the file system stays mounted.
    Witness(WitnessId),
    /// Nothing that a program reads.
    Other,
}

impl Name {
    /// Reads a name in the directory of journals.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let journal = |instance, version| match Instance::parse(instance) {
            Some(instance) => Self::Journal { instance, version },
            None => Self::Other,
        };
        if let Some(id) = name.strip_suffix(WITNESS) {
            return WitnessId::parse(id).map_or(Self::Other, Self::Witness);
        }
        if let Some((instance, _)) = name.split_once(UNSYNCED) {
            return journal(instance, VERSION_MIN);
        }
        let Some((instance, version)) = name.split_once(".v") else { return journal(name, VERSION_MIN) };
        match version.parse::<u32>() {
            Ok(version) if version == u32::from(VERSION) => journal(instance, VERSION),
            Ok(version) if version > u32::from(VERSION) && Instance::parse(instance).is_some() => {
                Self::Later { version }
            }
            _ => Self::Other,
        }
    }
}

/// The path of this instance's journal.
pub(super) fn journal(instance: Instance) -> String {
    format!("{DIRECTORY}/{instance}.v{VERSION}")
}

/// The path of a witness.
pub(super) fn witness(id: WitnessId) -> String {
    format!("{DIRECTORY}/{id}{WITNESS}")
}

/// The path under which what cannot be read whole is kept.
pub(super) fn damaged(path: &str) -> String {
    format!("{path}{DAMAGED}")
}

/// The path of a file in the directory of journals.
pub(super) fn path_of(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_says_what_the_file_is() {
        let instance = Instance([0x0a; 16]);
        let digits = "0a".repeat(16);
        let boot_id = "1".repeat(32);
        for name in [digits.clone(), format!("{digits}.unsynced-{boot_id}")] {
            assert_eq!(Name::parse(&name), Name::Journal { instance, version: 1 }, "{name}");
        }
        assert_eq!(Name::parse(&format!("{digits}.v2")), Name::Journal { instance, version: 2 });
        assert_eq!(Name::parse(&format!("{digits}.v3")), Name::Later { version: 3 });
        assert_eq!(Name::parse(&format!("{digits}.v4000000")), Name::Later { version: 4_000_000 });
        assert_eq!(Name::parse(&format!("{digits}.witness")), Name::Witness(WitnessId([0x0a; 16])));
        let others = ["", "x", ".v2", "x.v3", ".witness", "x.witness", "x.unsynced-1"].map(str::to_owned);
        let damaged =
            ["", ".v2", ".v1", ".v0", ".vx", ".unsynced"].map(|end| format!("{digits}{end}.damaged"));
        for name in others.iter().chain(&damaged) {
            assert_eq!(Name::parse(name), Name::Other, "{name}");
        }
        assert_eq!(Name::parse(&format!("{digits}.v1")), Name::Other);
        let path = journal(instance);
        assert_eq!(
            Name::parse(path.strip_prefix("journal/").unwrap()),
            Name::Journal { instance, version: 2 }
        );
        assert_eq!(damaged_name(&path), Name::Other);
    }

    fn damaged_name(path: &str) -> Name {
        Name::parse(damaged(path).strip_prefix("journal/").unwrap())
    }
}
