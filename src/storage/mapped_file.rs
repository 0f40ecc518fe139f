//! How is a file written and read through memory? The only unsafe code of the crate.
//!
//! # Safety model
//!
//! 1. A mapping lives as long as its `MappedFile`, and every slice that is lent borrows from that. So no lent byte is
//!    ever unmapped.
//! 2. Every access is checked against the length of the mapping, in one place: [`MappedFile::check`].
//! 3. Nothing is written outside the part of a file that has real blocks, so a full disk cannot raise SIGBUS. The
//!    callers allocate first; the folder is locked, so nobody truncates a file under its mapping.
//! 4. Nobody ever holds a `&mut [u8]` into a mapping. Bytes are copied in through a raw pointer.
//! 5. A region is either *appended to* or made of *cells*. An appended region is written once, by one writer, before it
//!    is published by a Release store elsewhere, and never changes afterwards: only published bytes are lent.
//! 6. Cells are aligned integers that change while others read them. They are only touched as atomics.
//! 7. `rewrite` and `zero` change bytes in place. They run only while the caller is the only user of the region: at
//!    opening, or beyond everything that is published.

#![expect(
    unsafe_code,
    reason = "a mapped file is written and read through raw pointers; the model above says why that is sound"
)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapRaw};

use crate::error::{Error, Result};
use crate::types::to_usize;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a page.
pub(crate) const PAGE: usize = 4_096;

/// Told of every change of a mapped file and asked before every sync: a simulated or a faulty disk.
pub(crate) trait PutObserver: fmt::Debug + Send + Sync {
    /// Bytes of the window have changed.
    fn changed(&self, file: &MappedFile, range: Range<usize>);

    /// A sync is about to run; an error stands for its failure.
    ///
    /// # Errors
    ///
    /// Whatever the simulated disk answers.
    fn before_sync(&self, path: &Path, range: Range<usize>) -> io::Result<()>;
}

/// A window of a file, mapped into memory.
pub(crate) struct MappedFile {
    map: Arc<MmapRaw>,
    /// Where in the mapping the window starts, and its length.
    offset: usize,
    len: usize,
    path: Box<Path>,
    start: u64,
    private: bool,
    observer: Option<Arc<dyn PutObserver>>,
}

impl MappedFile {
    /// Takes a mapping that is the window.
    pub(super) fn whole(
        map: MmapRaw,
        path: &Path,
        start: u64,
        observer: Option<Arc<dyn PutObserver>>,
    ) -> Self {
        let len = map.len();
        Self { map: Arc::new(map), offset: 0, len, path: path.into(), start, private: false, observer }
    }

    /// Takes a window into a mapping of a whole file that nothing leaves. `None` if it does not lie inside.
    pub(super) fn private(map: &Arc<MmapRaw>, path: &Path, window: &Range<u64>) -> Option<Self> {
        let (offset, end) = (to_usize(window.start), to_usize(window.end));
        let len = end.checked_sub(offset).filter(|_| end <= map.len())?;
        let map = Arc::clone(map);
        Some(Self { map, offset, len, path: path.into(), start: window.start, private: true, observer: None })
    }

    /// Makes a private, copy-on-write mapping of a file: what is written to it never reaches the file.
    pub(super) fn map_private(file: &std::fs::File, start: u64, len: usize) -> io::Result<MmapRaw> {
        let mut options = memmap2::MmapOptions::new();
        options.offset(start).len(len).no_reserve_swap();
        // SAFETY: rule 3: the file is not truncated while it is mapped; rule 4: the result is turned into a raw map.
        let map = unsafe { options.map_copy(file)? };
        Ok(MmapRaw::from(map))
    }

    /// Shows the same window to an observer.
    #[cfg(test)]
    pub(super) fn observed(&self, observer: Arc<dyn PutObserver>) -> Self {
        Self { map: Arc::clone(&self.map), path: self.path.clone(), observer: Some(observer), ..*self }
    }

    /// Returns the bytes of the window.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks a range against the window (rule 2).
    #[inline]
    fn check(&self, position: usize, len: usize) -> Option<*mut u8> {
        let end = position.checked_add(len)?;
        // SAFETY: rule 2: the window lies inside the mapping, and the position inside the window or one past its end.
        (end <= self.len).then(|| unsafe { self.map.as_mut_ptr().add(self.offset).add(position) })
    }

    #[cold]
    fn outside(&self, operation: &'static str) -> Error {
        Error::io(
            operation,
            &self.path,
            io::Error::new(io::ErrorKind::InvalidInput, "outside the mapped window"),
        )
    }

    /// Copies bytes into the window.
    #[inline]
    pub(crate) fn put(&self, position: usize, bytes: &[u8]) -> Result<()> {
        let Some(target) = self.check(position, bytes.len()) else { return Err(self.outside("write")) };
        // SAFETY: rules 2 and 4: `check` above bounds the target; a caller's slice never overlaps unpublished bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        self.tell(position..position.saturating_add(bytes.len()));
        Ok(())
    }

    #[inline]
    fn tell(&self, range: Range<usize>) {
        if let Some(observer) = &self.observer {
            observer.changed(self, range);
        }
    }

    /// Asks the processor for the cache lines of a range that is written soon: else the stores wait for memory, and with
    /// them the next lock that is let go. Does nothing outside the window.
    #[inline]
    pub(crate) fn expect_write(&self, position: usize, len: usize) {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (position, len);
        #[cfg(target_arch = "x86_64")]
        if let Some(start) = self.check(position, len) {
            for line in (0..len).step_by(LINE) {
                // SAFETY: rule 2: `check` above bounds the line; a prefetch changes nothing that a program can see.
                unsafe {
                    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                    _mm_prefetch::<_MM_HINT_T0>(start.add(line).cast());
                }
            }
        }
    }

