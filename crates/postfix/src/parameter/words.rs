//! Parameter values that are one of a few keywords.

use crate::value::keyword_enum;

keyword_enum! {
    /// Values of `qmqpd_submit`: who makes the queue file.
    Submit {
        /// Postfix's cleanup(8), over its socket in the queue directory.
        Postfix = "postfix",
        /// Our own cleanup, straight into the incoming queue.
        Local = "local",
    }
}

keyword_enum! {
    /// Values of `qmqpd_commit`: how a message becomes durable.
    Commit {
        /// The queue file is written and synced.
        File = "file",
        /// Many messages are appended to a journal and synced together.
        Journal = "journal",
    }
}

keyword_enum! {
    /// Values of `qmqpd_fix_line_endings`.
    FixLineEndings {
        /// A message whose first line ends in CRLF is a CRLF message.
        Always = "always",
        /// CR has no meaning.
        Never = "never",
    }
}

keyword_enum! {
    /// Values of `qmqpd_log`: where lines go while `maillog_file` is empty.
    LogTarget {
        /// To the syslog daemon.
        Syslog = "syslog",
        /// To standard error.
        Stderr = "stderr",
    }
}

keyword_enum! {
    /// Values of `mynetworks_style`.
    NetworksStyle {
        /// Class A, B, C or D networks.
        Class = "class",
        /// The networks of the interfaces.
        Subnet = "subnet",
        /// The addresses of this host alone.
        Host = "host",
    }
}

keyword_enum! {
    /// Values of `non_empty_end_of_header_action`.
    EndOfHeader {
        /// Insert the missing empty line without a word.
        FixQuietly = "fix_quietly",
        /// Insert it, and mark the message with a MIME-Error header.
        AddHeader = "add_header",
        /// Refuse the message.
        Reject = "reject",
    }
}

keyword_enum! {
    /// Values of `info_log_address_format`.
    AddressFormat {
        /// Quoted as in a message.
        External = "external",
        /// Without quotes.
        Internal = "internal",
    }
}

keyword_enum! {
    /// Values of `syslog_facility`.
    Facility {
        /// User logins and rights.
        Auth = "auth",
        /// User logins and rights, kept private.
        AuthPriv = "authpriv",
        /// Clock daemons.
        Cron = "cron",
        /// Daemons without facility of their own.
        Daemon = "daemon",
        /// File transfer.
        Ftp = "ftp",
        /// The kernel.
        Kern = "kern",
        /// Printing.
        Lpr = "lpr",
        /// Mail.
        Mail = "mail",
        /// News.
        News = "news",
        /// The old name of auth.
        Security = "security",
        /// The syslog daemon itself.
        Syslog = "syslog",
        /// User programs.
        User = "user",
        /// UUCP.
        Uucp = "uucp",
        /// For use by the site.
        Local0 = "local0",
        /// For use by the site.
        Local1 = "local1",
        /// For use by the site.
        Local2 = "local2",
        /// For use by the site.
        Local3 = "local3",
        /// For use by the site.
        Local4 = "local4",
        /// For use by the site.
        Local5 = "local5",
        /// For use by the site.
        Local6 = "local6",
        /// For use by the site.
        Local7 = "local7",
    }
}

impl Facility {
    /// The number of RFC 5424, to be multiplied by 8 for a priority.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Kern => 0,
            Self::User => 1,
            Self::Mail => 2,
            Self::Daemon => 3,
            Self::Auth | Self::Security => 4,
            Self::Syslog => 5,
            Self::Lpr => 6,
            Self::News => 7,
            Self::Uucp => 8,
            Self::Cron => 9,
            Self::AuthPriv => 10,
            Self::Ftp => 11,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}
