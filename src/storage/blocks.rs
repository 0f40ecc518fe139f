//! Which bytes of a file have blocks on the disk? A write to a hole kills the process when the disk is full, so blocks
//! are asked for first; here is how, and what stands in for it where a file system cannot.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::types::{to_u64, to_usize};

/// Bytes that a fallback reads and writes at a time.
const CHUNK: usize = 64 * 1024;

/// The smallest block that a file system here is expected to hand out.
const BLOCK: usize = 4_096;

/// Gives a range real blocks. On a full disk its holes are given back; what holds data keeps it.
pub(super) fn allocate(path: &Path, file: &File, range: Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    match system::allocate(file, &range) {
        Ok(()) => Ok(()),
        Err(error) if is_unsupported(&error) => {
            // Synced, because some file systems find out only then that they have no room.
            let filled = write_zeros(file, &range, Where::Zeros).and_then(|()| file.sync_data());
            filled.map_err(|error| Error::io("allocate blocks for", path, error))
        }
        Err(error) => {
            // ext4 keeps what it got before it ran out (contract, design point 13); what holds data stays. The first
            // error is the one that counts.
            give_back_holes(file, &range);
            Err(Error::io("allocate blocks for", path, error))
        }
    }
}

/// Makes a range read as zeros and gives its blocks back where the file system can.
pub(super) fn punch(path: &Path, file: &File, range: Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let punched = match system::punch(file, &range) {
        Err(error) if is_unsupported(&error) => write_zeros(file, &range, Where::Data),
        other => other,
    };
    punched.map_err(|error| Error::io("punch", path, error))
}

/// Punches what holds no data, blocks that were never written among it, and so destroys nothing.
fn give_back_holes(file: &File, range: &Range<u64>) {
    let mut at = range.start;
    for data in data_in(file, range).into_iter().chain(std::iter::once(range.end..range.end)) {
        if at < data.start {
            // Blocks that cannot be given back are only blocks lost.
            let _ = system::punch(file, &(at..data.start));
        }
        at = data.end;
    }
}

/// Returns the parts of a range that hold data; the rest are holes. All that is left where the system cannot say.
pub(super) fn data_in(file: &File, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut data = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match system::next_data(file, at) {
            Ok(Some(start)) if start < range.end => start.max(at),
            Ok(_) => return data,
            Err(_) => at,
        };
        let end = system::next_hole(file, start).map_or(range.end, |end| end.min(range.end));
        data.push(start..end);
        if end <= start {
            return data;
        }
        at = end;
    }
    data
}

fn is_unsupported(error: &io::Error) -> bool {
    // The same number under two names on Linux; elsewhere two numbers.
    use nix::errno::Errno;
    let number = error.raw_os_error().map(Errno::from_raw);
    error.kind() == io::ErrorKind::Unsupported
        || matches!(number, Some(Errno::EOPNOTSUPP | Errno::ENOSYS))
        || number == Some(Errno::ENOTSUP)
}

/// Which blocks a fallback writes zeros to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Those that read as zeros: the content stays, and a hole gets its block.
    Zeros,
    /// Those that do not.
    Data,
}

fn write_zeros(file: &File, range: &Range<u64>, which: Where) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let zeros = [0; BLOCK];
    let mut position = range.start;
    while position < range.end {
        let want = to_usize(range.end - position).min(CHUNK);
        let got = read_full(file, buffer.get_mut(..want).unwrap_or_default(), position)?;
        for (number, block) in buffer.get(..got).unwrap_or_default().chunks(BLOCK).enumerate() {
            let is_zero = zeros.starts_with(block);
            if is_zero == (which == Where::Zeros) {
                let at = position + to_u64(number * BLOCK);
                file.write_all_at(zeros.get(..block.len()).unwrap_or_default(), at)?;
            }
        }
        if got < want {
            break;
        }
        position += to_u64(want);
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends; returns how many bytes it got.
pub(super) fn read_full(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + to_u64(got)) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(target_os = "linux")]
mod system {
    use super::{File, Range, io};
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    use nix::unistd::{Whence, lseek};