    /// Lends published bytes (rule 5). `None` if the range lies outside the window.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let len = range.end.checked_sub(range.start)?;
        let start = self.check(range.start, len)?;
        // SAFETY: rules 1, 2 and 5: `check` above bounds the range, and published bytes do not change.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Reads a cell of four bytes.
    pub(crate) fn load_u32(&self, position: usize) -> Option<u32> {
        let cell = self.check(position, 4).filter(|cell| cell.cast::<AtomicU32>().is_aligned())?;
        // SAFETY: rules 2 and 6: `check` above bounds the cell, and `is_aligned` looked at its address.
        let cell = unsafe { AtomicU32::from_ptr(cell.cast()) };
        Some(u32::from_be(cell.load(Ordering::Acquire)))
    }

    /// Writes a cell of four bytes.
    pub(crate) fn store_u32(&self, position: usize, value: u32) -> Result<()> {
        let cell = self.check(position, 4).filter(|cell| cell.cast::<AtomicU32>().is_aligned());
        let cell = cell.ok_or_else(|| self.outside("write"))?;
        // SAFETY: rules 2 and 6, as in `load_u32`.
        unsafe { AtomicU32::from_ptr(cell.cast()) }.store(value.to_be(), Ordering::Release);
        self.tell(position..position.saturating_add(4));
        Ok(())
    }

    /// Reads a cell of eight bytes.
    pub(crate) fn load_u64(&self, position: usize) -> Option<u64> {
        let cell = self.check(position, 8).filter(|cell| cell.cast::<AtomicU64>().is_aligned())?;
        // SAFETY: rules 2 and 6, as in `load_u32`.
        let cell = unsafe { AtomicU64::from_ptr(cell.cast()) };
        Some(u64::from_be(cell.load(Ordering::Acquire)))
    }

    /// Writes a cell of eight bytes.
    pub(crate) fn store_u64(&self, position: usize, value: u64) -> Result<()> {
        let cell = self.check(position, 8).filter(|cell| cell.cast::<AtomicU64>().is_aligned());
        let cell = cell.ok_or_else(|| self.outside("write"))?;
        // SAFETY: rules 2 and 6, as in `load_u32`.
        unsafe { AtomicU64::from_ptr(cell.cast()) }.store(value.to_be(), Ordering::Release);
        self.tell(position..position.saturating_add(8));
        Ok(())
    }

    /// Writes the pages of a range to disk. An error is final: the caller must not sync them again and believe it.
    pub(crate) fn sync(&self, range: Range<usize>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        if len == 0 || self.private {
            return Ok(());
        }
        if self.check(range.start, len).is_none() {
            return Err(self.outside("sync"));
        }
        let allowed =
            self.observer.as_ref().map_or(Ok(()), |observer| observer.before_sync(&self.path, range.clone()));
        allowed
            .and_then(|()| self.map.flush_range(self.offset.saturating_add(range.start), len))
            .map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Makes every page of a range dirty without changing it, so that the next sync writes it again (rule 7).
    pub(crate) fn rewrite(&self, range: Range<usize>) -> Result<()> {
        if self.private {
            return Ok(());
        }
        if self.bytes(range.clone()).is_none() {
            return Err(self.outside("rewrite"));
        }
        let mut position = range.start;
        while position < range.end {
            let Some(cell) = self.check(position, 1) else { return Err(self.outside("rewrite")) };
            // SAFETY: rules 2 and 7: `check` above bounds the byte, and nobody else uses the region.
            unsafe { ptr::write_volatile(cell, ptr::read_volatile(cell)) };
            position = position.saturating_add(PAGE) / PAGE * PAGE;
        }
        self.tell(range);
        Ok(())
    }

    /// Writes zeros where bytes are not zero (rule 7). Pages of zeros stay untouched.
    pub(crate) fn zero(&self, range: Range<usize>) -> Result<()> {
        if self.bytes(range.clone()).is_none() {
            return Err(self.outside("zero"));
        }
        let zeros = [0_u8; PAGE];
        let mut position = range.start;
        while position < range.end {
            let end = (position.saturating_add(PAGE) / PAGE * PAGE).min(range.end);
            let bytes = self.bytes(position..end).ok_or_else(|| self.outside("zero"))?;
            let clean = bytes.iter().all(|byte| *byte == 0);
            let len = end.saturating_sub(position);
            if !clean {
                self.put(position, zeros.get(..len).unwrap_or_default())?;
            }
            position = end;
        }
        Ok(())
    }

    /// Has the pages of an allocated range ready for writing. Ignored where the system cannot.
    pub(crate) fn populate(&self, range: Range<usize>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        if len == 0 || self.private {
            return Ok(());
        }
        match self.advise(Advice::PopulateWrite, range.start, len) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            // A page that has no block and gets none would be a SIGBUS at the first store.
            Err(error) if error.raw_os_error() == Some(nix::libc::EFAULT) => {
                Err(Error::StoreFull(format!("cannot populate {}: {error}", self.path.display()).into()))
            }
            other => other.map_err(|error| Error::io("populate", &self.path, error)),
        }
    }

    pub(super) fn advise(&self, advice: Advice, start: usize, len: usize) -> io::Result<()> {
        self.map.advise_range(advice, self.offset.saturating_add(start), len)
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.start.saturating_add(crate::types::to_u64(self.len()));
        formatter
            .debug_struct("MappedFile")
            .field("path", &self.path)
            .field("window", &(self.start..end))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "mapped_file_tests.rs"]
mod tests;
