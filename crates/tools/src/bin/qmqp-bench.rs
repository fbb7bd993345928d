//! See qmqp-bench(1).

fn main() -> std::process::ExitCode {
    tools::bench::run()
}
