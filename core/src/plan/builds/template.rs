//! A version's name, out of a Build's `tag` or the project's template.

use jiff::{Timestamp, tz::TimeZone};

use crate::model::names::Version;

/// What `{number}` and `{date}` stand for.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub number: i64,
    pub at: Timestamp,
}

/// Why a template makes no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "the project's build.tag.template {template:?} has an unknown or unclosed placeholder; {{number}} and {{date}} are known"
    )]
    Placeholder { template: String },
    #[error(
        "the project's build.tag.template {template:?} makes no version, for example {example:?}: a version takes 1 to 63 of A-Z a-z 0-9 . _ + -, has no '..', and does not end in '.' or '.lock'"
    )]
    NoVersion { template: String, example: String },
    #[error(
        "the project's build.tag.template {template:?} names one version only, so every Build but the first would fail; add {{number}}, for example {template}-{{number}}"
    )]
    Constant { template: String },
}

/// Numbers of more digits than these are not ours: some tag that looks alike.
const NUMBER_DIGITS: usize = 12;

/// The number that this template gave a tag; `None`: the tag is not of this template, or the template has no number.
pub fn number_of(template: &str, tag: &str) -> Option<i64> {
    let number = match_parts(template, tag, None)?;
    number.parse().ok()
}

/// Whether the tag fits what is left of the template; the digits that `{number}` stands for.
fn match_parts<'a>(template: &str, tag: &'a str, number: Option<&'a str>) -> Option<&'a str> {
    if template.is_empty() {
        return number.filter(|_| tag.is_empty());
    }
    if let Some(rest) = template.strip_prefix("{date}") {
        let (date, after) = tag.split_at_checked(8)?;
        return date.bytes().all(|b| b.is_ascii_digit()).then(|| match_parts(rest, after, number)).flatten();
    }
    if let Some(rest) = template.strip_prefix("{number}") {
        if let Some(digits) = number {
            return match_parts(rest, tag.strip_prefix(digits)?, number);
        }
        let digits = tag.bytes().take(NUMBER_DIGITS).take_while(u8::is_ascii_digit).count();
        let candidates = (1..=digits).rev().filter_map(|length| tag.split_at_checked(length));
        // Ours has no zero in front.
        return candidates
            .filter(|(digits, _)| !digits.starts_with('0'))
            .find_map(|(digits, after)| match_parts(rest, after, Some(digits)));
    }
    let literal = template.chars().next()?;
    match_parts(template.strip_prefix(literal)?, tag.strip_prefix(literal)?, number)
}

/// Fills a template; the result is not checked.
pub fn fill(template: &str, grant: Grant) -> String {
    let date = grant.at.to_zoned(TimeZone::UTC).strftime("%Y%m%d").to_string();
    template.replace("{number}", &grant.number.to_string()).replace("{date}", &date)
}

/// Whether a template can make versions at all; asked before a build is queued.
pub fn check(template: &str) -> Result<(), TemplateError> {
    let template_text = || template.to_owned();
    let example = fill(template, Grant { number: 1, at: Timestamp::UNIX_EPOCH });
    if example.contains(['{', '}']) {
        return Err(TemplateError::Placeholder { template: template_text() });
    }
    if example.parse::<Version>().is_err() {
        return Err(TemplateError::NoVersion { template: template_text(), example });
    }
    if example == template {
        return Err(TemplateError::Constant { template: template_text() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_date_is_the_utc_day_of_the_grant() {
        let at: Timestamp = "2026-11-24T23:59:59Z".parse().unwrap();
        assert_eq!(fill("v{date}-{number}", Grant { number: 7, at }), "v20261124-7");
    }

    #[test]
    fn the_number_of_a_tag_is_read_as_the_template_wrote_it() {
        for (template, tag, number) in [
            ("v{number}", "v7", Some(7)),
            ("v{number}", "v07", None),
            ("v{number}", "v7-rc1", None),
            ("v{number}", "w7", None),
            ("v{date}-{number}", "v20261124-42", Some(42)),
            ("v{date}-{number}", "v2026112-42", None),
            ("{number}{date}", "720261124", Some(7)),
            ("{number}.{number}", "7.7", Some(7)),
            ("{number}.{number}", "7.8", None),
            ("1.{number}.0", "1.12.0", Some(12)),
            ("v{date}", "v20261124", None),
            ("v{number}", "v99999999999999999999999", None),
            ("é{number}", "é3", Some(3)),
            ("v{number}", "v\u{661}", None),
        ] {
            assert_eq!(number_of(template, tag), number, "{template} {tag}");
        }
        for number in [1, 9, 10, 123_456] {
            let tag = fill("v{date}-{number}", Grant { number, at: Timestamp::UNIX_EPOCH });
            assert_eq!(number_of("v{date}-{number}", &tag), Some(number));
        }
    }

    #[test]
    fn a_template_that_makes_no_version_is_refused_before_a_build_is_queued() {
        assert!(check("v{date}-{number}").is_ok());
        for bad in ["latest", "v{nummer}", "v{number", "{number}..", "{number}.lock", &"{number}".repeat(64)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
