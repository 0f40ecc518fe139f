//! What is the CRC of two pieces put together, when only the first one changes late?
//!
//! The head of a record is final only under the append lock; body, topic and properties are known before. Appending
//! `n` bytes to a text multiplies its CRC, a polynomial over two elements, by `x^(8n)` modulo the CRC's polynomial. That
//! factor depends on nothing but `n`, so it is computed before the lock, and one multiplication is left inside. Who sends
//! messages of one length again and again multiplies by one factor: a thread keeps its multiples, and looks eight up.

use std::cell::RefCell;
use std::sync::LazyLock;

use crc32fast::Hasher;

use crate::types::to_usize;

/// The CRC-32 polynomial of IEEE 802.3 in reflected order: bit 31 stands for `x^0`.
const POLYNOMIAL: u32 = 0xEDB8_8320;
/// The polynomial 1 in reflected order.
const ONE: u32 = 1 << 31;

/// `POWERS[k][d]` is `x^(8 · d · 256^k)`: the factor for a length whose byte `k` is `d` and whose others are zero.
static POWERS: [[u32; 256]; 4] = powers();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of bounds"
)]
const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    // x^8 in reflected order.
    let mut base = ONE >> 8;
    let mut digit = 0;
    while digit < 4 {
        let mut count = 1;
        while count < 256 {
            table[digit][count] = multiply(table[digit][count - 1], base);
            count += 1;
        }
        base = multiply(table[digit][255], base);
        digit += 1;
    }
    table
}

/// Multiplies two polynomials modulo the CRC's, without a branch on their bits.
const fn multiply(left: u32, right: u32) -> u32 {
    let mut product = 0;
    let mut shifted = right;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= shifted & 0_u32.wrapping_sub((left >> bit) & 1);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(shifted & 1));
    }
    product
}

/// What appending a fixed number of bytes does to a CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shift(u32);

impl Shift {
    /// Computes the factor for `len` bytes: one multiplication for each non-zero byte of the length but one.
    pub(crate) fn of(len: u32) -> Self {
        let mut factor = None;
        for (row, digit) in POWERS.iter().zip(len.to_be_bytes().iter().rev()) {
            let Some(power) = row.get(usize::from(*digit)).copied().filter(|_| *digit != 0) else { continue };
            factor = Some(factor.map_or(power, |factor| multiply(factor, power)));
        }
        Self(factor.unwrap_or(ONE))
    }

    /// Returns the factor for `len` bytes if it was the last that this thread asked for, too: it is at hand then.
    pub(crate) fn of_repeated(len: u32) -> Option<Self> {
        LAST.with(|last| last.try_borrow_mut().ok()?.repeated(len))
    }

    /// Returns the CRC of two pieces from the CRC of the first and that of the second, whose length this shift is of.
    pub(crate) fn combine(self, first: u32, second: u32) -> u32 {
        let known = LAST.with(|last| last.try_borrow().ok().and_then(|last| last.product(self, first)));
        known.unwrap_or_else(|| multiply(self.0, first)) ^ second
    }
}

thread_local! {
    static LAST: RefCell<Multiples> = const { RefCell::new(Multiples { len: 0, factor: None, multiples: [[0; 16]; 8] }) };
}

/// The factor of a length that came twice in a row, by everything it may be multiplied by.
struct Multiples {
    /// The length that came last.
    len: u32,
    /// Its factor, once it has come twice.
    factor: Option<Shift>,
    /// `multiples[k][d]` is the factor's product with the polynomial whose bits `4k` to `4k + 3` are `d`.
    multiples: [[u32; 16]; 8],
}

impl Multiples {
    fn repeated(&mut self, len: u32) -> Option<Shift> {
        if len != self.len {
            (self.len, self.factor) = (len, None);
            return None;
        }
        if self.factor.is_none() {
            self.learn(Shift::of(len));
        }
        self.factor
    }

