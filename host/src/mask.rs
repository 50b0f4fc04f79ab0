//! Hides secret values in what an application or a command said, before it is told or recorded. A second net and no promise: what is said in
//! pieces or encoded is not found. The application's own log is left as it is.

use landfall_host_protocol::Secrets;

/// Shorter values, and shorter lines of a value with several, would hide words that mean nothing.
const MIN_VALUE: usize = 4;
const MIN_LINE: usize = 8;

/// The text with `***` in place of every value.
pub fn mask(secrets: &Secrets, text: &mut String) {
    if secrets.0.is_empty() {
        return;
    }
    let mut hidden: Vec<&str> = Vec::new();
    for value in secrets.0.values().filter_map(|value| value.as_text()) {
        let whole = value.trim();
        hidden.extend(Some(whole).filter(|whole| whole.len() >= MIN_VALUE));
        hidden.extend(whole.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE && *line != whole));
    }
    // A value that is part of another would leave the rest of it.
    hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in hidden {
        if text.contains(value) {
            *text = text.replace(value, "***");
        }
    }
}

/// The same of lines.
pub fn mask_lines(secrets: &Secrets, lines: &mut [String]) {
    lines.iter_mut().for_each(|line| mask(secrets, line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_lines_are_hidden_and_short_ones_are_not() {
        let values = [("a", "hunter2"), ("b", "hunter2-and-more"), ("c", "abc"), ("d", "first line\nsecond line\n")];
        let secrets = Secrets(values.map(|(key, value)| (key.to_owned(), value.into())).into());
        let masked = |text: &str| {
            let mut text = text.to_owned();
            mask(&secrets, &mut text);
            text
        };
        assert_eq!(masked("login hunter2 failed, hunter2-and-more as well"), "login *** failed, *** as well");
        assert_eq!(masked("abc of second line"), "abc of ***");
        let mut lines = ["hunter2".to_owned(), "on".to_owned()];
        mask_lines(&secrets, &mut lines);
        assert_eq!(lines, ["***", "on"]);
    }
}
