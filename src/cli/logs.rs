//! `landfall logs build/NAME`, `landfall logs deployment/NAME`: what was said, and with `-f` what is being said, without a gap or a line
//! twice, whatever is restarted meanwhile.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::Api;
use tokio::io::AsyncWriteExt;

use super::view::{Patience, ViewClient, ViewError, kind_and_name};
use crate::{
    api::{
        Build,
        build::{Attempt, Outcome},
        view::{ATTEMPT_HEADER, OFFSET_HEADER, path},
    },
    effects::plain::Plain,
};

/// How long one waits for an operator that is away.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_OF_FOLLOWERS: Duration = Duration::from_secs(600);

/// Show what a build's script, or a rollout, said.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArgs {
    /// build/NAME or deployment/NAME
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    /// Where it is [default: the namespace of the kubeconfig's context]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Go on until it is over
    #[arg(short, long)]
    pub follow: bool,
    /// The last N lines only
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// From this byte on, counted from 0
    #[arg(long, value_name = "BYTE")]
    pub since: Option<u64>,
    /// Which attempt, of a Build 1, 2, …, of a Deployment <revision>.<redeploys>.<attempt> [default: the last one]
    #[arg(long, value_name = "ATTEMPT")]
    pub attempt: Option<String>,
    /// Of a Deployment: this host's part only
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Prints it on stdout; what is to be said about it goes to stderr.
pub async fn logs(args: LogsArgs) -> Result<(), ViewError> {
    let (resource, name) = resource_and_name(&args.object)?;
    let client = ViewClient::new(args.namespace.clone()).await?;
    let path = path(&client.namespace, resource, name, "log");
    let mut reading = Reading { path, args: &args, attempt: args.attempt.clone(), at: None };
    loop {
        reading.run(&client).await?;
        let (true, "builds") = (args.follow, resource) else { return Ok(()) };
        match next_attempt(&client, name, reading.attempt.as_deref()).await? {
            // A person who asked for one attempt gets that one.
            Some(next) if args.attempt.is_none() => {
                eprintln!("landfall: attempt {next} begins");
                reading.attempt = Some(next.to_string());
                reading.at = Some(0);
            }
            _ => return Ok(()),
        }
    }
}

fn resource_and_name(object: &str) -> Result<(&'static str, &str), ViewError> {
    let resource = |kind| match kind {
        "build" | "builds" | "builds.landfall.dev" | "lfb" => Some("builds"),
        "deployment" | "deployments" | "deployments.landfall.dev" | "lfd" => Some("deployments"),
        _ => None,
    };
    let found = kind_and_name(object).and_then(|(kind, name)| Some((resource(kind)?, name)));
    found.ok_or_else(|| ViewError::BadName {
        object: object.to_owned(),
        what: "a log",
        wanted: "build/NAME or deployment/NAME",
    })
}

/// One log, read to its end over as many connections as it takes.
struct Reading<'a> {
    path: String,
    args: &'a LogsArgs,
    attempt: Option<String>,
    /// The next byte that is wanted, once that is known.
    at: Option<u64>,
}

