//! `landfall logs`: the output of a build's script, and what a rollout does on its hosts. A broken connection is resumed at the next byte,
//! so no line is lost or repeated, whatever restarts meanwhile.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;

use super::{
    application_log::{ApplicationLogArgs, application_log},
    cluster::ClusterArgs,
    error::{CliError, ExitStatus, from_kube},
    object::{self, Kind},
    output::write,
    state::{State, verdict},
    view::{RetryBudget, ViewClient},
};
use crate::{
    api::view::{ATTEMPT_HEADER, NO_STAMP, OFFSET_HEADER, STAMP_BYTES, path},
    effects::plain::Plain,
    model::text::for_terminal,
};

/// Time for which an operator that does not answer is waited for.
const OUTAGE_MAX: Duration = Duration::from_secs(30);
const OUTAGE_MAX_FOLLOWING: Duration = Duration::from_secs(600);
/// Interval at which a Build whose log has ended is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Show the log of a Build's script, or of a Deployment's rollout
///
/// Exit code: 0 with the log (with --follow: the object is ready), 1 what was followed failed, 2 without an answer (usage, no cluster, no
/// such object, no right), 3 it is still in progress: a Build is being tagged or published, a rollout waits for hosts or gave way to another.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub struct LogsArgs {
    #[command(subcommand)]
    pub of: Option<LogsOf>,
    /// Object: build/NAME or deployment/NAME
    #[arg(value_name = "KIND/NAME", required = true)]
    pub object: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Follow the log until the build or the rollout ends
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last N lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Start at this byte of the log, counted from 0
    #[arg(long, value_name = "BYTE")]
    pub since: Option<u64>,
    /// Show each line with the time at which it arrived, in UTC; the lines of a Deployment have their times always
    #[arg(long)]
    pub timestamps: bool,
    /// Attempt to show: of a Build 1, 2, …; of a Deployment <revision>.<serial>.<attempt> [default: the last one]
    #[arg(long, value_name = "ATTEMPT")]
    pub attempt: Option<String>,
    /// Show only this host's part of a Deployment's log
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Logs of another kind.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum LogsOf {
    App(ApplicationLogArgs),
}

/// Prints the log on stdout, and notes about it on stderr.
pub async fn logs(args: LogsArgs) -> Result<ExitStatus, CliError> {
    if let Some(LogsOf::App(args)) = args.of {
        return application_log(args).await;
    }
    let (kind, name) = object::required(args.object.as_deref().unwrap_or_default(), &[Kind::Build, Kind::Deployment])?;
    let client = ViewClient::for_logs(&args.cluster).await?;
    let path = path(&client.cluster.namespace, kind.plural(), name, "log");
    // A rollout's lines have their times already, and are asked for as they are.
    let timestamps = args.timestamps && kind == Kind::Build;
    let mut reading = Reading { path, args: &args, timestamps, attempt: args.attempt.clone(), at: None };
    loop {
        reading.run(&client).await?;
        match (args.follow, kind) {
            (true, Kind::Build) => {}
            (true, Kind::Deployment) => return after_rollout(&client, name, &reading).await,
            _ => return Ok(ExitStatus::Done),
        }
        match after_attempt(&client, name, reading.attempt.as_deref()).await? {
            // A person who asks for one attempt gets that one.
            Next::Attempt(_) if args.attempt.is_some() => return Ok(ExitStatus::Failed),
            Next::Attempt(next) => {
                eprintln!("landfall: attempt {next} starts");
                reading.attempt = Some(next.to_string());
                reading.at = Some(0);
            }
            Next::End(exit) => return Ok(exit),
        }
    }
}

/// One log, read to its end over as many connections as it takes.
struct Reading<'a> {
    path: String,
    args: &'a LogsArgs,
    /// Whether the answers have a time before each line.
    timestamps: bool,
    attempt: Option<String>,
    /// The next byte to ask for, once it is known.
    at: Option<u64>,
}

