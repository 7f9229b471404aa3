//! The program `alerter`.

use std::process::ExitCode;

fn main() -> ExitCode {
    alerter::main()
}