    fn call(file: &File, flags: FallocateFlags, range: &Range<u64>) -> io::Result<()> {
        let start = signed(range.start)?;
        let len = signed(range.end - range.start)?;
        loop {
            match fallocate(file, flags, start, len) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn signed(value: u64) -> io::Result<i64> {
        i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
    }

    pub(super) fn allocate(file: &File, range: &Range<u64>) -> io::Result<()> {
        // The length is the file's own affair: an allocation never makes it longer.
        call(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, range)
    }

    pub(super) fn punch(file: &File, range: &Range<u64>) -> io::Result<()> {
        call(file, FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE, range)
    }

    pub(super) fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
        match seek(file, from, Whence::SeekData) {
            // Nothing but a hole up to the end of the file.
            Err(Errno::ENXIO) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    pub(super) fn next_hole(file: &File, from: u64) -> io::Result<u64> {
        Ok(seek(file, from, Whence::SeekHole)?)
    }

    fn seek(file: &File, from: u64, whence: Whence) -> nix::Result<u64> {
        let found = lseek(file, i64::try_from(from).unwrap_or(i64::MAX), whence)?;
        u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{File, Range, io};

    fn unsupported() -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) fn allocate(_: &File, _: &Range<u64>) -> io::Result<()> {
        unsupported()
    }

    pub(super) fn punch(_: &File, _: &Range<u64>) -> io::Result<()> {
        unsupported()
    }

    /// Everything may hold data.
    pub(super) fn next_data(_: &File, from: u64) -> io::Result<Option<u64>> {
        Ok(Some(from))
    }

    pub(super) fn next_hole(_: &File, _: u64) -> io::Result<u64> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const LEN: u64 = 1 << 20;

    /// A sparse file with data in its third block.
    fn sparse(dir: &Path) -> (std::path::PathBuf, File) {
        let path = dir.join("sparse");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(LEN).unwrap();
        file.write_all_at(b"kept", 8_192).unwrap();
        (path, file)
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; to_usize(LEN)];
        assert_eq!(read_full(file, &mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn what_was_allocated_has_blocks_and_keeps_its_bytes_and_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = sparse(dir.path());
        let before = content(&file);
        allocate(&path, &file, 0..LEN).unwrap();
        assert_eq!(content(&file), before);
        assert!(file.metadata().unwrap().blocks() * 512 >= LEN);
        assert_eq!(file.metadata().unwrap().len(), LEN);
    }

    #[test]
    fn zeros_stand_in_for_an_allocation_where_a_file_system_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let (_, file) = sparse(dir.path());
        let before = content(&file);
        write_zeros(&file, &(100..LEN - 1), Where::Zeros).unwrap();
        file.sync_all().unwrap();
        assert_eq!(content(&file), before);
        assert!(file.metadata().unwrap().blocks() * 512 >= LEN - 8_192);
    }

    #[test]
    fn what_is_given_back_after_a_full_disk_is_never_data() {
        let dir = tempfile::tempdir().unwrap();
        let (_, file) = sparse(dir.path());
        // Not read before: a page in memory that was read counts as data, and then stays.
        system::allocate(&file, &(0..LEN)).unwrap();
        give_back_holes(&file, &(0..LEN));
        assert!(file.metadata().unwrap().blocks() * 512 < LEN / 2, "the holes were given back");
        let bytes = content(&file);
        assert_eq!(&bytes[8_192..8_196], b"kept");
    }

    #[test]
    fn a_punched_range_reads_as_zeros_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = sparse(dir.path());
        file.write_all_at(&[7; 12_288], 0).unwrap();
        punch(&path, &file, 4_000..9_000).unwrap();
        write_zeros(&file, &(10_000..10_010), Where::Data).unwrap();
        let bytes = content(&file);
        for (position, byte) in bytes.iter().enumerate().take(12_288) {
            let is_zero = (4_000..9_000).contains(&position) || (10_000..10_010).contains(&position);
            assert_eq!(*byte == 0, is_zero, "byte {position}");
        }
    }
}
