//! Where an import goes on after its process died: a file beside the source, replaced in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keeper::Reject;
use super::plan::Plan;
use super::rows::Position;
use super::source::Identity;

/// Everything before `position` is acknowledged by the brokers, or rejected and written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// The file, how it is read, and where it goes: in another import nothing of this holds.
    pub source: Identity,
    pub reading: String,
    pub topic: String,
    pub started_at: Timestamp,
    /// Of the decompressed file, once a row has needed it.
    pub sha256: Option<String>,
    pub position: Position,
    pub accepted: u64,
    pub rejected: u64,
    /// The length of the rejects file at that position.
    pub rejects_bytes: u64,
    pub first_rejects: Vec<Reject>,
}

impl Checkpoint {
    /// Before the first row.
    pub fn begin(plan: &Plan, topic: &str, started_at: Timestamp) -> Self {
        Self {
            source: plan.source.identity,
            reading: plan.reading(),
            topic: topic.to_owned(),
            started_at,
            sha256: None,
            position: plan.begin,
            accepted: 0,
            rejected: 0,
            rejects_bytes: 0,
            first_rejects: Vec::new(),
        }
    }

    /// Why this one cannot go on where the other one begins.
    pub fn difference(&self, begin: &Self) -> Option<&'static str> {
        if self.source != begin.source {
            return Some("the file has changed since");
        }
        if self.reading != begin.reading {
            return Some("its columns are mapped in another way now");
        }
        (self.topic != begin.topic).then_some("it went to another topic")
    }

    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// After a crash the file is the old one or this one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let beside = beside(path);
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(path)
    }

    pub fn remove(path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Makes a rename last.
pub fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = of.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
