//! What an import writes down as it goes: its rejects, and the place it would go on from.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::rows::{Position, RowRef};

/// How many rejects are kept in memory, for who wants to see some.
const FIRST_REJECTS: usize = 100;

/// What is shown of their rows.
const SHOWN_BYTES: usize = 1 << 10;

/// A row that is no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reject {
    /// Where the row begins in the decompressed file, counted from 1.
    pub line: u64,
    /// Counted from 1, without the header.
    pub row: u64,
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pointer: Option<String>,
    pub detail: String,
    /// The row as it was; what is no text in it is replaced.
    pub original: String,
}

impl Reject {
    pub(super) fn of(row: RowRef<'_>, code: &str, pointer: Option<String>, detail: &str) -> Self {
        Self {
            line: row.line(),
            row: row.number(),
            code: code.to_owned(),
            column: None,
            pointer,
            detail: storable(detail),
            original: storable(&String::from_utf8_lossy(row.raw())),
        }
    }

    fn shortened(&self) -> Self {
        let mut end = self.original.len().min(SHOWN_BYTES);
        while !self.original.is_char_boundary(end) {
            end -= 1;
        }
        Self { original: self.original[..end].to_owned(), ..self.clone() }
    }
}

/// Postgres keeps no NUL, in JSON neither: a job that holds one could never end.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Keeps the checkpoint in memory up to date and writes it when told to.
pub struct Keeper {
    checkpoint: Checkpoint,
    /// None: the import cannot be resumed, or stores nothing.
    path: Option<PathBuf>,
    rejects: Option<RejectsFile>,
}

/// Created with its first reject.
struct RejectsFile {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl Keeper {
    /// Goes on from that checkpoint: what the rejects file has beyond it comes again.
    pub fn new(
        checkpoint: Checkpoint,
        path: Option<PathBuf>,
        rejects: Option<PathBuf>,
    ) -> io::Result<Self> {
        let rejects = match rejects {
            Some(path) => Some(RejectsFile::open(path, checkpoint.rejects_bytes)?),
            None => None,
        };
        Ok(Self { checkpoint, path, rejects })
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Everything up to there is settled: so many events accepted since the last such place, and these rejected.
    pub(super) fn reached(
        &mut self,
        position: Position,
        accepted: u64,
        rejects: &[Reject],
    ) -> io::Result<()> {
        for reject in rejects {
            if self.checkpoint.first_rejects.len() < FIRST_REJECTS {
                self.checkpoint.first_rejects.push(reject.shortened());
            }
            if let Some(file) = &mut self.rejects {
                file.append(reject)?;
            }
        }
        self.checkpoint.accepted += accepted;
        self.checkpoint.rejected += rejects.len() as u64;
        self.checkpoint.position = position;
        Ok(())
    }

    /// Makes it last.
    pub(super) fn keep(&mut self, sha256: Option<&String>) -> io::Result<()> {
        if let Some(rejects) = &mut self.rejects {
            rejects.sync()?;
            self.checkpoint.rejects_bytes = rejects.bytes;
        }
        self.checkpoint.sha256 = sha256.cloned();
        self.path.as_ref().map_or(Ok(()), |path| self.checkpoint.write(path))
    }

    /// Done, and its end is known to whoever has to know it: there is nothing to go on with.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(rejects) = &mut self.rejects {
            rejects.sync()?;
        }
        self.path.as_ref().map_or(Ok(()), |path| Checkpoint::remove(path))
    }
}

impl RejectsFile {
    fn open(path: PathBuf, bytes: u64) -> io::Result<Self> {
        let mut rejects = Self { path, file: None, bytes: 0 };
        if bytes > 0 {
            let mut file = OpenOptions::new().write(true).open(&rejects.path)?;
            file.set_len(bytes)?;
            file.seek(SeekFrom::End(0))?;
            rejects.file = Some(BufWriter::new(file));
            rejects.bytes = bytes;
        } else if rejects.path.is_file() {
            std::fs::remove_file(&rejects.path)?; // Of an earlier import.
        }
        Ok(rejects)
    }

    fn append(&mut self, reject: &Reject) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(&self.path)?)),
        };
        let mut line = serde_json::to_vec(reject)?;
        line.push(b'\n');
        file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush()?;
        match file.get_ref().sync_data() {
            // Not a file but a pipe or a terminal.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}
