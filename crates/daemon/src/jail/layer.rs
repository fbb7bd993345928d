//! The layers of the sandbox: what they take away, and what has become of them.

/// Which system calls are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Those of a process that serves clients.
    Serve,
    /// Those of the process that Postfix's master(8) knows, which waits for this child.
    WaitFor {
        /// The only process that it may signal.
        child: i32,
    },
}

/// What has become of one layer of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// It binds this process.
    InForce {
        /// Its version, where it has any.
        version: String,
    },
    /// qmqpd_sandbox does not name it.
    Off,
    /// This kernel does not have it; the text says what would have to be there.
    Missing(String),
}
