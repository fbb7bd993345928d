//! The checks that Postfix makes on accounts at start. The account data is looked up by the caller.

use crate::config_error::ConfigError;
use crate::parameter::table::Settings;

/// A user account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user ID.
    pub uid: u32,
    /// The primary group ID.
    pub gid: u32,
    /// The name that the system gives for `uid`; it differs from the account's own name when two share the number.
    pub name_of_uid: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group ID.
    pub gid: u32,
    /// The name that the system gives for `gid`.
    pub name_of_gid: String,
}

/// What the system knows of the accounts that the settings name; `None` when no account has that name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountFacts {
    /// The user `mail_owner`.
    pub mail_owner: Option<User>,
    /// The user `default_privs`.
    pub default_privs: Option<User>,
    /// The group `setgid_group`.
    pub setgid_group: Option<Group>,
}

/// Checks that the accounts exist, have no privilege and are not shared; `path` is that of main.cf.
///
/// The errors come in the order in which Postfix would find them; it stops at the first.
#[must_use]
pub fn check_accounts(path: &str, settings: &Settings, facts: &AccountFacts) -> Vec<ConfigError> {
    let mut check = Check { path, errors: Vec::new() };
    let privs = check.user("default_privs", &settings.default_privs, facts.default_privs.as_ref());
    let owner = check.user("mail_owner", &settings.mail_owner, facts.mail_owner.as_ref());
    if let Some(owner) = owner
        && owner.name_of_uid != settings.mail_owner
    {
        let (name, uid, other) = (&settings.mail_owner, owner.uid, &owner.name_of_uid);
        check.add("mail_owner", name, format!("user {name} has the same user ID {uid} as user {other}"));
    }
    let group = check.group(&settings.setgid_group, facts.setgid_group.as_ref());
    check.overlap(settings, privs, owner, group);
    check.errors
}

struct Check<'a> {
    path: &'a str,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    fn add(&mut self, name: &str, value: &str, what: String) {
        self.push(name, value, format!("parameter {name}: {what}"));
    }

    fn push(&mut self, name: &str, value: &str, what: String) {
        let what = format!("file {}: {what}", self.path);
        let remedy = format!("name a separate, unprivileged account in {name}; create it if necessary");
        self.errors.push(ConfigError::new(what, remedy).in_file(self.path, None).about(name, value));
    }

    fn user<'f>(&mut self, name: &str, value: &str, user: Option<&'f User>) -> Option<&'f User> {
        match user {
            None => self.add(name, value, format!("unknown user name value: {value}")),
            Some(User { uid: 0, .. }) => {
                self.add(name, value, format!("user {value} has privileged user ID"));
            }
            Some(User { gid: 0, .. }) => {
                self.add(name, value, format!("user {value} has privileged group ID"));
            }
            Some(_) => {}
        }
        user
    }

    fn group<'f>(&mut self, value: &str, group: Option<&'f Group>) -> Option<&'f Group> {
        const NAME: &str = "setgid_group";
        match group {
            None => self.add(NAME, value, format!("unknown group name: {value}")),
            Some(Group { gid: 0, .. }) => {
                self.add(NAME, value, format!("group {value} has privileged group ID"));
            }
            Some(group) if group.name_of_gid != value => {
                let (gid, other) = (group.gid, &group.name_of_gid);
                self.add(NAME, value, format!("group {value} has the same group ID {gid} as group {other}"));
            }
            Some(_) => {}
        }
        group
    }

    fn overlap(
        &mut self,
        settings: &Settings,
        privs: Option<&User>,
        owner: Option<&User>,
        group: Option<&Group>,
    ) {
        let (privs_name, owner_name) = (&settings.default_privs, &settings.mail_owner);
        let group_name = &settings.setgid_group;
        if privs_name == owner_name {
            let what = format!("parameters default_privs and mail_owner specify the same user {privs_name}");
            self.push("mail_owner", owner_name, what);
        } else if let (Some(privs), Some(owner)) = (privs, owner) {
            let users = format!(
                "parameters default_privs and mail_owner: users {privs_name} and {owner_name} have the same"
            );
            if privs.uid == owner.uid {
                self.push("mail_owner", owner_name, format!("{users} user ID: {}", privs.uid));
            }
            if privs.gid == owner.gid {
                self.push("mail_owner", owner_name, format!("{users} group ID: {}", privs.gid));
            }
        }
        let users = [("default_privs", privs_name, privs), ("mail_owner", owner_name, owner)];
        for (parameter, name, user) in users {
            if let (Some(user), Some(group)) = (user, group)
                && user.gid == group.gid
            {
                let what = format!(
                    "parameters {parameter} and setgid_group: user {name} and group {group_name} have the same \
                     group ID: {}",
                    user.gid
                );
                self.push("setgid_group", group_name, what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::load_text;

    fn user(uid: u32, gid: u32, name: &str) -> Option<User> {
        Some(User { uid, gid, name_of_uid: name.to_owned() })
    }

    fn group(gid: u32, name: &str) -> Option<Group> {
        Some(Group { gid, name_of_gid: name.to_owned() })
    }

    fn whats(facts: &AccountFacts) -> Vec<String> {
        let settings = load_text("").unwrap().settings;
        check_accounts("/p/main.cf", &settings, facts).into_iter().map(|error| error.what).collect()
    }

    #[test]
    fn a_plain_installation_is_fine() {
        let facts = AccountFacts {
            mail_owner: user(100, 101, "postfix"),
            default_privs: user(65534, 65534, "nobody"),
            setgid_group: group(102, "postdrop"),
        };
        assert_eq!(whats(&facts), [""; 0]);
    }

    #[test]
    fn trouble_in_the_words_of_postfix() {
        assert_eq!(
            whats(&AccountFacts::default()),
            [
                "file /p/main.cf: parameter default_privs: unknown user name value: nobody",
                "file /p/main.cf: parameter mail_owner: unknown user name value: postfix",
                "file /p/main.cf: parameter setgid_group: unknown group name: postdrop",
            ]
        );
        let facts = AccountFacts {
            mail_owner: user(0, 0, "root"),
            default_privs: user(5, 7, "nobody"),
            setgid_group: group(7, "other"),
        };
        assert_eq!(
            whats(&facts),
            [
                "file /p/main.cf: parameter mail_owner: user postfix has privileged user ID",
                "file /p/main.cf: parameter mail_owner: user postfix has the same user ID 0 as user root",
                "file /p/main.cf: parameter setgid_group: group postdrop has the same group ID 7 as group other",
                "file /p/main.cf: parameters default_privs and setgid_group: user nobody and group postdrop have the \
             same group ID: 7",
            ]
        );
    }
}
