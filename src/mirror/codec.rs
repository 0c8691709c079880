//! Kafka's compression codecs, for the batches that cannot be copied as they are (KIP-98, KIP-110; Kafka's `CompressionType`).

use std::io::{self, Read, Write};

use thiserror::Error;

/// Of a batch's attributes.
const BITS: i16 = 0x07;
/// Before blocks of snappy, each with its length, as Java writes them (`SnappyOutputStream`). librdkafka writes one block without.
const XERIAL: &[u8; 8] = b"\x82SNAPPY\0";
/// Behind that: the version and the oldest that can read it.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What Java puts into one block.
const BLOCK: usize = 32 * 1024;

/// In the order in which clients have learned them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("codec {0} is unknown")]
    Unknown(i16),
    #[error("records cannot be decompressed: {0}")]
    Broken(#[from] io::Error),
    #[error("records take more than {0} bytes decompressed")]
    TooLong(usize),
}

impl Codec {
    /// By a batch's attributes.
    pub fn of(attributes: i16) -> Result<Self, CodecError> {
        Ok(match attributes & BITS {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => return Err(CodecError::Unknown(other)),
        })
    }

    /// Its bits in a batch's attributes.
    pub fn bits(self) -> i16 {
        self as i16
    }

    /// No more than `limit` bytes: what a few compressed bytes can become is not bounded otherwise.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::None => bounded(bytes, limit),
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(bytes), limit),
            Self::Snappy => unsnappy(bytes, limit),
            Self::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(bytes), limit),
            Self::Zstd => bounded(zstd::stream::read::Decoder::new(bytes)?, limit),
        }
    }

    pub fn compress(self, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
                out.write_all(bytes)?;
                out.finish()?
            }
            Self::Snappy => {
                let mut out = [&XERIAL[..], &XERIAL_VERSIONS].concat();
                for block in bytes.chunks(BLOCK) {
                    let block = snap::raw::Encoder::new().compress_vec(block).map_err(io::Error::other)?;
                    out.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes());
                    out.extend_from_slice(&block);
                }
                out
            }
            Self::Lz4 => {
                let mut out = lz4_flex::frame::FrameEncoder::new(vec![]);
                out.write_all(bytes)?;
                out.finish().map_err(io::Error::other)?
            }
            Self::Zstd => zstd::stream::encode_all(bytes, 0)?,
        })
    }
}

/// The frames of lz4 in messages of format 0, whose headers have a wrong checksum, on purpose (KAFKA-3160): one value of the 256 is
/// what it should be.
pub fn lz4_of_format_0(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    const HAS_SIZE: u8 = 0x08;
    let flags = bytes.get(4).copied().unwrap_or_default();
    // Behind the frame's magic number, its flags and block size, and perhaps the size of the content.
    let at = if flags & HAS_SIZE == 0 { 6 } else { 14 };
    let mut frame = bytes.to_vec();
    let mut last = Codec::Lz4.decompress(&frame, limit);
    for checksum in 0..=u8::MAX {
        let is_header = |error: &io::Error| error.to_string().to_lowercase().contains("header");
        match (&last, frame.get_mut(at)) {
            (Err(CodecError::Broken(error)), Some(byte)) if is_header(error) => *byte = checksum,
            _ => break,
        }
        last = Codec::Lz4.decompress(&frame, limit);
    }
    last
}

fn bounded(from: impl Read, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![];
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_to_end(&mut out)?;
    if out.len() > limit { Err(CodecError::TooLong(limit)) } else { Ok(out) }
}

fn unsnappy(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let ends_early = || CodecError::Broken(io::ErrorKind::UnexpectedEof.into());
    let mut out = vec![];
    let Some(blocks) = bytes.strip_prefix(XERIAL) else {
        block(bytes, limit, &mut out)?;
        return Ok(out);
    };
    let mut rest = blocks.get(XERIAL_VERSIONS.len()..).ok_or_else(ends_early)?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (one, behind) = behind.split_at_checked(length).ok_or_else(ends_early)?;
        block(one, limit, &mut out)?;
        rest = behind;
    }
    if rest.is_empty() { Ok(out) } else { Err(ends_early()) }
}

fn block(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let length = snap::raw::decompress_len(bytes).map_err(io::Error::other)?;
    if out.len().saturating_add(length) > limit {
        return Err(CodecError::TooLong(limit));
    }
    out.extend(snap::raw::Decoder::new().decompress_vec(bytes).map_err(io::Error::other)?);
    Ok(())
}
