//! Scripts of `tests/clients`, run beside the packages of others that `./dev test` installs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::ensure;
use tokio::process::Command;

/// Runs a script of `tests/clients`.
pub fn command(script: &str) -> anyhow::Result<Command> {
    let venv = installed().join("venv/bin");
    let mut command = if script.ends_with(".py") {
        Command::new(venv.join("python"))
    } else if venv.join("node").exists() {
        Command::new(venv.join("node"))
    } else {
        Command::new("node")
    };
    let folder = if script.ends_with(".py") { scripts() } else { copied() };
    ensure!(
        installed().join("node_modules").exists(),
        "the packages are missing: run `./dev test`"
    );
    command.arg(folder.join(script));
    Ok(command)
}

fn scripts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}

fn installed() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.dev/clients"))
}

/// A module finds its packages only from where it lies.
fn copied() -> &'static Path {
    static COPIED: LazyLock<PathBuf> = LazyLock::new(|| {
        for file in scripts().read_dir().expect("tests/clients is there").flatten() {
            if file.path().extension().is_some_and(|it| it == "mjs") {
                let to = installed().join(file.file_name());
                std::fs::copy(file.path(), to).expect("the packages are installed by `./dev test`");
            }
        }
        installed().to_owned()
    });
    &COPIED
}
