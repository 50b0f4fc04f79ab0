//! Whether a Secret may be used for a purpose by an object: its author says so by a label, and for git by an annotation. Pure. Otherwise
//! whoever edits a Project or a HostGroup could have any password of the namespace sent to a server of his.

use std::{collections::BTreeMap, time::Duration};

use crate::api::{FORMER_USE_LABEL, Reason, USE_LABEL_PREFIX, verbs::GIT_HOST};

/// How long the API server has to refuse a Secret until that counts as a person's decision: one that has just started refuses what it allows
/// later, and a namespace that is deleted may lose the right to its Secrets before its other objects.
const FORBIDDEN_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Git,
    Ssh,
    Build,
    /// Values for applications on hosts.
    Run,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Ssh => "ssh",
            Self::Build => "build",
            Self::Run => "run",
        }
    }

    /// What kind of object has Secrets of this purpose.
    fn kind(self) -> &'static str {
        match self {
            Self::Git | Self::Build | Self::Run => "Project",
            Self::Ssh => "HostGroup",
        }
    }

    fn label(self) -> String {
        format!("{USE_LABEL_PREFIX}{}", self.name())
    }
}

/// Who wants to use a Secret, and for what.
#[derive(Clone, Copy, Debug)]
pub struct SecretUse<'a> {
    pub namespace: &'a str,
    pub purpose: Purpose,
    /// The name of the Project, or for SSH of the HostGroup.
    pub user: &'a str,
}

/// Why the Secret of this name and these labels is not for this use, with what mends it; `None` where it is.
pub fn refused(secret: &str, labels: &BTreeMap<String, String>, wanted: &SecretUse<'_>) -> Option<String> {
    let SecretUse { namespace, purpose, user } = *wanted;
    let (label, what, kind) = (purpose.label(), purpose.name(), purpose.kind());
    let command = format!("kubectl label -n {namespace} secret {secret}");
    match labels.get(&label) {
        Some(value) if value.is_empty() || value == user => return None,
        Some(other) => {
            return Some(format!(
                "the Secret {secret} is for {what} of {kind} {other} alone ({label}={other}). Where every {kind} of the namespace may \
                 use it: {command} --overwrite {label}= ; else make a Secret of its own for {kind} {user}"
            ));
        }
        None => {}
    }
    let former = labels.get(FORMER_USE_LABEL).map(String::as_str);
    if former == Some(what) {
        return Some(format!(
            "the Secret {secret} has the label {FORMER_USE_LABEL}={what} of an earlier version, which no longer counts; for {kind} {user}: \
             {command} {label}={user} {FORMER_USE_LABEL}-"
        ));
    }
    let marked = labels.keys().filter_map(|key| key.strip_prefix(USE_LABEL_PREFIX));
    let others: Vec<&str> = marked.chain(former).collect();
    if !others.is_empty() {
        return Some(format!(
            "the Secret {secret} is for {}, not for {what}. Don't label it for both: whoever may edit {kind} {user} could then have its \
             values sent to a server or a script of his. Make another Secret and label that one {label}={user}",
            others.join(", ")
        ));
    }
    Some(format!(
        "the Secret {secret} is not labelled for {what} of {kind} {user}; where it may be used for that: {command} {label}={user}"
    ))
}

/// Whether somebody took the Secret from an object that has used it until now. One that is gone may have been deleted along with its users,
/// or be on its way again, so what was read of it counts on. `deleting`: the object is; the right to read may have gone first.
pub fn is_withdrawn(reason: Reason, deleting: bool) -> bool {
    match reason {
        Reason::SecretNotFound => false,
        Reason::SecretForbidden => !deleting,
        _ => true,
    }
}

/// Whether its values must not be used any more. `elapsed`: how long it has been refused.
pub fn is_withdrawn_since(reason: Reason, deleting: bool, elapsed: Duration) -> bool {
    is_withdrawn(reason, deleting) && (reason != Reason::SecretForbidden || elapsed >= FORBIDDEN_AFTER)
}

