//! The aggregated API as a person's program asks it: through the API server, with the person's own rights, and with patience while the
//! operator restarts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::{
    Client, Config,
    client::Body,
    config::{InferConfigError, KubeconfigError},
};

use crate::{
    api::view::API_SERVICE,
    effects::clock,
    model::backoff::{Backoff, Waits},
};

const RETRY: Backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(2));

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("{object:?} names nothing that has {what}; write {wanted}")]
    BadName { object: String, what: &'static str, wanted: &'static str },
    #[error("no cluster: {0}; set KUBECONFIG, or try `landfall dev`")]
    Config(#[from] InferConfigError),
    #[error("no cluster: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("{0}")]
    Refused(String),
    #[error(
        "{API_SERVICE} does not answer ({why}); does the operator run? `kubectl get apiservice {API_SERVICE}` and `kubectl -n landfall-system get lease landfall` say more"
    )]
    Away { why: String },
    #[error("what came is not what was asked for: {0}; are the operator and this program of the same version?")]
    Unreadable(#[from] serde_json::Error),
    #[error("the output can't be written: {0}")]
    Output(std::io::Error),
}

/// Asks on behalf of one user.
pub struct ViewClient {
    pub client: Client,
    /// Where an object is whose namespace was not named.
    pub namespace: String,
}

/// An answer that is worth reading.
pub struct Answer {
    pub headers: hyper::HeaderMap,
    pub body: Body,
}

/// How long it is tried again while nobody answers.
pub struct Patience {
    until: Instant,
    waits: Waits,
    /// The first wait is told to the user, on stderr.
    quiet: bool,
}

impl Patience {
    pub fn of(length: Duration) -> Self {
        Self { until: clock::monotonic() + length, waits: RETRY.waits(), quiet: false }
    }

    pub fn is_over(&self) -> bool {
        clock::monotonic() >= self.until
    }

    /// Waits a while, or gives up. `after`: what the server asks for.
    pub async fn wait(&mut self, why: &str, after: Option<Duration>) -> Result<(), ViewError> {
        if self.is_over() {
            return Err(ViewError::Away { why: why.to_owned() });
        }
        if !std::mem::replace(&mut self.quiet, true) {
            eprintln!("landfall: no answer yet ({why}); trying again");
        }
        let wait = self.waits.next_wait();
        tokio::time::sleep(after.unwrap_or(wait)).await;
        Ok(())
    }
}

impl ViewClient {
    pub async fn new(namespace: Option<String>) -> Result<Self, ViewError> {
        let mut config = Config::infer().await?;
        // Waiting is ours, so that the user hears of it; and a log may be silent for as long as a build is.
        config.default_retry = false;
        config.read_timeout = None;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    /// The answer to a GET, waited for as long as nobody answers.
    pub async fn get(&self, path: &str, patience: &mut Patience) -> Result<Answer, ViewError> {
        loop {
            let request = hyper::Request::get(path).body(Body::empty());
            let request = request.map_err(|error| ViewError::Refused(format!("{path} is no path: {error}")))?;
            let response = match self.client.send(request).await {
                Ok(response) => response,
                Err(error) => {
                    patience.wait(&error.to_string(), None).await?;
                    continue;
                }
            };
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                return Ok(Answer { headers: head.headers, body });
            }
            let after = head.headers.get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
            let said = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            match refusal(head.status.as_u16(), &said) {
                Refusal::Final(message) => return Err(ViewError::Refused(message)),
                Refusal::Passing(why) => patience.wait(&why, after.map(Duration::from_secs)).await?,
            }
        }
    }

    /// The same, read as JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ViewError> {
        let answer = self.get(path, &mut Patience::of(Duration::from_secs(20))).await?;
        let bytes = answer.body.collect().await?.to_bytes();
        Ok(serde_json::from_slice(&bytes)?)
    }
}

enum Refusal {
    Final(String),
    /// Nobody is there who could answer, or not now.
    Passing(String),
}

fn refusal(code: u16, said: &Bytes) -> Refusal {
    let status: Option<serde_json::Value> = serde_json::from_slice(said).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str()).map(str::to_owned);
    let clean = |text: String| crate::model::text::clean(text.as_bytes());
    match (code, message) {
        // The API server's own word for a group that nobody serves is no Status.
        (404, None) => Refusal::Passing(format!("{API_SERVICE} is not there")),
        (429 | 500..=599, message) => Refusal::Passing(clean(message.unwrap_or_else(|| format!("HTTP {code}")))),
        (_, message) => Refusal::Final(clean(message.unwrap_or_else(|| format!("HTTP {code}")))),
    }
}

/// The kind and the name of `build/NAME`.
pub fn kind_and_name(object: &str) -> Option<(&str, &str)> {
    object.split_once('/').filter(|(kind, name)| !kind.is_empty() && is_name(name))
}

/// A name that is no path.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let passing =
            |code, said: &str| matches!(refusal(code, &Bytes::copy_from_slice(said.as_bytes())), Refusal::Passing(_));
        assert!(passing(404, "404 page not found"));
        assert!(passing(503, "service unavailable"));
        assert!(passing(429, r#"{"kind":"Status","message":"later"}"#));
        assert!(!passing(404, r#"{"kind":"Status","message":"there is no Build \"x\""}"#));
        assert!(!passing(403, r#"{"kind":"Status","message":"forbidden"}"#));
    }

    #[test]
    fn a_name_is_never_a_path() {
        assert_eq!(kind_and_name("build/shop-1"), Some(("build", "shop-1")));
        for bad in ["build", "build/", "/x", "build/a/b", "build/..%2f", "build/a?b"] {
            assert_eq!(kind_and_name(bad), None, "{bad}");
        }
    }
}
