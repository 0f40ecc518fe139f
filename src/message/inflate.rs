//! How is a body read that its sender compressed?

use std::borrow::Cow;
#[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
use std::io::Read;

use super::sys_flag::Compression;
use crate::error::{Error, Result};

/// Returns the body as its sender had it: the stored bytes themselves where they are not compressed.
///
/// # Errors
///
/// `Unsupported` where this build lacks the feature, the type is unknown or the stream is broken; `MessageTooLarge`
/// where it would grow beyond `len_max` bytes.
pub(crate) fn inflate(
    compression: Option<Compression>,
    stored: &[u8],
    len_max: u32,
) -> Result<Cow<'_, [u8]>> {
    match compression {
        None => Ok(Cow::Borrowed(stored)),
        Some(Compression::Zlib) => zlib(stored, len_max),
        Some(Compression::Lz4) => lz4(stored, len_max),
        Some(Compression::Zstd) => zstd(stored, len_max),
        Some(Compression::Unknown(number)) => Err(Error::unsupported(format!(
            "no compression of RocketMQ's has the number {number}; raw_body gives the bytes as they are"
        ))),
    }
}

#[cfg(feature = "zlib")]
fn zlib(stored: &[u8], len_max: u32) -> Result<Cow<'_, [u8]>> {
    read(flate2::read::ZlibDecoder::new(stored), "zlib", len_max)
}

#[cfg(feature = "lz4")]
fn lz4(stored: &[u8], len_max: u32) -> Result<Cow<'_, [u8]>> {
    read(lz4_flex::frame::FrameDecoder::new(stored), "lz4", len_max)
}

#[cfg(feature = "zstd")]
fn zstd(stored: &[u8], len_max: u32) -> Result<Cow<'_, [u8]>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(stored).map_err(|error| broken("zstd", &error))?;
    read(decoder, "zstd", len_max)
}

#[cfg(not(feature = "zlib"))]
fn zlib(_: &[u8], _: u32) -> Result<Cow<'_, [u8]>> {
    Err(missing("zlib"))
}

#[cfg(not(feature = "lz4"))]
fn lz4(_: &[u8], _: u32) -> Result<Cow<'_, [u8]>> {
    Err(missing("lz4"))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: &[u8], _: u32) -> Result<Cow<'_, [u8]>> {
    Err(missing("zstd"))
}

#[cfg(not(all(feature = "zlib", feature = "lz4", feature = "zstd")))]
fn missing(feature: &str) -> Error {
    Error::unsupported(format!(
        "the body is compressed with {feature}: build pocketmq with the feature {feature}, or read raw_body"
    ))
}

/// Reads a stream to its end, and one byte beyond the limit at most: a short stream can stand for gigabytes.
#[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
fn read(stream: impl Read, feature: &str, len_max: u32) -> Result<Cow<'static, [u8]>> {
    let mut body = Vec::new();
    let len_max = u64::from(len_max);
    stream.take(len_max + 1).read_to_end(&mut body).map_err(|error| broken(feature, &error))?;
    let len = crate::types::to_u64(body.len());
    if len > len_max {
        return Err(Error::MessageTooLarge { len, max: len_max });
    }
    Ok(Cow::Owned(body))
}

#[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
fn broken(feature: &str, error: &dyn std::fmt::Display) -> Error {
    Error::unsupported(format!("the body says it is compressed with {feature}, and is not: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_compressed_is_not_copied() {
        assert!(matches!(inflate(None, b"hello", 1), Ok(Cow::Borrowed(b"hello"))));
    }

    #[test]
    fn an_unknown_compression_is_an_error() {
        assert!(matches!(inflate(Some(Compression::Unknown(5)), b"hello", 9), Err(Error::Unsupported(_))));
    }

    #[cfg(not(feature = "zlib"))]
    #[test]
    fn a_missing_feature_is_named() {
        let error = inflate(Some(Compression::Zlib), b"x", 9).unwrap_err();
        assert!(error.to_string().contains("feature zlib"), "{error}");
    }

    #[cfg(feature = "zlib")]
    #[test]
    fn a_zlib_body_is_inflated_up_to_the_limit() {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(5));
        encoder.write_all(&[7; 100_000]).unwrap();
        check_limits(Compression::Zlib, &encoder.finish().unwrap());
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn an_lz4_body_is_inflated_up_to_the_limit() {
        use std::io::Write;
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(&[7; 100_000]).unwrap();
        check_limits(Compression::Lz4, &encoder.finish().unwrap());
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_body_is_inflated_up_to_the_limit() {
        let body = [7; 100_000];
        let packed =
            ruzstd::encoding::compress_to_vec(&body[..], ruzstd::encoding::CompressionLevel::Fastest);
        check_limits(Compression::Zstd, &packed);
    }

    #[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
    fn check_limits(compression: Compression, packed: &[u8]) {
        assert_eq!(*inflate(Some(compression), packed, 100_000).unwrap(), vec![7; 100_000]);
        let error = inflate(Some(compression), packed, 99_999).unwrap_err();
        assert!(matches!(error, Error::MessageTooLarge { len: 100_000, max: 99_999 }), "{error}");
        for broken in [&packed[..packed.len() / 2], b"hello", b""] {
            // A stream that is cut may end early or in an error, but never in more than it held.
            let read = inflate(Some(compression), broken, 100_000);
            assert!(read.is_err() || read.is_ok_and(|body| body.len() < 100_000));
        }
    }
}