/// Why a git Secret of these annotations may not be sent to this host (`host:port` where the port is not the scheme's own).
pub fn refused_host(
    secret: &str,
    annotations: &BTreeMap<String, String>,
    namespace: &str,
    host: &str,
) -> Option<String> {
    let command = format!("kubectl annotate -n {namespace} secret {secret}");
    match annotations.get(GIT_HOST).map(|value| value.trim()) {
        Some(annotated) if annotated.eq_ignore_ascii_case(host) => None,
        Some(annotated) if !annotated.is_empty() => Some(format!(
            "the Secret {secret} is for {annotated} ({GIT_HOST}), not for {host}. Where it may be sent to {host} instead: {command} \
             --overwrite {GIT_HOST}={host}"
        )),
        _ => Some(format!(
            "the Secret {secret} does not say which server it is for; where it may be sent to {host}: {command} --overwrite \
             {GIT_HOST}={host}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const GIT: SecretUse<'_> = SecretUse { namespace: "team", purpose: Purpose::Git, user: "shop" };
    const BUILD: SecretUse<'_> = SecretUse { namespace: "team", purpose: Purpose::Build, user: "shop" };

    #[test]
    fn a_secret_is_used_where_its_label_names_the_project_or_nobody() {
        assert_eq!(refused("s", &map(&[("use.landfall.dev/git", "shop")]), &GIT), None);
        assert_eq!(refused("s", &map(&[("use.landfall.dev/git", "")]), &GIT), None);
        assert_eq!(refused("s", &map(&[("use.landfall.dev/git", ""), ("use.landfall.dev/ssh", "prod")]), &GIT), None);
        let group = SecretUse { namespace: "team", purpose: Purpose::Ssh, user: "prod" };
        assert_eq!(refused("s", &map(&[("use.landfall.dev/ssh", "prod")]), &group), None);
        assert!(refused("s", &map(&[("use.landfall.dev/ssh", "shop")]), &group).is_some());
    }

    #[test]
    fn what_a_person_took_away_counts_no_more_and_what_may_pass_counts_on() {
        let at_once = |reason, deleting| is_withdrawn_since(reason, deleting, Duration::ZERO);
        for reason in [Reason::SecretNotForThis, Reason::SecretInvalid, Reason::SecretKeyMissing] {
            assert!(at_once(reason, false) && at_once(reason, true), "{reason}");
        }
        assert!(!at_once(Reason::SecretForbidden, false), "an API server that has just started refuses much");
        assert!(is_withdrawn_since(Reason::SecretForbidden, false, FORBIDDEN_AFTER));
        assert!(!is_withdrawn_since(Reason::SecretForbidden, true, FORBIDDEN_AFTER), "it went with its namespace");
        assert!(!is_withdrawn_since(Reason::SecretNotFound, false, Duration::MAX));
    }

    #[test]
    fn a_secret_without_label_is_mended_by_one_command() {
        let message = refused("shop-git", &map(&[]), &GIT).unwrap();
        assert!(message.ends_with(": kubectl label -n team secret shop-git use.landfall.dev/git=shop"), "{message}");
    }

    #[test]
    fn the_label_of_an_earlier_version_is_replaced_by_one_command() {
        let message = refused("shop-git", &map(&[("landfall.dev/use", "git")]), &GIT).unwrap();
        let command = ": kubectl label -n team secret shop-git use.landfall.dev/git=shop landfall.dev/use-";
        assert!(message.ends_with(command), "{message}");
    }

    #[test]
    fn a_deploy_key_is_not_advised_to_be_labelled_for_builds() {
        for labels in [map(&[("use.landfall.dev/ssh", "prod")]), map(&[("landfall.dev/use", "ssh")])] {
            let message = refused("deploy-key", &labels, &BUILD).unwrap();
            assert!(message.contains("is for ssh, not for build"), "{message}");
            assert!(message.contains("another Secret") && !message.contains("kubectl"), "{message}");
        }
    }

    #[test]
    fn a_secret_of_another_project_is_widened_or_left() {
        let message = refused("s", &map(&[("use.landfall.dev/git", "blog")]), &GIT).unwrap();
        assert!(message.contains("Project blog alone") && message.contains("--overwrite use.landfall.dev/git= ;"));
    }

    #[test]
    fn a_git_secret_goes_to_the_server_that_it_names_and_to_no_other() {
        assert_eq!(refused_host("s", &map(&[(GIT_HOST, "Git.example.com")]), "team", "git.example.com"), None);
        let other = refused_host("s", &map(&[(GIT_HOST, "git.example.com")]), "team", "evil.example").unwrap();
        assert!(other.contains("is for git.example.com") && other.contains("not for evil.example"), "{other}");
        let none = refused_host("s", &map(&[]), "team", "git.example.com").unwrap();
        assert!(none.ends_with("kubectl annotate -n team secret s --overwrite landfall.dev/git-host=git.example.com"));
    }
}