    #[cold]
    fn learn(&mut self, factor: Shift) {
        let mut power = factor.0;
        for row in self.multiples.iter_mut().rev() {
            *row = [0; 16];
            // Bit 31 stands for `x^0`.
            for bit in [8, 4, 2, 1] {
                let with_bit = (0..16_u32).zip(row.iter_mut()).filter(|(digit, _)| digit & bit != 0);
                with_bit.for_each(|(_, multiple)| *multiple ^= power);
                power = (power >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(power & 1));
            }
        }
        self.factor = Some(factor);
    }

    #[inline]
    fn product(&self, factor: Shift, by: u32) -> Option<u32> {
        if self.factor != Some(factor) {
            return None;
        }
        let rows = self.multiples.iter().zip(0..);
        Some(rows.fold(0, |product, (row, place)| {
            let digit = to_usize(u64::from(by >> (4 * place) & 15));
            product ^ row.get(digit).copied().unwrap_or(0)
        }))
    }
}

/// A CRC that has seen nothing, made once: making one asks what the processor can.
static HASHER: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// Starts a CRC.
pub(crate) fn hasher() -> Hasher {
    HASHER.clone()
}

/// Returns the CRC of some bytes.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = hasher();
    hasher.update(bytes);
    hasher.finalize()
}

/// Returns the CRC of a body as `BODYCRC` holds it: without the sign bit.
pub(crate) fn body_crc(body: &[u8]) -> u32 {
    crc(body) & 0x7FFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|place| (place.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
    }

    #[test]
    fn the_crc_of_two_pieces_is_that_of_the_whole() {
        let all = bytes(300_000);
        let lens = (0..600).chain([1_023, 2_048, 4_095, 65_535, 65_536, 65_537, 131_072, 299_000]);
        for len in lens {
            for first in [0, 1, 88, 112, 999] {
                let (whole, head) = (&all[..first + len], &all[..first]);
                let rest = crc32fast::hash(&whole[first..]);
                let combined = Shift::of(len as u32).combine(crc32fast::hash(head), rest);
                assert_eq!(combined, crc32fast::hash(whole), "{first} + {len}");
            }
        }
    }

    #[test]
    fn a_length_that_repeats_gives_the_same_crc_by_look_up() {
        let all = bytes(70_000);
        for len in [1, 255, 256, 1_093, 1_099, 65_536] {
            assert_eq!(Shift::of_repeated(len), None, "{len}");
            let shift = Shift::of_repeated(len).unwrap();
            assert_eq!(shift, Shift::of(len));
            for first in [0, 1, 88, 999] {
                let (whole, head) = (&all[..first + len as usize], &all[..first]);
                let combined = shift.combine(crc32fast::hash(head), crc32fast::hash(&whole[first..]));
                assert_eq!(combined, crc32fast::hash(whole), "{first} + {len}");
            }
            // A draft that was made before another length came.
            assert_eq!(Shift::of(77).combine(0x3610_A686, 5), multiply(Shift::of(77).0, 0x3610_A686) ^ 5);
        }
    }

    #[test]
    fn a_shift_over_a_long_length_is_two_shifts_over_its_parts() {
        for (left, right) in
            [(1_u32 << 24, 1_u32 << 24), (0x7FFF_FFFF, 0x7FFF_FFFF), (0x0100_00FF, 0x00FF_FF01)]
        {
            let in_two = Shift::of(right).combine(Shift::of(left).combine(0x3610_A686, 0), 0);
            assert_eq!(Shift::of(left + right).combine(0x3610_A686, 0), in_two);
        }
    }

    #[test]
    fn a_body_crc_never_has_the_sign_bit() {
        assert_eq!(body_crc(b"hello0"), 1_882_646_930);
        assert_eq!(body_crc(b"a"), 1_756_872_259);
        assert_eq!(body_crc(b"hello"), 907_060_870);
        assert_eq!(body_crc(b""), 0);
    }
}
