//! Bytes that have come and are not read yet.

use bytes::{Buf, Bytes};

/// Moves as many bytes as there is room for; how many.
pub(super) fn take(rest: &mut Bytes, into: &mut [u8]) -> usize {
    let n = into.len().min(rest.len());
    rest.copy_to_slice(into.get_mut(..n).unwrap_or_default());
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_stays() {
        let mut rest = Bytes::from_static(b"abc");
        let mut two = [0; 2];
        assert_eq!((take(&mut rest, &mut two), &two), (2, b"ab"));
        assert_eq!((take(&mut rest, &mut two), two[0]), (1, b'c'));
        assert_eq!(take(&mut rest, &mut two), 0);
    }
}
