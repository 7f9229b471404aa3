//! The file behind an import: decompressed by its magic number, identified by what a change would change.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const BUFFER_BYTES: usize = 128 << 10;

/// A file that can be read again and again.
#[derive(Debug, Clone)]
pub struct Source {
    pub path: PathBuf,
    pub identity: Identity,
    compression: Compression,
}

/// Two files of one identity are taken for the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub bytes: u64,
    pub modified_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Source {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut magic = [0; 4];
        let mut file = File::open(path)?;
        let identity = Identity::of(&file)?;
        let read = read_up_to(&mut file, &mut magic)?;
        let compression = match magic[..read] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            _ => Compression::None,
        };
        Ok(Self { path: path.to_owned(), identity, compression })
    }

    /// Whether it is still what it was when it was opened.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        Ok(Identity::of(&File::open(&self.path)?)? == self.identity)
    }

    /// The name of its compression, as HTTP has it.
    pub fn encoding(&self) -> Option<&'static str> {
        match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// The first decompressed bytes.
    pub fn beginning(&self) -> io::Result<Vec<u8>> {
        let mut beginning = Vec::new();
        let reader = self.read_from(0, &Arc::default())?;
        reader.take(BUFFER_BYTES as u64).read_to_end(&mut beginning)?;
        Ok(beginning)
    }

    /// The decompressed bytes from there on; tells in `read` how much of the file as it lies there was read.
    pub fn read_from(&self, byte: u64, read: &Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        let begin = if self.compression == Compression::None { byte } else { 0 };
        file.seek(SeekFrom::Start(begin))?;
        read.store(begin, Ordering::Relaxed);
        let counted = Counted { file, bytes: read.clone() };
        let file = BufReader::with_capacity(BUFFER_BYTES, counted);
        let mut reader: Box<dyn Read + Send> = match self.compression {
            Compression::None => return Ok(Box::new(file)),
            Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        };
        let skipped = io::copy(&mut reader.by_ref().take(byte), &mut io::sink())?;
        if skipped < byte {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reader)
    }

    /// SHA-256 of the decompressed bytes, in hex.
    pub fn hash(&self, read: &Arc<AtomicU64>, stop: &CancellationToken) -> io::Result<String> {
        let mut hash = Sha256::new();
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, self.read_from(0, read)?);
        loop {
            if stop.is_cancelled() {
                return Err(io::Error::other("stopped while the file was hashed"));
            }
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            let used = bytes.len();
            reader.consume(used);
        }
        Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes every text");
            text
        }))
    }
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { bytes: metadata.len(), modified_ns })
    }
}

/// Tells how far a file was read.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
