//! Reads a body within its limits of size, time and memory, decompressed.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyDataStream, BodyExt};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::content::Encoding;
use super::error::ApiError;
use crate::budget::Share;

/// What a body may have on the wire.
pub const BODY_BYTES_MAX: usize = 5 << 20;

/// What it may have decompressed: a zip bomb ends here.
pub const DECOMPRESSED_BYTES_MAX: usize = 20 << 20;

/// A zstd frame may ask for a window of up to 2^31 bytes; RFC 8878 has decoders take 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How long, and how much, of a refused body is still taken, so that its client gets to the answer:
/// most read nothing before they have written everything, and closing would throw the answer away.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
const DISCARD_BYTES_MAX: usize = 16 << 20;

/// The whole body, charged to `share` as it comes.
pub async fn read(
    encoding: Option<Encoding>,
    body: &mut Body,
    share: &mut Share,
    time_max: Duration,
) -> Result<Bytes, ApiError> {
    let reading = async {
        match encoding {
            None => read_plain(body, share).await,
            Some(encoding) => Box::pin(read_compressed(encoding, body, share)).await,
        }
    };
    tokio::time::timeout(time_max, reading)
        .await
        .unwrap_or(Err(ApiError::BodyTimeout { seconds: time_max.as_secs() }))
}

/// Most bodies come in one piece, which is then not copied.
async fn read_plain(body: &mut Body, share: &mut Share) -> Result<Bytes, ApiError> {
    let length = body.size_hint().exact().and_then(|it| usize::try_from(it).ok());
    let Some(first) = next_piece(body).await? else { return Ok(Bytes::new()) };
    grow(share, first.len(), 0)?;
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = next_piece(body).await? else { return Ok(first) };
    let mut all = Vec::with_capacity(length.unwrap_or(2 * first.len()).min(BODY_BYTES_MAX));
    all.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(piece) = next {
        grow(share, piece.len(), all.len())?;
        all.extend_from_slice(&piece);
        next = next_piece(body).await?;
    }
    Ok(all.into())
}

async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_cause| ApiError::IncompleteBody)?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        } // Trailers tell nothing we use.
    }
    Ok(None)
}

fn grow(share: &mut Share, more: usize, before: usize) -> Result<(), ApiError> {
    if before + more > BODY_BYTES_MAX {
        return Err(ApiError::BodyTooLarge);
    }
    share.grow(more).map_err(|_exhausted| ApiError::Overloaded)
}

async fn read_compressed(
    encoding: Encoding,
    body: &mut Body,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    const STEP: usize = 16 << 10;
    let mut decoder = decoder(encoding, StreamReader::new(wire(body)));
    let mut all = Vec::new();
    loop {
        all.reserve(STEP);
        let read =
            decoder.read_buf(&mut all).await.map_err(|error| as_api_error(encoding, error))?;
        if read == 0 {
            return Ok(all.into());
        }
        if all.len() > DECOMPRESSED_BYTES_MAX {
            return Err(ApiError::DecompressedTooLarge);
        }
        share.grow(read).map_err(|_exhausted| ApiError::Overloaded)?;
    }
}

/// What comes over the wire, up to its limit. The errors pass through the decoder as they are.
fn wire(body: &mut Body) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    let mut taken = 0;
    BodyDataStream::new(body).map_err(|_cause| io::Error::other(ApiError::IncompleteBody)).map(
        move |piece| {
            let piece = piece?;
            taken += piece.len();
            if taken > BODY_BYTES_MAX {
                return Err(io::Error::other(ApiError::BodyTooLarge));
            }
            Ok(piece)
        },
    )
}

fn decoder<'a>(
    encoding: Encoding,
    wire: impl AsyncBufRead + Send + Unpin + 'a,
) -> Box<dyn AsyncRead + Send + Unpin + 'a> {
    match encoding {
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(wire);
            decoder.multiple_members(true); // What `cat a.gz b.gz` makes is one gzip file.
            Box::new(decoder)
        }
        Encoding::Deflate => Box::new(ZlibDecoder::new(wire)),
        Encoding::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
            let mut decoder = ZstdDecoder::with_params(wire, &[window]);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
    }
}

fn as_api_error(encoding: Encoding, error: io::Error) -> ApiError {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => error.to_string(),
    };
    error
        .downcast::<ApiError>()
        .unwrap_or(ApiError::BrokenCompression { encoding: encoding.name(), reason })
}

/// Takes what is left of a refused body, within bounds, so that the answer arrives and the
/// connection can be used again.
pub async fn discard(headers: &HeaderMap, mut body: Body) {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return; // Whoever asked for `100 Continue` sends nothing unless we read.
    }
    let discarding = async {
        let mut bytes = 0;
        while bytes < DISCARD_BYTES_MAX {
            let Ok(Some(piece)) = next_piece(&mut body).await else { return };
            bytes += piece.len();
        }
    };
    let _done_or_given_up = tokio::time::timeout(DISCARD_TIME_MAX, discarding).await;
}
