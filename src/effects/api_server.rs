//! What an API server is told and what it answered: this program's name on each write, and answers as text for people. kube's own text of a
//! refusal ends in the debug form of the whole answer.

use hyper::header::{HeaderValue, USER_AGENT};
use kube::{
    Config,
    api::{PatchParams, PostParams},
};

use crate::api::FIELD_MANAGER;

/// For a patch, not an apply.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The program and its version, as audit logs and proxies show it.
pub(crate) fn name_program(config: &mut Config) {
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("landfall/", env!("CARGO_PKG_VERSION")))));
}

/// Its own words: they name the verb and the resource where a right is missing.
pub fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        kube::Error::Api(status) => format!("code {}, reason {:?}", status.code, status.reason),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refused_right_is_told_in_the_words_of_the_api_server() {
        let words =
            "secrets \"x\" is forbidden: User \"landfall\" cannot get resource \"secrets\" in the namespace \"shop\"";
        let error = kube::Error::Api(Box::new(Status::failure(words, "Forbidden").with_code(403)));
        assert_eq!(api_message(&error), format!("{words} (403)"));
        assert!(!api_message(&error).contains("Status {"));
    }
}
