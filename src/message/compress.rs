//! How does a producer make a large body smaller, so that every RocketMQ client can read it?

#[cfg(any(feature = "zlib", feature = "lz4"))]
use std::io::Write;

use super::sys_flag::{Compression, SysFlag};
use crate::error::{Error, Result};

/// How a producer compresses large bodies (RocketMQ's `compressType`). Each needs the cargo feature of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompressionType {
    /// A zlib stream: RocketMQ's default, which every version of its clients reads. Feature `zlib`.
    Zlib,
    /// An LZ4 frame: the fastest. Clients read it from RocketMQ 5.0 on. Feature `lz4`.
    Lz4,
    /// Zstandard, as a level-1 encoder writes it whatever level is set. Clients read it from RocketMQ 5.0 on. Feature
    /// `zstd`.
    Zstd,
}

/// Which bodies are compressed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compress {
    /// `None`: none is.
    pub(crate) kind: Option<CompressionType>,
    /// The shortest body that is compressed, in bytes.
    pub(crate) over: usize,
    /// 0 (not at all) to 9 (smallest), where the type has levels.
    pub(crate) level: u32,
}

impl Default for Compress {
    fn default() -> Self {
        Self { kind: None, over: 4_096, level: 5 }
    }
}

/// A compressed body, with the bits of the system flag that say so.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) body: Vec<u8>,
    pub(crate) sys_flag: SysFlag,
}

impl Compress {
    /// Refuses a level that does not exist, and a type that this build cannot write.
    pub(crate) fn check(&self) -> Result<()> {
        if self.level > 9 {
            return Err(Error::config("compress_level", "must be 0 to 9"));
        }
        match self.kind {
            None => Ok(()),
            Some(kind) => packed(kind, self.level, b"x").map(drop),
        }
    }

    /// Returns the body compressed; `None` where it is too short for that, or does not get shorter.
    pub(crate) fn pack(&self, body: &[u8]) -> Result<Option<Packed>> {
        let Some(kind) = self.kind.filter(|_| body.len() >= self.over) else { return Ok(None) };
        let packed = packed(kind, self.level, body)?;
        let sys_flag = SysFlag::NONE.with_compression(match kind {
            CompressionType::Zlib => Compression::Zlib,
            CompressionType::Lz4 => Compression::Lz4,
            CompressionType::Zstd => Compression::Zstd,
        });
        Ok((packed.len() < body.len()).then_some(Packed { body: packed, sys_flag }))
    }
}

fn packed(kind: CompressionType, level: u32, body: &[u8]) -> Result<Vec<u8>> {
    match kind {
        CompressionType::Zlib => zlib(body, level),
        CompressionType::Lz4 => lz4(body),
        CompressionType::Zstd => zstd(body),
    }
}

#[cfg(feature = "zlib")]
fn zlib(body: &[u8], level: u32) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(body).and_then(|()| encoder.finish()).map_err(|error| failed("zlib", &error))
}

#[cfg(feature = "lz4")]
fn lz4(body: &[u8]) -> Result<Vec<u8>> {
    // The default frame has independent blocks, the only ones that RocketMQ's reader takes.
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(body).map_err(|error| failed("lz4", &error))?;
    encoder.finish().map_err(|error| failed("lz4", &error))
}

#[cfg(feature = "zstd")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the feature refuses")]
fn zstd(body: &[u8]) -> Result<Vec<u8>> {
    Ok(ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest))
}

#[cfg(any(feature = "zlib", feature = "lz4"))]
fn failed(feature: &str, error: &dyn std::fmt::Display) -> Error {
    Error::argument("body", format!("cannot be compressed with {feature}: {error}"))
}

#[cfg(not(feature = "zlib"))]
fn zlib(_: &[u8], _: u32) -> Result<Vec<u8>> {
    Err(missing("zlib"))
}

#[cfg(not(feature = "lz4"))]
fn lz4(_: &[u8]) -> Result<Vec<u8>> {
    Err(missing("lz4"))
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: &[u8]) -> Result<Vec<u8>> {
    Err(missing("zstd"))
}

#[cfg(not(all(feature = "zlib", feature = "lz4", feature = "zstd")))]
fn missing(feature: &str) -> Error {
    Error::config("compression", format!("needs pocketmq to be built with the feature {feature}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
    use crate::message::inflate::inflate;

    #[test]
    fn f27_the_defaults_are_rocketmqs_but_for_being_off() {
        let default = Compress::default();
        assert_eq!((default.kind, default.over, default.level), (None, 4_096, 5));
        assert!(default.pack(&[7; 100_000]).unwrap().is_none());
        default.check().unwrap();
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        let error = Compress { level: 10, ..Compress::default() }.check().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { field: "compress_level", .. }), "{error}");
    }

    #[cfg(not(feature = "zlib"))]
    #[test]
    fn a_type_without_its_feature_is_refused_by_name() {
        let error =
            Compress { kind: Some(CompressionType::Zlib), ..Compress::default() }.check().unwrap_err();
        assert!(error.to_string().contains("feature zlib"), "{error}");
    }

    #[cfg(any(feature = "zlib", feature = "lz4", feature = "zstd"))]
    fn check_type(kind: CompressionType, bits: u32) {
        let compress = Compress { kind: Some(kind), ..Compress::default() };
        compress.check().unwrap();
        for len in [4_096_usize, 65_536, 1 << 20] {
            let body: Vec<u8> = (0..len).map(|n| (n / 97 % 251) as u8).collect();
            let packed = compress.pack(&body).unwrap().unwrap();
            assert_eq!(packed.sys_flag.bits(), bits);
            assert!(packed.body.len() < len);
            let read = inflate(packed.sys_flag.compression(), &packed.body, 1 << 30).unwrap();
            assert_eq!(*read, body);
        }
        assert!(compress.pack(&[7; 4_095]).unwrap().is_none(), "below the threshold");
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(compress.pack(&noise).unwrap().is_none(), "what gets no shorter stays as it is");
    }

    #[cfg(feature = "zlib")]
    #[test]
    fn f27_a_zlib_body_is_marked_as_rocketmq_marks_it_and_read_back() {
        check_type(CompressionType::Zlib, 0x301);
        // The header of RFC 1950, by which old clients know the stream.
        let compress = Compress { kind: Some(CompressionType::Zlib), ..Compress::default() };
        assert_eq!(compress.pack(&[7; 4_096]).unwrap().unwrap().body[0], 0x78);
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn f27_an_lz4_body_is_a_frame_of_independent_blocks() {
        check_type(CompressionType::Lz4, 0x101);
        let compress = Compress { kind: Some(CompressionType::Lz4), ..Compress::default() };
        let packed = compress.pack(&[7; 200_000]).unwrap().unwrap().body;
        assert_eq!(packed[..4], [0x04, 0x22, 0x4D, 0x18]);
        assert_eq!(packed[4] & 0x20, 0x20, "block independence");
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn f27_a_zstd_body_is_marked_as_rocketmq_marks_it_and_read_back() {
        check_type(CompressionType::Zstd, 0x201);
    }
}