impl Reading<'_> {
    async fn run(&mut self, client: &ViewClient) -> Result<(), CliError> {
        let length = if self.args.follow { OUTAGE_MAX_FOLLOWING } else { OUTAGE_MAX };
        let (mut plain, mut out) = (Plain::default(), tokio::io::stdout());
        let mut budget = RetryBudget::of(length);
        let mut stamped = self.timestamps.then(StampedLines::default);
        loop {
            let mut answer = client.get(&self.request_path(), &mut budget).await?;
            let header = |name: &str| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
            self.attempt = header(ATTEMPT_HEADER).or(self.attempt.take());
            let mut at = header(OFFSET_HEADER).and_then(|at| at.parse().ok()).or(self.at).unwrap_or(0);
            if let Some(stamped) = &mut stamped {
                stamped.begin_answer();
            }
            let cut = loop {
                match answer.body.frame().await {
                    None => {
                        write(&mut out, &plain.finish()).await?;
                        return Ok(());
                    }
                    Some(Err(error)) => break from_kube(error, &client.cluster.address),
                    Some(Ok(frame)) => {
                        let bytes = frame.into_data().unwrap_or_default();
                        let (bytes, log_bytes) = match &mut stamped {
                            Some(stamped) => stamped.take(&bytes),
                            None => (bytes.to_vec(), bytes.len() as u64),
                        };
                        at += log_bytes;
                        write(&mut out, &plain.push(&bytes)).await?;
                        budget = RetryBudget::of(length);
                    }
                }
            };
            self.at = Some(at);
            budget.wait(cut, None).await?;
        }
    }

    fn request_path(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if self.args.follow {
            query.append_pair("follow", "true");
        }
        if self.timestamps {
            query.append_pair("timestamps", "true");
        }
        if let Some(host) = &self.args.host {
            query.append_pair("host", host);
        }
        if let Some(attempt) = &self.attempt {
            query.append_pair("attempt", attempt);
        }
        match (self.at.or(self.args.since), self.args.tail) {
            // A resumed log has its last lines behind it.
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

/// Lines with times before them, of one log over several answers. A time is no part of the log, and each answer begins with one.
#[derive(Debug, Default)]
struct StampedLines {
    /// What is here of a time.
    stamp: Vec<u8>,
    due: bool,
    /// A line was shown up to its middle.
    within: bool,
    /// The user knows why lines have no time.
    told: bool,
}

impl StampedLines {
    fn begin_answer(&mut self) {
        self.stamp.clear();
        self.due = true;
    }

    /// What is to be shown of the next bytes of an answer, and how many of these are the log's.
    fn take(&mut self, mut bytes: &[u8]) -> (Vec<u8>, u64) {
        let (mut shown, mut log_bytes) = (Vec::with_capacity(bytes.len()), 0);
        while !bytes.is_empty() {
            if self.due && self.stamp.len() < STAMP_BYTES {
                let (stamp, rest) = bytes.split_at(bytes.len().min(STAMP_BYTES - self.stamp.len()));
                self.stamp.extend_from_slice(stamp);
                bytes = rest;
            } else {
                // Only with a byte of its line: an answer that is cut before it is repeated with its time.
                if self.due {
                    self.show_stamp(&mut shown);
                }
                let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
                let (line, rest) = bytes.split_at(end);
                shown.extend_from_slice(line);
                log_bytes += line.len() as u64;
                self.due = line.ends_with(b"\n");
                self.within = !self.due;
                bytes = rest;
            }
        }
        (shown, log_bytes)
    }

    fn show_stamp(&mut self, shown: &mut Vec<u8>) {
        let stamp = std::mem::take(&mut self.stamp);
        // The rest of a line that was cut has its time before it.
        if self.within {
            return;
        }
        if stamp == NO_STAMP.as_bytes() && !std::mem::replace(&mut self.told, true) {
            eprintln!(
                "landfall: lines after \"-\" have no time: the attempt ran under an older landfall, its machine was lost, or the operator that knows the times does not answer"
            );
        }
        shown.extend(stamp);
    }
}

/// What follows the end of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Attempt(i64),
    End(ExitStatus),
}

/// Waits until the Build is decided, or the operator starts another attempt by itself.
async fn after_attempt(client: &ViewClient, name: &str, read: Option<&str>) -> Result<Next, CliError> {
    let Some(read) = read.and_then(|read| read.parse::<i64>().ok()) else { return Ok(Next::End(ExitStatus::Done)) };
    let mut budget = RetryBudget::of(OUTAGE_MAX);
    loop {
        match client.cluster.get(Kind::Build, name).await {
            Ok(build) => {
                if let Some(next) = decided(&build, read, budget.is_over()) {
                    return Ok(next);
                }
            }
            Err(error @ CliError::Unreachable { .. }) => {
                budget.wait(error, None).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the Deployment is decided whose rollout was followed.
async fn after_rollout(client: &ViewClient, name: &str, reading: &Reading<'_>) -> Result<ExitStatus, CliError> {
    let Some(read) = reading.attempt.as_deref() else { return Ok(ExitStatus::Done) };
    let mut budget = RetryBudget::of(OUTAGE_MAX);
    loop {
        match client.cluster.get(Kind::Deployment, name).await {
            Ok(deployment) => {
                if let Some((exit, text)) = rollout_end(&deployment, read, budget.is_over()) {
                    eprintln!("landfall: rollout {read}: {}", for_terminal(&text));
                    return Ok(exit);
                }
            }
            Err(error @ CliError::Unreachable { .. }) => {
                budget.wait(error, None).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How the rollout that was read ended, and in words; `None` while it can still change.
fn rollout_end(deployment: &Value, read: &str, over: bool) -> Option<(ExitStatus, String)> {
    let rollout = &deployment["status"]["rollout"];
    let current = format!("{}.{}", rollout["id"].as_str().unwrap_or("?"), rollout["attempt"]);
    if current != read {
        return Some((ExitStatus::InProgress, format!("another one has taken its place: {current}")));
    }
    let verdict = verdict(deployment);
    if verdict.state == State::InProgress && !over {
        return None;
    }
    let summary = verdict.message.lines().next().unwrap_or_default();
    Some((verdict.state.exit(), format!("{}: {}: {summary}", verdict.state.words(), verdict.reason)))
}

/// `None` while it can still change. Tells the user how the attempt ended.
fn decided(build: &Value, read: i64, over: bool) -> Option<Next> {
    let attempts = build["status"]["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let number = |attempt: &Value| attempt["number"].as_i64();
    if let Some(next) = attempts.iter().filter_map(number).find(|number| *number > read) {
        return Some(Next::Attempt(next));
    }
    let verdict = verdict(build);
    let attempt = attempts.iter().find(|attempt| number(attempt) == Some(read));
    let outcome = attempt.and_then(|attempt| attempt["outcome"].as_str());
    let exit = match (verdict.state, outcome) {
        (State::Ready, _) => ExitStatus::Done,
        (State::Failed, _) => ExitStatus::Failed,
        // Still being tagged and published, or tried again.
        (State::InProgress, Some("Succeeded" | "Lost") | None) if !over => return None,
        (State::InProgress, Some("Succeeded")) => ExitStatus::InProgress,
        (State::InProgress, _) => ExitStatus::Failed,
    };
    let outcome = outcome.unwrap_or("without a recorded outcome");
    let summary = verdict.message.lines().next().unwrap_or_default();
    eprintln!("landfall: attempt {read}: {outcome}; {}: {}: {summary}", verdict.state.words(), verdict.reason);
    Some(Next::End(exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tail: Option<u64>, since: Option<u64>) -> LogsArgs {
        LogsArgs {
            of: None,
            object: Some("build/x".into()),
            cluster: ClusterArgs::default(),
            follow: true,
            tail,
            since,
            timestamps: false,
            attempt: None,
            host: None,
        }
    }

    #[test]
    fn a_cut_log_is_resumed_at_the_next_byte_of_the_same_attempt() {
        let args = args(Some(10), Some(3));
        let mut reading = Reading { path: "/p".into(), args: &args, timestamps: false, attempt: None, at: None };
        assert_eq!(reading.request_path(), "/p?follow=true&tail=10&since=3");
        (reading.attempt, reading.at) = (Some("2".into()), Some(1234));
        assert_eq!(reading.request_path(), "/p?follow=true&attempt=2&since=1234");
        reading.timestamps = true;
        assert_eq!(reading.request_path(), "/p?follow=true&timestamps=true&attempt=2&since=1234");
    }

    #[test]
    fn a_log_with_times_that_is_cut_anywhere_is_resumed_without_a_line_or_a_time_lost_or_repeated() {
        let log = b"one\n\ntwo, longer\nthree";
        let stamp = |n: usize| format!("2026-11-27T01:56:{n:02}Z ");
        // As the server does: a time at the begin of each answer, and before each line after it.
        let answer = |from: usize| {
            let mut answer = Vec::new();
            for (at, byte) in log.iter().enumerate().skip(from) {
                if at == from || log[at - 1] == b'\n' {
                    answer.extend(stamp(at).into_bytes());
                }
                answer.push(*byte);
            }
            answer
        };
        let whole = answer(0);
        for cut in 0..whole.len() {
            for second_cut in [1, STAMP_BYTES - 1, STAMP_BYTES, STAMP_BYTES + 1, 2 * STAMP_BYTES + 3] {
                let (mut lines, mut shown, mut at) = (StampedLines::default(), Vec::new(), 0);
                for most in [cut, second_cut, usize::MAX] {
                    lines.begin_answer();
                    let answer = answer(at);
                    // Frames of a few bytes.
                    for frame in answer[..most.min(answer.len())].chunks(5) {
                        let (bytes, log_bytes) = lines.take(frame);
                        shown.extend(bytes);
                        at += usize::try_from(log_bytes).unwrap();
                    }
                }
                assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&whole), "{cut} {second_cut}");
                assert_eq!(at, log.len());
            }
        }
    }

    fn build(outcome: Option<&str>, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| serde_json::json!({ "type": kind, "status": status, "reason": "Why", "message": "text" }))
            .collect();
        serde_json::json!({
            "metadata": { "generation": 1 },
            "status": { "observedGeneration": 1, "conditions": conditions, "attempts": [{ "number": 1, "outcome": outcome }] },
        })
    }

    #[test]
    fn following_a_build_ends_with_the_builds_result() {
        let ready = build(Some("Succeeded"), &[("Ready", "True")]);
        assert_eq!(decided(&ready, 1, false), Some(Next::End(ExitStatus::Done)));
        let failed = build(Some("Failed"), &[("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(decided(&failed, 1, false), Some(Next::End(ExitStatus::Failed)));
        // The script succeeded and the tag is refused.
        let untagged = build(Some("Succeeded"), &[("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(decided(&untagged, 1, false), Some(Next::End(ExitStatus::Failed)));
        let tagging = build(Some("Succeeded"), &[("Ready", "Unknown"), ("Reconciling", "True")]);
        assert_eq!(decided(&tagging, 1, false), None);
        assert_eq!(decided(&tagging, 1, true), Some(Next::End(ExitStatus::InProgress)));
    }

    #[test]
    fn following_a_rollout_ends_with_the_deployments_result() {
        let deployment = |conditions: &[(&str, &str)]| {
            let mut deployment = build(None, conditions);
            deployment["status"]["rollout"] = serde_json::json!({ "id": "2.0", "attempt": 1 });
            deployment
        };
        let exit = |deployment: &Value, over| Some(rollout_end(deployment, "2.0.1", over)?.0);
        assert_eq!(exit(&deployment(&[("Ready", "True")]), false), Some(ExitStatus::Done));
        assert_eq!(exit(&deployment(&[("Ready", "False"), ("Stalled", "True")]), false), Some(ExitStatus::Failed));
        let waiting = deployment(&[("Ready", "False"), ("Reconciling", "True")]);
        assert_eq!((exit(&waiting, false), exit(&waiting, true)), (None, Some(ExitStatus::InProgress)));
        let replaced = rollout_end(&deployment(&[("Ready", "True")]), "1.0.1", false);
        assert_eq!(replaced, Some((ExitStatus::InProgress, "another one has taken its place: 2.0.1".to_owned())));
    }

    #[test]
    fn a_lost_attempt_is_followed_by_the_next_one() {
        let mut build = build(Some("Lost"), &[("Ready", "Unknown"), ("Reconciling", "True")]);
        assert_eq!(decided(&build, 1, false), None);
        build["status"]["attempts"] = serde_json::json!([{ "number": 1, "outcome": "Lost" }, { "number": 2 }]);
        assert_eq!(decided(&build, 1, false), Some(Next::Attempt(2)));
    }
}
