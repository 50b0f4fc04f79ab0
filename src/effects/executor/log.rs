//! Output of builds, made fit to be shown. The file keeps the raw bytes; whoever shows them comes through here.

/// The longest line that is shown, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// Stands where a line was cut.
const CUT: &str = " …cut";
/// The longest that one character becomes: `\u{2066}`.
const MAX_SHOWN: usize = 8;

/// Text that can be shown: invalid UTF-8 replaced, CR (and CR LF) as newline, C0 and C1 gone but for newline and tab, bidi controls
/// escaped as `\u{…}`, lines cut at 8 KiB. Escape sequences lose their ESC and with it their power.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    let (mut line, mut cut) = (0, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' || (c == '\r' && chars.peek() != Some(&'\n')) {
            shown.push('\n');
            (line, cut) = (0, false);
            continue;
        }
        if cut || (c.is_control() && c != '\t') {
            continue;
        }
        let before = shown.len();
        match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
        line += shown.len() - before;
        if line > MAX_LINE - CUT.len() - MAX_SHOWN {
            shown.push_str(CUT);
            cut = true;
        }
    }
    shown
}

/// The last `n` lines that say something, cleaned.
pub fn last_lines(bytes: &[u8], n: usize) -> Vec<String> {
    let text = clean(bytes);
    let mut lines: Vec<String> =
        text.lines().rev().filter(|line| !line.trim().is_empty()).take(n).map(str::to_owned).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_lose_their_power_and_bidi_is_seen() {
        assert_eq!(clean(b"\x1b[31mred\x1b]52;c;eA==\x07\r\nnext\rover\x9b"), "[31mred]52;c;eA==\nnext\nover\u{fffd}");
        assert_eq!(clean("a\u{202e}b\u{9b}c\td".as_bytes()), "a\\u{202e}bc\td");
        assert_eq!(last_lines(b"a\n\nb\nc\n", 2), ["b", "c"]);
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_shown_safely(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let shown = clean(&bytes);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            prop_assert!(shown.lines().all(|line| line.len() <= MAX_LINE));
        }

        #[test]
        fn a_long_line_is_cut_and_the_next_one_is_whole(n in 7_000_usize..40_000) {
            let text = format!("{}\nnext\n", "x".repeat(n));
            let shown = clean(text.as_bytes());
            prop_assert!(shown.lines().all(|line| line.len() <= MAX_LINE));
            prop_assert!(shown.ends_with("\nnext\n"));
        }
    }
}
