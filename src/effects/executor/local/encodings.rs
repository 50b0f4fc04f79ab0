//! The forms in which a secret value turns up in output: as it is, by lines, quoted, in URLs, in hex, and in base64 wherever it begins
//! in what was encoded.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Shorter values are not masked: they would turn up by chance in every log.
pub(super) const SHORTEST: usize = 4;
/// The same for one line of a value of many lines.
const SHORTEST_LINE: usize = 8;

/// What RFC 3986 leaves as it is everywhere.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Python's `quote`, and paths in general.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
/// `encodeURIComponent` of JavaScript.
const URI_COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');
/// A path as RFC 3986 allows it at most.
const PATH_SEGMENTS: &AsciiSet = &URI_COMPONENT
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// Every form of a value; none for a short one.
pub(super) fn of(value: &str) -> BTreeSet<Vec<u8>> {
    let whole = value.trim_end_matches(['\r', '\n']);
    let mut encodings = BTreeSet::new();
    if whole.len() < SHORTEST {
        return encodings;
    }
    let lines = whole.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
    for text in [whole].into_iter().chain(lines) {
        encodings.extend(texts(text).into_iter().map(String::into_bytes));
        // With its newline, if it has one: it stands in the middle of what was encoded then.
        for bytes in [text, value] {
            encodings.extend((0..3).flat_map(|before| base64s(bytes.as_bytes(), before)));
        }
    }
    encodings.retain(|form| form.len() >= SHORTEST);
    encodings
}

fn texts(text: &str) -> Vec<String> {
    let json = serde_json::Value::from(text).to_string();
    let json = json.get(1..json.len() - 1).unwrap_or_default();
    let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    let percent = |kept| utf8_percent_encode(text, kept).to_string();
    let strict = percent(UNRESERVED);
    vec![
        text.to_owned(),
        json.to_owned(),
        json.replace('/', "\\/"),
        // As POSIX shells and dash' own `set -x` print it.
        text.replace('\'', r"'\''"),
        text.replace('\'', "'\"'\"'"),
        strict.replace("%20", "+"),
        lower(&strict),
        strict,
        percent(PATH),
        percent(URI_COMPONENT),
        percent(PATH_SEGMENTS),
        hex.to_uppercase(),
        hex,
    ]
}

/// The same with `%2f` for `%2F`.
fn lower(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push('%');
        text.push_str(&digits.to_lowercase());
        text.push_str(rest);
    }
    text
}

/// What base64 shows of these bytes for sure when this number of others precedes them (modulo 3), whatever stands behind; in both alphabets.
fn base64s(bytes: &[u8], before: usize) -> [Vec<u8>; 2] {
    let encoded = STANDARD_NO_PAD.encode([vec![0; before], bytes.to_vec()].concat());
    let (first, last) = ((8 * before).div_ceil(6), 8 * (before + bytes.len()) / 6);
    let sure = encoded.get(first..last).unwrap_or_default();
    let url = sure.replace('+', "-").replace('/', "_");
    [sure.as_bytes().to_vec(), url.into_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(value: &str, text: &str) -> bool {
        of(value).iter().any(|form| text.contains(&*String::from_utf8_lossy(form)))
    }

    #[test]
    fn base64_is_known_wherever_the_value_begins_in_it() {
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "\n", "@host", "xy"] {
                let text = STANDARD_NO_PAD.encode(format!("{before}hunter2?>~{after}"));
                assert!(masked("hunter2?>~", &text), "{before:?} {after:?}: {text}");
            }
        }
    }

    #[test]
    fn quoted_and_encoded_forms_are_known() {
        let value = "p'ä\"s/ w:d+\n";
        for text in [
            "p'ä\"s/ w:d+",
            r#"p'ä\"s/ w:d+"#,
            r#"p'\''ä"s/ w:d+"#,
            "p%27%C3%A4%22s%2F%20w%3Ad%2B",
            "p%27%c3%a4%22s%2f%20w%3ad%2b",
            "p%27%C3%A4%22s%2F+w%3Ad%2B",
            "p'%C3%A4%22s%2F%20w%3Ad%2B",
            "7027c3a422732f20773a642b",
        ] {
            assert!(masked(value, text), "{text}");
        }
    }

    #[test]
    fn lines_of_a_long_value_are_known_and_short_values_are_not() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nx\n-----END KEY-----\n";
        assert!(masked(key, "  MIIEvQIBADANBgkqhkiG"));
        assert!(!masked(key, "x"));
        assert!(of("abc").is_empty() && of("abc\n").is_empty() && of("").is_empty());
    }
}
