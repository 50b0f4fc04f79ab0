//! The bytes of a bundle, for both ends.
//!
//! ```text
//! MAGIC, then one zstd frame of records, one for each distinct content of the manifest, in the order of the first path that has it:
//!
//!   SAME  result                          a file of the base release has this very content
//!   WHOLE result bytes                    as many bytes as the manifest says
//!   DELTA result base size-of-base ops    until the bytes are as many as the manifest says
//!   END
//!
//! op: length of a literal, the literal, length of a copy, and where that is not 0 its offset, relative to where the copy before it would
//! go on (lengths: LEB128; offset: zigzag, LEB128)
//! ```
//!
//! `result` and `base` are SHA-256, 32 bytes. What doesn't compress costs zstd 3 bytes in 128 KiB, so nothing is marked as raw.

#[cfg(any(test, feature = "write"))]
use std::io::Write;
use std::io::{self, BufRead, Read};

/// First bytes of a bundle.
pub(crate) const MAGIC: &[u8] = b"landfall bundle 1\n";
/// Bytes that the host's end holds for going back: 2 MiB.
pub(crate) const WINDOW_LOG: u32 = 21;

pub(crate) const SAME: u8 = b'S';
pub(crate) const WHOLE: u8 = b'W';
pub(crate) const DELTA: u8 = b'D';
pub(crate) const END: u8 = b'E';

#[cfg(any(test, feature = "write"))]
pub(crate) fn write_number(out: &mut impl Write, mut number: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut length = 0;
    for byte in &mut bytes {
        *byte = (number & 0x7f) as u8;
        number >>= 7;
        length += 1;
        if number == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out.write_all(bytes.get(..length).unwrap_or_default())
}

/// `InvalidData` where it is no number of 64 bits.
pub(crate) fn read_number(from: &mut impl BufRead) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = read_byte(from)?;
        let bits = u64::from(byte & 0x7f);
        if bits.leading_zeros() < shift {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a number is too large"))
}

pub(crate) fn read_byte(from: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Small for small distances either way.
#[cfg(any(test, feature = "write"))]
pub(crate) fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(number: u64, distance: i64) {
            let mut bytes = Vec::new();
            write_number(&mut bytes, number).unwrap();
            write_number(&mut bytes, zigzag(distance)).unwrap();
            let mut from = bytes.as_slice();
            prop_assert_eq!(read_number(&mut from).unwrap(), number);
            prop_assert_eq!(unzigzag(read_number(&mut from).unwrap()), distance);
            prop_assert!(from.is_empty());
        }

        #[test]
        fn any_bytes_are_a_number_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = read_number(&mut bytes.as_slice());
        }
    }
}
