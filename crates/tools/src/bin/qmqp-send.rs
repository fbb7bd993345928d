//! See qmqp-send(1).

fn main() -> std::process::ExitCode {
    tools::send::run()
}
