//! The environment in a file as `EnvironmentFile=` reads it. systemd drops what it does not like with a line in its own log: here it is an
//! error.

/// The text of the file.
pub(super) fn text(variables: &[(String, String)]) -> Result<String, String> {
    let mut text = String::new();
    for (name, value) in variables {
        if !is_name(name) {
            return Err(format!("systemd takes no variable {name:?}: letters, digits and _ alone, and no digit first"));
        }
        if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(format!("systemd takes no control characters, and the variable {name} has one"));
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '`' | '$') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(plain) && name.as_bytes().first().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<String, String> {
        text(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn quotes_and_dollars_are_kept_as_they_are() {
        assert_eq!(one("A", r#"a "b" $HOME `x` \n '#;"#).unwrap(), "A=\"a \\\"b\\\" \\$HOME \\`x\\` \\\\n '#;\"\n");
        assert_eq!(one("A", "two\nlines").unwrap(), "A=\"two\nlines\"\n");
        assert_eq!(one("_A1", "").unwrap(), "_A1=\"\"\n");
    }

    #[test]
    fn what_systemd_would_drop_is_an_error() {
        for name in ["", "1A", "spring.url", "A B", "Ä"] {
            assert!(one(name, "x").is_err(), "{name}");
        }
        assert!(one("A", "bell\u{7}").is_err());
    }
}
