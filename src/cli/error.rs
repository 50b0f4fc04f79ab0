//! Errors of the commands, in words for a person, and the exit codes.

use std::{borrow::Cow, path::PathBuf, process::ExitCode};

use kube::config::{InferConfigError, KubeconfigError};

use crate::{api::view::API_SERVICE, model::text::clean};

/// End of a command, as a script reads it. `--help` of each command lists those that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Ready; or the output is complete.
    Done,
    /// The object failed and needs a person.
    Failed,
    /// No answer: usage, no cluster, no such object, no right. clap uses the same code.
    Unanswered,
    /// Still in progress.
    InProgress,
}

impl ExitStatus {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Unanswered => 2,
            Self::InProgress => 3,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(exit: ExitStatus) -> Self {
        exit.code().into()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{object:?} is not {wanted}")]
    BadName { object: String, wanted: Cow<'static, str> },
    #[error("--timeout {value:?} is not a duration; write it like 90s, 10m or 1h")]
    BadTimeout { value: String },
    #[error("{} can't be read: {why}", file.display())]
    BadFile { file: PathBuf, why: String },
    #[error("no kubeconfig: {0}; pass --kubeconfig, set KUBECONFIG, or start a control plane with `landfall dev`")]
    NoConfig(#[from] InferConfigError),
    #[error("the kubeconfig is not usable: {0}; name another one with --kubeconfig or --context")]
    BadConfig(#[from] KubeconfigError),
    #[error(
        "{kind} {namespace}/{name} does not exist; `kubectl get {plural}.landfall.dev -n {namespace}` lists what does"
    )]
    NotFound { kind: &'static str, plural: &'static str, namespace: String, name: String },
    #[error("{kind} {namespace}/{name} was changed by somebody else at the same time; run the command again")]
    Changed { kind: &'static str, namespace: String, name: String },
    #[error("{0}")]
    Usage(&'static str),
    /// The verb would do nothing to the object as it is.
    #[error("{0}")]
    NotApplicable(String),
    #[error(
        "the API server at {address} does not serve landfall.dev/v1alpha1; install it: kubectl apply --server-side -k manifests/"
    )]
    NotInstalled { address: String },
    /// The API server's own words, which name user, verb and resource.
    #[error("{0}")]
    Refused(String),
    #[error(
        "the API server at {address} does not answer: {why}; check that it runs, or name another cluster with --kubeconfig or --context"
    )]
    Unreachable { address: String, why: String },
    #[error(
        "the API server at {address} has no answer from {API_SERVICE}: {why}; check that the operator runs: kubectl get apiservice {API_SERVICE}"
    )]
    ViewAway { address: String, why: String },
    #[error("the answer can't be read: {0}; use the `landfall` of the operator's version")]
    Unreadable(#[from] serde_json::Error),
    #[error("the answer can't be written as YAML: {0}; use -o json")]
    Yaml(#[from] serde_saphyr::ser::Error),
    #[error("the output can't be written: {0}; check the disk or the program that reads it")]
    Output(std::io::Error),
}

/// A kube error without Rust's debug output in it.
pub(crate) fn from_kube(error: kube::Error, address: &str) -> CliError {
    match error {
        kube::Error::Api(status) => CliError::Refused(clean(status.message.as_bytes())),
        kube::Error::SerdeError(error) => CliError::Unreadable(error),
        error => CliError::Unreachable { address: address.to_owned(), why: innermost(&error) },
    }
}

/// The last cause says what happened; those around it repeat it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    clean(inner.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_is_the_api_servers_sentence_and_no_rust_debug() {
        let sentence = r#"deployments.landfall.dev "web" is forbidden: User "eve" cannot get resource "deployments""#;
        let status = Status::failure(sentence, "Forbidden").with_code(403);
        assert_eq!(from_kube(kube::Error::Api(Box::new(status)), "https://x").to_string(), sentence);
    }

    #[test]
    fn who_does_not_answer_is_named_by_its_address() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = from_kube(kube::Error::ReadEvents(refused), "https://10.0.0.1:6443/").to_string();
        assert_eq!(
            error,
            "the API server at https://10.0.0.1:6443/ does not answer: connection refused; check that it runs, or name another cluster with --kubeconfig or --context"
        );
    }
}
