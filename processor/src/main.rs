//! The program `processor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    processor::main()
}