impl Reading<'_> {
    async fn run(&mut self, client: &ViewClient) -> Result<(), ViewError> {
        let length = if self.args.follow { PATIENCE_OF_FOLLOWERS } else { PATIENCE };
        let (mut plain, mut out) = (Plain::default(), tokio::io::stdout());
        let mut patience = Patience::of(length);
        loop {
            let mut answer = client.get(&self.asked(), &mut patience).await?;
            let header = |name: &str| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
            self.attempt = header(ATTEMPT_HEADER).or(self.attempt.take());
            let mut at = header(OFFSET_HEADER).and_then(|at| at.parse().ok()).or(self.at).unwrap_or(0);
            let why = loop {
                match answer.body.frame().await {
                    None => {
                        write(&mut out, &plain.finish()).await?;
                        return Ok(());
                    }
                    Some(Err(error)) => break error.to_string(),
                    Some(Ok(frame)) => {
                        let bytes = frame.into_data().unwrap_or_default();
                        at += bytes.len() as u64;
                        write(&mut out, &plain.push(&bytes)).await?;
                        patience = Patience::of(length);
                    }
                }
            };
            self.at = Some(at);
            patience.wait(&why, None).await?;
        }
    }

    fn asked(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if self.args.follow {
            query.append_pair("follow", "true");
        }
        if let Some(host) = &self.args.host {
            query.append_pair("host", host);
        }
        if let Some(attempt) = &self.attempt {
            query.append_pair("attempt", attempt);
        }
        match (self.at.or(self.args.since), self.args.tail) {
            // Once it began, the last lines are behind us.
            (since, Some(tail)) if self.at.is_none() => {
                query.append_pair("tail", &tail.to_string());
                since.map(|since| query.append_pair("since", &since.to_string()));
            }
            (Some(since), _) => _ = query.append_pair("since", &since.to_string()),
            (None, _) => {}
        }
        format!("{}?{}", self.path, query.finish())
    }
}

/// A reader that went away (`| head`) is no error of ours, but there is nothing left to do.
async fn write(out: &mut tokio::io::Stdout, bytes: &[u8]) -> Result<(), ViewError> {
    let written = async {
        out.write_all(bytes).await?;
        out.flush().await
    };
    match written.await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(ViewError::Output),
    }
}

/// After the end of an attempt: the next one, if the operator makes one by itself. Says how a build ended.
async fn next_attempt(client: &ViewClient, name: &str, read: Option<&str>) -> Result<Option<i64>, ViewError> {
    let Some(read) = read.and_then(|read| read.parse::<i64>().ok()) else { return Ok(None) };
    let api = Api::<Build>::namespaced(client.client.clone(), &client.namespace);
    let mut patience = Patience::of(PATIENCE);
    loop {
        let status = match api.get_opt(name).await {
            Ok(None) => return Ok(None),
            Ok(Some(build)) => build.status.unwrap_or_default(),
            Err(error) => {
                patience.wait(&error.to_string(), None).await?;
                continue;
            }
        };
        if let Some(next) = status.attempts.iter().find(|attempt| attempt.number > read) {
            return Ok(Some(next.number));
        }
        let stalled = status.conditions.iter().any(|one| one.type_ == "Stalled" && one.status == "True");
        let this = status.attempts.iter().find(|attempt| attempt.number == read);
        if let Some(Attempt { outcome: Some(outcome), reason, .. }) = this
            && (*outcome != Outcome::Lost || stalled)
        {
            let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            eprintln!("landfall: attempt {read}: {outcome:?}{reason}");
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        if patience.is_over() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tail: Option<u64>, since: Option<u64>) -> LogsArgs {
        LogsArgs { object: "build/x".into(), namespace: None, follow: true, tail, since, attempt: None, host: None }
    }

    #[test]
    fn after_a_cut_it_is_asked_for_the_next_byte_of_the_same_attempt_and_no_tail() {
        let args = args(Some(10), Some(3));
        let mut reading = Reading { path: "/p".into(), args: &args, attempt: None, at: None };
        assert_eq!(reading.asked(), "/p?follow=true&tail=10&since=3");
        (reading.attempt, reading.at) = (Some("2".into()), Some(1234));
        assert_eq!(reading.asked(), "/p?follow=true&attempt=2&since=1234");
    }

    #[test]
    fn builds_are_named_as_kubectl_names_them() {
        for good in ["build/x", "lfb/x", "builds.landfall.dev/x"] {
            assert_eq!(resource_and_name(good).unwrap(), ("builds", "x"));
        }
        assert_eq!(resource_and_name("lfd/x").unwrap(), ("deployments", "x"));
        assert!(resource_and_name("pod/x").is_err());
    }
}
