//! What git told us, cleaned, as plain values. Everything here came from outside and was stripped of control characters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// 40 lower-case hex digits.
    pub sha: String,
    /// The first line of the message, at most 200 characters.
    pub subject: String,
    /// The author's name, at most 100 characters.
    pub author: String,
    /// The committer's time.
    pub time: Timestamp,
}

/// One branch with its newest commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// Its head, 40 hex digits.
    pub head: String,
    /// At most 20, newest first.
    pub commits: Vec<Commit>,
}

/// What a revision meant at the moment when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedCommit {
    pub commit: Commit,
    /// An allowed branch from which the commit is reachable: the one that was named, else one whose head it is, else the default one, else the first by name.
    pub branch: String,
}

/// An annotated tag to push. The same request makes the same tag object, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRequest {
    /// Without `refs/tags/`.
    pub name: String,
    /// The commit that it names, 40 hex digits.
    pub sha: String,
    /// Its first lines; the Build's uid should be in it.
    pub message: String,
    /// The recorded end of the build: a crash between push and record must not make another tag object.
    pub tagged_at: Timestamp,
}

/// How a push of a tag ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOutcome {
    Pushed,
    /// The remote has a tag of that name on our commit, whoever made it.
    AlreadyThere,
}

/// Text from outside for a status: escape sequences, control and bidi characters gone, line ends as blanks, at most `limit` characters.
pub(super) fn clean(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let plain = without_escapes(text.trim_end());
    let blanks = plain.map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c });
    blanks.filter(|c| !c.is_control() && !bidi(*c)).take(limit).collect()
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
    use super::*;

    #[test]
    fn what_a_server_says_is_only_text() {
        for (said, shown) in [
            ("\u{1b}[31mprotected\u{1b}[0m tag\r\n", "protected tag"),
            ("a\u{1b}]52;c;eHg=\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{9b}31mb", "ab"),
            ("one\ntwo\tthree", "one two three"),
            ("x\u{202e}y\u{0}z", "xyz"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(clean(said.as_bytes(), 100), shown);
        }
        assert_eq!(clean("äöü".as_bytes(), 2), "äö");
    }
}
