//! Uploads on disk: what of a job must survive this process.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::import::Settings;
use crate::import::checkpoint::sync_directory;

/// What is left free on the disk of the uploads.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// An upload that nobody holds and that is as old was cut off.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// How an upload is to be imported; lies beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub settings: Settings,
    pub is_dry_run: bool,
}

/// The directory of the uploads: `<id>.part` while one comes, `<id>.data` and `<id>.order` once it is whole, and its
/// checkpoint. Who holds the lock of a file works with it.
#[derive(Debug, Clone)]
pub struct Spool(PathBuf);

/// A whole upload that is ours alone.
pub struct Claimed {
    pub id: Uuid,
    pub order: Order,
    pub data: PathBuf,
    pub checkpoint: PathBuf,
    _lock: File,
}

impl Spool {
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Begins an upload.
    pub fn create(&self, id: Uuid) -> io::Result<File> {
        // People's data, in a directory that may lie among everybody's.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let file = File::create_new(self.part(id))?;
        file.lock()?;
        Ok(file)
    }

    /// The upload that comes, or has come and is not kept yet.
    pub fn part(&self, id: Uuid) -> PathBuf {
        self.path(id, "part")
    }

    pub fn has_room_for(&self, bytes: u64) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(&self.0)?;
        Ok(disk.f_bavail * disk.f_frsize >= bytes + FREE_BYTES_MIN)
    }

    /// Makes an upload's order last, before anybody hears of the job.
    pub fn order(&self, id: Uuid, order: &Order) -> io::Result<()> {
        let mut file = File::create(self.path(id, "order"))?;
        file.write_all(&serde_json::to_vec(order)?)?;
        file.sync_all()
    }

    /// Makes the upload one that is to be imported.
    pub fn commit(&self, id: Uuid) -> io::Result<()> {
        let data = self.path(id, "data");
        fs::rename(self.path(id, "part"), &data)?;
        sync_directory(&data)
    }

    /// The whole uploads, the oldest first.
    pub fn waiting(&self) -> io::Result<Vec<Uuid>> {
        let mut ids: Vec<_> = self.files("data")?.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// `None`: somebody else works on it, or it is gone.
    pub fn claim(&self, id: Uuid) -> io::Result<Option<Claimed>> {
        let data = self.path(id, "data");
        let lock = match File::open(&data) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) if data.exists() => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let order = serde_json::from_slice(&fs::read(self.path(id, "order"))?)?;
        let checkpoint = self.path(id, "checkpoint");
        Ok(Some(Claimed { id, order, data, checkpoint, _lock: lock }))
    }

    pub fn remove(&self, id: Uuid) {
        for ending in ["part", "data", "order", "checkpoint", "checkpoint.new"] {
            if let Err(error) = fs::remove_file(self.path(id, ending))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%id, %error, "a file of an import that is over stays behind");
            }
        }
    }

    /// Removes uploads whose gateway died before they were whole.
    pub fn remove_abandoned(&self) -> io::Result<()> {
        for (id, path) in self.files("part")? {
            let modified = fs::metadata(&path)?.modified()?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age > ABANDONED_AFTER && File::open(&path)?.try_lock().is_ok() {
                self.remove(id);
            }
        }
        Ok(())
    }

    fn files(&self, ending: &str) -> io::Result<Vec<(Uuid, PathBuf)>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let (Some(id), true) = (id, path.extension().is_some_and(|it| it == ending)) {
                files.push((id, path));
            }
        }
        Ok(files)
    }

    fn path(&self, id: Uuid, ending: &str) -> PathBuf {
        self.0.join(format!("{id}.{ending}"))
    }
}
