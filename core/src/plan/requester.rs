//! Who asked for something, in the words that people read. Pure; it must not decide whether he may.

use std::collections::BTreeMap;

use crate::{
    api::{BRANCH_ANNOTATION, stamps},
    model::text::one_line,
};

/// Characters of a name that are shown; the stamp has all of them.
const NAME_MAX: usize = 200;

/// Who created the object or last changed its spec; `None` where that is unknown.
pub(crate) fn of_spec(annotations: &BTreeMap<String, String>) -> Option<String> {
    stamps::requested_by(annotations).map(shown)
}

/// Who gave this verb its value.
pub(crate) fn of_verb(verb: &str, annotations: &BTreeMap<String, String>) -> Option<String> {
    stamps::verb_by(verb, annotations).map(shown)
}

/// Who asked for a Build. What the operator (`operator`, its own user) created was asked for by the Project's trigger.
pub(crate) fn of_build(annotations: &BTreeMap<String, String>, operator: Option<&str>) -> Option<String> {
    let by = stamps::requested_by(annotations)?;
    match annotations.get(BRANCH_ANNOTATION) {
        Some(branch) if operator == Some(by) => Some(format!("trigger (push to {})", shown(branch))),
        _ => Some(shown(by)),
    }
}

/// `, requested by alice`, for the end of a sentence; nothing where it is unknown.
pub(crate) fn clause(requester: Option<&str>) -> String {
    requester.map(|name| format!(", requested by {name}")).unwrap_or_default()
}

fn shown(name: &str) -> String {
    one_line(name.as_bytes(), NAME_MAX).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_build_that_the_operator_made_was_asked_for_by_the_trigger_and_nobody_else_can_say_so() {
        let pushed = [("landfall.dev/requested-by", "operator"), ("landfall.dev/branch", "main")];
        assert_eq!(of_build(&annotations(&pushed), Some("operator")).as_deref(), Some("trigger (push to main)"));
        let forged = [("landfall.dev/requested-by", "mallory"), ("landfall.dev/branch", "main")];
        assert_eq!(of_build(&annotations(&forged), Some("operator")).as_deref(), Some("mallory"));
        assert_eq!(of_build(&annotations(&[("landfall.dev/branch", "main")]), Some("operator")), None);
    }

    #[test]
    fn a_name_with_an_escape_sequence_has_no_power_over_a_terminal() {
        let stamped = annotations(&[("landfall.dev/requested-by", "al\u{1b}[31mice\n\u{202e}")]);
        assert_eq!(of_spec(&stamped).as_deref(), Some("alice"));
    }
}
