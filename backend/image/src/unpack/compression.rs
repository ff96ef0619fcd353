//! How a layer is compressed, told from its first bytes rather than from what a manifest claims.

use std::io::{self, BufReader, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames, with which `zstd:chunked` files may begin, have 16 magic numbers.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const READ_BYTES: usize = 128 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [a, b, ..] if [*a, *b] == GZIP => Self::Gzip,
            [a, b, c, d, ..] if [*a, *b, *c, *d] == ZSTD => Self::Zstd,
            [a, b, c, d, ..] if *a & 0xf0 == 0x50 && [*b, *c, *d] == ZSTD_SKIPPABLE => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Returns the stream decompressed, and how it was compressed.
///
/// gzip files of several members and zstd files of several frames are read to their end: `pigz`,
/// `estargz` and `zstd:chunked` write them. A zstd window is at most 128 MiB, the library's default.
pub(crate) fn decompress<'a>(mut input: impl Read + 'a) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut start = Vec::with_capacity(ZSTD.len());
    input.by_ref().take(ZSTD.len() as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole = BufReader::with_capacity(READ_BYTES, io::Cursor::new(start).chain(input));
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    };
    Ok((compression, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn round(packed: &[u8]) -> (Compression, io::Result<Vec<u8>>) {
        let (compression, mut reader) = decompress(packed).expect("a start");
        let mut out = Vec::new();
        (compression, reader.read_to_end(&mut out).map(|_| out))
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory");
        encoder.finish().expect("memory")
    }

    /// Attacks: C4.
    #[test]
    fn plain_gzip_and_zstd_are_told_apart_and_read_whole() {
        let data = b"some content ".repeat(1000);
        let zstd = zstd::encode_all(data.as_slice(), 1).expect("memory");
        for (packed, kind) in [
            (data.clone(), Compression::Plain),
            (gzip(&data), Compression::Gzip),
            (zstd.clone(), Compression::Zstd),
        ] {
            let (told, read) = round(&packed);
            assert_eq!((told, read.expect("whole")), (kind, data.clone()));
        }
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd.as_slice()].concat();
        assert_eq!(round(&skippable).1.expect("whole"), data);
        assert_eq!(round(b"").0, Compression::Plain);
    }

    #[test]
    fn several_members_are_one_stream() {
        let packed = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(round(&packed).1.expect("whole"), b"one two");
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_not_a_short_file() {
        let data = b"abc".repeat(5000);
        for packed in [gzip(&data), zstd::encode_all(data.as_slice(), 1).expect("memory")] {
            let cut = packed.get(..packed.len() - 5).expect("longer");
            assert!(round(cut).1.is_err());
        }
    }
}
