//! Text from outside, made fit for a status, a log, a terminal or a shell: escape sequences, control characters and marks that turn the
//! direction of writing have no power in what comes out. It must not know where a text comes from.

/// The longest line of [`clean`], in bytes.
pub const MAX_LINE: usize = 8 * 1024;
/// Stands where a line was cut.
pub const CUT: &str = " …cut";
/// The longest that one character becomes: `\u{2066}`.
const MAX_SHOWN: usize = 8;

/// Marks that turn the direction of writing, so that a text reads as something else than it is.
pub(crate) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a terminal neither obeys nor takes as the end of a line.
pub fn is_harmless(c: char) -> bool {
    !(is_bidi_control(c) || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Output of programs, in lines: invalid UTF-8 replaced, CR (and CR LF) as newline, C0 and C1 gone but for newline and tab, bidi controls
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
        if is_bidi_control(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        line += shown.len() - before;
        if line > MAX_LINE - CUT.len() - MAX_SHOWN {
            shown.push_str(CUT);
            cut = true;
        }
    }
    shown
}

/// The last `n` lines that are not blank, cleaned.
pub fn last_lines(bytes: &[u8], n: usize) -> Vec<String> {
    let text = clean(bytes);
    let mut lines: Vec<String> =
        text.lines().rev().filter(|line| !line.trim().is_empty()).take(n).map(str::to_owned).collect();
    lines.reverse();
    lines
}

/// One line for a message: whole escape sequences, control and bidi characters gone, line ends and tabs as blanks, at most `limit`
/// characters.
pub fn one_line(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = without_escapes(text.trim_end());
    let blanks = plain.map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c });
    blanks.filter(|c| !c.is_control() && !is_bidi_control(*c)).take(limit).collect()
}

/// Text of several lines for a terminal, of which every other character that a terminal would obey becomes U+FFFD.
pub fn for_terminal(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// Printable ASCII and `?` for all else, at most 255 characters: what a protocol's peer says of itself.
pub fn printable_ascii(bytes: &[u8]) -> String {
    bytes.iter().take(255).map(|b| if (32..127).contains(b) { char::from(*b) } else { '?' }).collect()
}

/// A word that every POSIX shell reads back as it is. `None` for one with NUL, which no shell can hold.
///
/// Always in single quotes and by `'\''`, unlike `shlex`: the masks of secrets know this form.
pub fn shell_quote(word: &str) -> Option<String> {
    (!word.contains('\0')).then(|| format!("'{}'", word.replace('\'', r"'\''")))
}

/// Leaves out what a terminal takes as an order: CSI (`ESC [ … letter`), OSC and its kin (`ESC ] … BEL` or `ESC \`), and two-character ones.
fn without_escapes(text: &str) -> impl Iterator<Item = char> {
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            match rest.next()? {
                '\u{1b}' => match rest.next()? {
                    '[' => while rest.next().is_some_and(|c| !matches!(c, '@'..='~')) {},
                    ']' | 'P' | 'X' | '^' | '_' => {
                        while let Some(c) = rest.next() {
                            if c == '\u{7}' || c == '\u{9c}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                                break;
                            }
                        }
                    }
                    _ => {}
                },
                '\u{9b}' => while rest.next().is_some_and(|c| !matches!(c, '@'..='~')) {},
                c => return Some(c),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_lose_their_power_and_bidi_is_seen() {
        assert_eq!(clean(b"\x1b[31mred\x1b]52;c;eA==\x07\r\nnext\rover\x9b"), "[31mred]52;c;eA==\nnext\nover\u{fffd}");
        assert_eq!(clean("a\u{202e}b\u{9b}c\td".as_bytes()), "a\\u{202e}bc\td");
        assert_eq!(last_lines(b"a\n\nb\nc\n", 2), ["b", "c"]);
    }

    #[test]
    fn one_line_of_a_server_is_only_text() {
        for (raw, shown) in [
            ("\u{1b}[31mprotected\u{1b}[0m tag\r\n", "protected tag"),
            ("a\u{1b}]52;c;eHg=\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{9b}31mb", "ab"),
            ("one\ntwo\tthree", "one two three"),
            ("x\u{202e}y\u{0}z\u{61c}", "xyz"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(one_line(raw.as_bytes(), 100), shown);
        }
        assert_eq!(one_line("äöü".as_bytes(), 2), "äö");
    }

    #[test]
    fn a_terminal_gets_nothing_that_it_would_obey() {
        assert_eq!(for_terminal("a\u{1b}[2Jb\nc\u{2028}\u{202e}d"), "a\u{fffd}[2Jb\nc\u{fffd}\u{fffd}d");
        assert_eq!(printable_ascii("SSH-2.0\u{1b}ä".as_bytes()), "SSH-2.0???");
    }

    #[test]
    fn a_quoted_word_is_one_word() {
        assert_eq!(shell_quote("it's").unwrap(), r"'it'\''s'");
        assert_eq!(shell_quote("").unwrap(), "''");
        assert_eq!(shell_quote("a\0b"), None);
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
