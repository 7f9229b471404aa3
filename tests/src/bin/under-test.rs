//! The three programs in one file, with kill points compiled in: the name it is called by says which.

use std::process::ExitCode;

fn main() -> ExitCode {
    let called_by = std::env::args().next().unwrap_or_default();
    match called_by.as_str() {
        "gateway" => gateway::main(),
        "processor" => processor::main(),
        "alerter" => alerter::main(),
        other => {
            eprintln!("`{other}` is none of gateway, processor, alerter");
            ExitCode::FAILURE
        }
    }
}
