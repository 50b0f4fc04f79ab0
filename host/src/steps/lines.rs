//! Output as lines: cleaned of control characters, each cut at 8 KiB.

/// Longest line, in bytes.
pub(super) const MAX_LINE: usize = 8 << 10;

/// One stream's output as it comes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Bytes of the line that were left out.
    cut: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// Bytes of it that were left out.
    pub(super) cut: u64,
}

impl Lines {
    /// Takes bytes; calls `line` for each line that they end.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            self.add(head);
            line(self.take());
            rest = tail.get(1..).unwrap_or_default();
        }
        self.add(rest);
    }

    /// The last line, where it had no end.
    pub(super) fn finish(&mut self) -> Option<Line> {
        (!self.begun.is_empty() || self.cut > 0).then(|| self.take())
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.begun.len()).min(bytes.len());
        self.begun.extend(bytes.get(..room).unwrap_or_default());
        self.cut += (bytes.len() - room) as u64;
    }

    fn take(&mut self) -> Line {
        let text = clean(&String::from_utf8_lossy(&self.begun));
        self.begun.clear();
        Line { text, cut: std::mem::take(&mut self.cut) }
    }
}

/// Text without control characters, sequences of terminals, and characters that turn the direction of writing.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                let _ = chars.find(|c| ('@'..='~').contains(c));
            }
            '\t' => cleaned.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => cleaned.push(c),
        }
        if cleaned.len() >= MAX_LINE {
            break;
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| found.push(line));
        }
        found.extend(lines.finish());
        found
    }

    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        lines(pieces).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(texts(&[b"a", b"b\nc\n", b"", b"\nd"]), ["ab", "c", "", "d"]);
        assert_eq!(texts(&[b"\xc3", b"\xa4\n"]), ["ä"]);
        assert_eq!(texts(&[]), Vec::<String>::new());
    }

    #[test]
    fn nothing_that_moves_a_terminal_is_left() {
        let text = "\u{1b}[31mred\u{1b}[0m\r\u{7}\u{202e}x\u{9b}\t\u{0}y\n";
        assert_eq!(texts(&[text.as_bytes()]), ["redx y"]);
    }

    #[test]
    fn a_long_line_is_cut_and_counted() {
        let long = vec![b'x'; MAX_LINE + 5];
        let found = lines(&[&long, b"yy\nz\n"]);
        assert_eq!((found[0].text.len(), found[0].cut), (MAX_LINE, 7));
        assert_eq!(found[1], Line { text: "z".to_owned(), cut: 0 });
    }
}
