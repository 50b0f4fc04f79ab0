//! Secret values in a script's output become `***`, as they are and in the forms in which tools print them. It must not guess: only
//! values that are known are masked, so this is a second net; the first is not to print them.
//!
//! The output comes in pieces, so what may be the beginning of a value is held back until it is decided; nothing else is.

use aho_corasick::{AhoCorasick, MatchKind};

use super::encodings;

const MASK: &[u8] = b"***";

/// Masks a stream.
pub(super) struct Masks {
    finder: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
    held: Vec<u8>,
    /// Number of bytes of `held` that are inside a value whose mask was written already.
    masked: usize,
}

/// One form of a value, with its table of failures (Knuth, Morris, Pratt).
struct Pattern {
    bytes: Vec<u8>,
    fails: Vec<usize>,
}

impl Masks {
    /// For these values. A value is known by its forms.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut all: Vec<Vec<u8>> = values.flat_map(encodings::of).collect();
        all.sort();
        all.dedup();
        // Fails for gigabytes of patterns alone, which Secrets can't hold.
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&all).ok();
        let patterns = all.into_iter().map(Pattern::new).collect::<Vec<_>>();
        let finder = finder.filter(|_| !patterns.is_empty());
        Self { finder, patterns, held: Vec::new(), masked: 0 }
    }

    /// Takes the next piece; what is sure by now goes to `out`.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.finder.is_none() {
            return out.extend_from_slice(piece);
        }
        self.held.extend_from_slice(piece);
        let open = self.patterns.iter().map(|pattern| pattern.open(&self.held)).max().unwrap_or_default();
        self.flush(self.held.len() - open, out);
    }

    /// The stream has ended.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.flush(self.held.len(), out);
    }

    /// Writes what stands before `cut`, with every value in it masked; one that reaches over the cut is masked now, as a whole.
    fn flush(&mut self, cut: usize, out: &mut Vec<u8>) {
        if cut == 0 {
            return;
        }
        let spans = self.spans();
        let mut at = 0;
        let mut masked = 0;
        for (start, end) in spans {
            if start >= cut {
                break;
            }
            out.extend_from_slice(self.held.get(at..start).unwrap_or_default());
            if start > 0 || self.masked == 0 {
                out.extend_from_slice(MASK);
            }
            at = end.min(cut);
            masked = end.saturating_sub(cut);
        }
        out.extend_from_slice(self.held.get(at..cut).unwrap_or_default());
        self.held.drain(..cut);
        self.masked = masked;
    }

    /// Where values stand in what is held; those that overlap or touch are one.
    fn spans(&self) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = match &self.finder {
            Some(finder) => {
                finder.find_overlapping_iter(&self.held).map(|found| (found.start(), found.end())).collect()
            }
            None => vec![],
        };
        if self.masked > 0 {
            found.push((0, self.masked));
        }
        found.sort_unstable();
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match spans.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => spans.push((start, end)),
            }
        }
        spans
    }
}

impl Pattern {
    fn new(bytes: Vec<u8>) -> Self {
        let mut fails = vec![0; bytes.len()];
        let mut length = 0;
        for n in 1..bytes.len() {
            while length > 0 && bytes.get(n) != bytes.get(length) {
                length = fails.get(length - 1).copied().unwrap_or_default();
            }
            if bytes.get(n) == bytes.get(length) {
                length += 1;
            }
            if let Some(place) = fails.get_mut(n) {
                *place = length;
            }
        }
        Self { bytes, fails }
    }

    /// How many bytes at the end of `text` are a beginning of this pattern, and not all of it.
    fn open(&self, text: &[u8]) -> usize {
        let tail = text.get(text.len().saturating_sub(self.bytes.len() - 1)..).unwrap_or_default();
        let mut length = 0;
        for byte in tail {
            while length > 0 && self.bytes.get(length) != Some(byte) {
                length = self.fails.get(length - 1).copied().unwrap_or_default();
            }
            if self.bytes.get(length) == Some(byte) {
                length += 1;
            }
        }
        length
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn masked(values: &[&str], pieces: &[&[u8]]) -> String {
        let mut masks = Masks::of(values.iter().copied());
        let mut out = Vec::new();
        for piece in pieces {
            masks.take(piece, &mut out);
        }
        masks.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_can_be_no_value_is_not_held_back() {
        let mut masks = Masks::of(["hunter22"].into_iter());
        let mut out = Vec::new();
        masks.take(b"Password: hunt", &mut out);
        assert_eq!(out, b"Password: ");
        masks.take(b"ing\nhunter22", &mut out);
        assert_eq!(out, b"Password: hunting\n***");
    }

    #[test]
    fn values_that_overlap_or_repeat_are_masked_to_their_last_byte() {
        assert_eq!(masked(&["abcdef", "defghi"], &[b"xabcdefghiy"]), "x***y");
        assert_eq!(masked(&["abcd", "abcdefgh"], &[b"abcd", b"efgh."]), "***.");
        assert_eq!(masked(&["abcd", "abcdefgh"], &[b"abcd", b"e."]), "***e.");
        assert_eq!(masked(&["aaaa"], &[b"aaaaa", b"aaaa", b"b"]), "***b");
        assert_eq!(masked(&["abcdabcd"], &[b"abcdabcdabcd"]), "***");
        assert_eq!(masked(&[], &[b"abcd"]), "abcd");
    }

    proptest! {
        #[test]
        fn however_the_output_is_cut_into_pieces_no_value_is_left_and_nothing_else_is_touched(
            words in proptest::collection::vec("[abc]{0,3}|SECRET-[abc]{2}|c2VjcmV0|abab", 0..30),
            cuts in proptest::collection::vec(0_usize..200, 0..20),
        ) {
            let values = ["SECRET-ab", "SECRET-ba", "abab", "secret"];
            let text = words.concat();
            let whole = masked(&values, &[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(text.as_bytes().get(at..cut).unwrap());
                at = cut;
            }
            let cut_up = masked(&values, &pieces);
            for value in values {
                prop_assert!(!cut_up.contains(value), "{text} {cut_up}");
            }
            // Where two values touch, a cut between them may show as two masks.
            let one = |text: &str| {
                let mut text = text.to_owned();
                while text.contains("******") {
                    text = text.replace("******", "***");
                }
                text
            };
            prop_assert_eq!(one(&cut_up), one(&whole));
        }
    }
}
