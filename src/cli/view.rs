//! The aggregated API, read with the caller's own rights, and with retries while the operator restarts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, header::CONTENT_TYPE};
use kube::client::Body;

use super::{
    cluster::{Cluster, ClusterArgs, SILENCE_MAX},
    error::{CliError, from_kube},
};
use crate::{
    api::view::API_SERVICE,
    effects::clock,
    model::{
        backoff::{Backoff, Waits},
        text::clean,
    },
};

const RETRY: Backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(2));
/// Time for which a request with one short answer is repeated.
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Client of the aggregated API with the rights of one user.
pub(crate) struct ViewClient {
    pub cluster: Cluster,
}

/// A successful answer.
pub(crate) struct Answer {
    pub headers: hyper::HeaderMap,
    pub body: Body,
}

/// Time within which a request is repeated.
pub(crate) struct RetryBudget {
    until: Instant,
    length: Duration,
    waits: Waits,
    /// Whether the user was told: of the first failure only, and of the end.
    announced: bool,
}

impl RetryBudget {
    pub fn of(length: Duration) -> Self {
        Self { until: clock::monotonic() + length, length, waits: RETRY.waits(), announced: false }
    }

    pub(crate) fn is_over(&self) -> bool {
        clock::monotonic() >= self.until
    }

    /// Pauses before the next try, or gives up with `error`. `after` is the pause that the server asks for.
    pub async fn wait(&mut self, error: CliError, after: Option<Duration>) -> Result<(), CliError> {
        if self.is_over() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.announced, true) {
            eprintln!("landfall: {error}; retrying for up to {} s", self.length.as_secs());
        }
        let wait = self.waits.next_wait();
        tokio::time::sleep(after.unwrap_or(wait).min(self.length)).await;
        Ok(())
    }
}

impl ViewClient {
    /// For requests with a short answer.
    pub async fn new(args: &ClusterArgs) -> Result<Self, CliError> {
        Ok(Self { cluster: args.connect(Some(SILENCE_MAX)).await? })
    }

    /// For logs, which may be silent as long as a build is.
    pub(crate) async fn for_logs(args: &ClusterArgs) -> Result<Self, CliError> {
        Ok(Self { cluster: args.connect(None).await? })
    }

    /// The answer to a GET, repeated while the operator does not answer.
    pub async fn get(&self, path: &str, budget: &mut RetryBudget) -> Result<Answer, CliError> {
        self.request(Method::GET, path, Bytes::new(), budget).await
    }

    /// The same of what is made of `asked`: nothing is stored, so it may be asked for twice.
    pub async fn create<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        asked: &impl serde::Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(asked)?.into();
        let answer = self.request(Method::POST, path, body, &mut RetryBudget::of(RETRY_MAX)).await?;
        self.read(answer).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        budget: &mut RetryBudget,
    ) -> Result<Answer, CliError> {
        loop {
            let request = hyper::Request::builder().method(method.clone()).uri(path);
            let request = request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_vec()));
            let request = request.map_err(|error| CliError::Refused(format!("{path} is not a path: {error}")))?;
            let response = match self.cluster.client.send(request).await {
                Ok(response) => response,
                Err(error) => {
                    budget.wait(from_kube(error, &self.cluster.address), None).await?;
                    continue;
                }
            };
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                return Ok(Answer { headers: head.headers, body });
            }
            let after = head.headers.get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
            let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            match refusal(head.status.as_u16(), &bytes) {
                Refusal::Final(message) => return Err(CliError::Refused(message)),
                Refusal::Passing(why) => budget.wait(self.away(why), after.map(Duration::from_secs)).await?,
            }
        }
    }

    /// The error of an operator that does not answer.
    pub fn away(&self, why: String) -> CliError {
        CliError::ViewAway { address: self.cluster.address.clone(), why }
    }

    /// The same, read as JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.get(path, &mut RetryBudget::of(RETRY_MAX)).await?;
        self.read(answer).await
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, answer: Answer) -> Result<T, CliError> {
        let body = answer.body.collect().await.map_err(|error| from_kube(error, &self.cluster.address))?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}

enum Refusal {
    Final(String),
    /// The operator can't answer at the moment.
    Passing(String),
}

fn refusal(code: u16, body: &Bytes) -> Refusal {
    let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str()).map(str::to_owned);
    let shown = |text: String| clean(text.as_bytes());
    match (code, message) {
        // Plain text, not a Status: the API server knows no server for the group.
        (404, None) => Refusal::Passing(format!("{API_SERVICE} is not registered")),
        (429 | 500..=599, message) => Refusal::Passing(shown(message.unwrap_or_else(|| format!("HTTP {code}")))),
        (_, message) => Refusal::Final(shown(message.unwrap_or_else(|| format!("HTTP {code}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_may_pass_is_retried_and_a_final_one_is_not() {
        let passing =
            |code, body: &str| matches!(refusal(code, &Bytes::copy_from_slice(body.as_bytes())), Refusal::Passing(_));
        assert!(passing(404, "404 page not found"));
        assert!(passing(503, "service unavailable"));
        assert!(passing(429, r#"{"kind":"Status","message":"later"}"#));
        assert!(!passing(404, r#"{"kind":"Status","message":"there is no Build \"x\""}"#));
        assert!(!passing(403, r#"{"kind":"Status","message":"forbidden"}"#));
    }
}
