//! Makes output harmless for a terminal without changing its length: byte n that is shown stands for byte n that was written, so whoever
//! counts what he got knows where to go on. (`model::text::clean` makes nicer text for a status, of another length.)
//!
//! CR becomes a newline (before a newline a space); other C0 and DEL, C1, bidi controls, line separators and what is no UTF-8 become
//! `?` or, where three bytes are to be filled, U+FFFD.

use crate::model::text::is_harmless;

/// Bytes that a reader which starts in the middle reads before its offset, and drops from the output.
pub(crate) const LOOK_BACK: u64 = 4;

/// A filter over one stream. What can't be judged yet (half a character, a CR) is held back until the next bytes.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    held: Vec<u8>,
}

impl Plain {
    /// What may be shown by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.held.is_empty() && bytes.iter().all(|byte| is_plain(*byte)) {
            return bytes.to_vec();
        }
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let (shown, used) = show(&input, false);
        self.held = input.split_off(used);
        shown
    }

    /// The rest, where nothing more comes.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        show(&std::mem::take(&mut self.held), true).0
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\t')
}

/// What is shown for the first bytes of `input`, and how many these are.
fn show(input: &[u8], end: bool) -> (Vec<u8>, usize) {
    let mut shown = Vec::with_capacity(input.len());
    let mut at = 0;
    while let Some(&byte) = input.get(at) {
        let rest = input.get(at..).unwrap_or_default();
        match byte {
            b'\r' if rest.len() == 1 && !end => break,
            b'\r' => shown.push(if rest.get(1) == Some(&b'\n') { b' ' } else { b'\n' }),
            byte if is_plain(byte) => shown.push(byte),
            0x80.. => match character(rest, end) {
                Judged::Shown(character) => shown.extend_from_slice(character),
                Judged::Later => break,
            },
            _ => shown.push(b'?'),
        }
        at = shown.len();
    }
    (shown, at)
}

enum Judged<'a> {
    /// As many bytes as it stands for.
    Shown(&'a [u8]),
    Later,
}

/// The character that begins here, or one byte that begins none.
fn character(rest: &[u8], end: bool) -> Judged<'_> {
    let width = match rest.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return Judged::Shown(b"?"),
    };
    let Some(bytes) = rest.get(..width) else {
        let may_become_one = rest.get(1..).unwrap_or_default().iter().all(|byte| (0x80..0xc0).contains(byte));
        return if may_become_one && !end { Judged::Later } else { Judged::Shown(b"?") };
    };
    match std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
        None => Judged::Shown(b"?"),
        Some(c) if is_harmless(c) => Judged::Shown(bytes),
        Some(_) if width == 3 => Judged::Shown("\u{fffd}".as_bytes()),
        Some(_) => Judged::Shown(b"????".get(..width).unwrap_or(b"?")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Plain::default();
        let mut shown = plain.push(bytes);
        shown.extend(plain.finish());
        shown
    }

    #[test]
    fn what_a_terminal_would_obey_is_replaced_byte_for_byte() {
        assert_eq!(whole(b"a\x1b[31mred\x07\r\n50%\r100%\n"), b"a?[31mred? \n50%\n100%\n");
        assert_eq!(whole("ä\u{9b}31m\u{202e}x\u{61c}".as_bytes()), "ä??31m\u{fffd}x??".as_bytes());
        assert_eq!(whole(b"\x9b\xff\xe2\x80"), b"????");
    }

    /// Bytes in which the interesting ones are frequent.
    fn nasty() -> impl Strategy<Value = Vec<u8>> {
        let pieces = ["\r", "\n", "\r\n", "a", "\u{202e}", "\u{9b}", "ä", "€", "𝄞", "\u{1b}[2J"];
        let piece = prop_oneof![
            proptest::sample::select(pieces.map(str::as_bytes).to_vec()).prop_map(<[u8]>::to_vec),
            proptest::collection::vec(any::<u8>(), 0..4),
            proptest::collection::vec(0x80_u8..=0xff, 0..4),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn length_is_kept_and_nothing_dangerous_is_left(bytes in nasty()) {
            let shown = whole(&bytes);
            prop_assert_eq!(shown.len(), bytes.len());
            let text = String::from_utf8(shown).unwrap();
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || is_harmless(c)));
        }

        #[test]
        fn however_it_is_cut_the_same_is_shown(bytes in nasty(), cuts in proptest::collection::vec(0_usize..120, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut plain, mut shown, mut from) = (Plain::default(), Vec::new(), 0);
            for cut in cuts {
                shown.extend(plain.push(&bytes[from..cut]));
                from = cut;
            }
            shown.extend(plain.push(&bytes[from..]));
            shown.extend(plain.finish());
            prop_assert_eq!(shown, whole(&bytes));
        }

        #[test]
        fn whoever_goes_on_at_any_byte_gets_what_he_would_have_got(bytes in nasty(), cut in 0_usize..120) {
            let cut = cut.min(bytes.len());
            let back = cut.min(LOOK_BACK as usize);
            prop_assert_eq!(&whole(&bytes[cut - back..])[back..], &whole(&bytes)[cut..]);
        }
    }
}
