//! See qmqpd(8).

fn main() -> std::process::ExitCode {
    qmqpd::run()
}
