//! An application's output as people get it: without what a terminal obeys, lines cut at 8 KiB with a mark, each after the name of its host
//! where several hosts are read. It must not know where the output comes from.

use crate::{
    effects::plain::Plain,
    model::text::{CUT, MAX_LINE},
};

/// The output of one host as it comes.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    plain: Plain,
    /// Before each line; lines are whole then, so that those of several hosts can be mixed.
    prefix: Option<String>,
    /// The line that has begun, with a prefix.
    begun: Vec<u8>,
    /// Bytes of it that were taken.
    length: usize,
    is_cut: bool,
}

impl Lines {
    pub fn new(host: Option<&str>) -> Self {
        Self { prefix: host.map(|host| format!("{host}: ")), ..Self::default() }
    }

    /// What may be shown by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let plain = self.plain.push(bytes);
        let mut shown = Vec::with_capacity(plain.len());
        self.take(&plain, &mut shown);
        shown
    }

    /// The rest, where nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let (rest, mut shown) = (self.plain.finish(), Vec::new());
        self.take(&rest, &mut shown);
        if self.length > 0 && (self.is_cut || self.prefix.is_some()) {
            self.end_line(&mut shown);
        }
        shown
    }

    /// A line of ours in between.
    pub fn note(&self, text: &str) -> Vec<u8> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        format!("{prefix}... (landfall: {text})\n").into_bytes()
    }

    fn take(&mut self, plain: &[u8], shown: &mut Vec<u8>) {
        for piece in plain.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = if self.is_cut { 0 } else { MAX_LINE.saturating_sub(self.length) };
            // Whole characters.
            let end =
                (0..=room.min(text.len())).rev().find(|end| text.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80));
            let (kept, rest) = text.split_at(end.unwrap_or(0));
            self.length += kept.len();
            self.is_cut |= !rest.is_empty();
            match self.prefix {
                Some(_) => self.begun.extend(kept),
                None => shown.extend(kept),
            }
            if ends {
                self.end_line(shown);
            }
        }
    }

    fn end_line(&mut self, shown: &mut Vec<u8>) {
        if let Some(prefix) = &self.prefix {
            shown.extend(prefix.as_bytes());
            shown.append(&mut self.begun);
        }
        if std::mem::take(&mut self.is_cut) {
            shown.extend(CUT.as_bytes());
        }
        shown.push(b'\n');
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(host: Option<&str>, bytes: &[u8], step: usize) -> String {
        let mut lines = Lines::new(host);
        let mut shown: Vec<u8> = bytes.chunks(step).flat_map(|piece| lines.push(piece)).collect();
        shown.extend(lines.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn lines_are_cut_with_a_mark_at_a_character_however_they_come() {
        let long = format!("a\n{}\nb\n", "ä".repeat(MAX_LINE));
        for step in [1, 7, 4096, 100_000] {
            let cut = shown(None, long.as_bytes(), step);
            assert_eq!(cut, format!("a\n{}{CUT}\nb\n", "ä".repeat(MAX_LINE / 2)), "{step}");
        }
        let exact = format!("{}\n", "x".repeat(MAX_LINE));
        assert_eq!(shown(None, exact.as_bytes(), 100), exact);
        assert_eq!(shown(None, "x".repeat(MAX_LINE + 1).as_bytes(), 100), format!("{}{CUT}\n", "x".repeat(MAX_LINE)));
    }

    #[test]
    fn with_several_hosts_each_line_is_whole_and_has_its_host() {
        let mut lines = Lines::new(Some("web-01"));
        assert_eq!(lines.push(b"one\n\ntw"), b"web-01: one\nweb-01: \n");
        assert_eq!(lines.push(b"o\n"), b"web-01: two\n");
        assert_eq!(lines.note("lost"), b"web-01: ... (landfall: lost)\n");
        assert_eq!(lines.push(b"rest"), b"");
        assert_eq!(lines.finish(), b"web-01: rest\n");
        assert_eq!(lines.finish(), b"");
    }

    #[test]
    fn a_line_without_its_end_is_shown_at_once_where_one_host_is_read() {
        let mut lines = Lines::new(None);
        assert_eq!(lines.push(b"name: "), b"name: ");
        assert_eq!(lines.push(b"\x1b[2Jx"), b"?[2Jx");
        assert_eq!(lines.finish(), b"");
    }
}
