//! `applications/log`: what the applications of a Deployment print on their hosts, read there over the connection that the leading
//! operator has. A right of its own guards it: whoever may read a Deployment may not by that read what its applications print.
//!
//! The host sends no more than the reader has taken, so a slow reader costs a window of bytes and delays nothing else. A host that can't be
//! read is an error, or among several hosts a line that says so; it is never an empty answer.

use std::{collections::BTreeSet, io, sync::Arc};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::{FutureExt, future::join_all};
use jiff::SignedDuration;
use kube::{Api, ResourceExt};
use landfall_host_protocol::Refusal;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    api_error::ApiError,
    lines::Lines,
    logs::{away, mark_as_text},
    query::Parameters,
    reader_permits::ReaderPermit,
    state::{Hosts, NoLog, View},
};
use crate::{
    api::{Deployment, HostGroup},
    effects::program::{LogPart, LogStream, ProgramError},
    model::ids::FolderName,
    plan::{deployment::select, hostgroup::HostCheck},
};

pub(crate) const PARAMETERS: [&str; 4] = ["host", "follow", "tail", "since"];
/// Hosts that are read together.
const HOSTS_MAX: usize = 32;
/// Pieces of all hosts that wait for the reader.
const PIECES: usize = 4;
/// When a host that is not connected may be asked for again.
const AGAIN_SECONDS: u32 = 5;

/// Which hosts, and which part of their logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    host: Option<String>,
    part: LogPart,
}

impl Query {
    pub fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let parameters = Parameters::read(query, &PARAMETERS)?;
        let since_seconds = parameters.text("since").map(since).transpose()?;
        let (last_lines, follow) = (parameters.number("tail")?, parameters.yes("follow")?);
        let host = parameters.text("host").map(str::to_owned);
        Ok(Self { host, part: LogPart { last_lines, since_seconds, follow } })
    }
}

fn since(text: &str) -> Result<u64, ApiError> {
    let duration = text.parse::<SignedDuration>().ok();
    let seconds = duration.filter(|duration| duration.is_positive()).and_then(|duration| {
        let rounded_up = duration.as_secs().saturating_add(i64::from(duration.subsec_nanos() > 0));
        u64::try_from(rounded_up).ok()
    });
    seconds.ok_or_else(|| ApiError::bad_request(format!("since takes a duration like 90s, 10m or 1h, not {text:?}")))
}

/// A log that was opened on one host.
struct Opened {
    stream: LogStream,
    lines: Lines,
    _permit: ReaderPermit,
}

/// Text of one host, or lines of several with the host's name before each.
pub async fn answer(
    view: &Arc<View>,
    namespace: &str,
    name: &str,
    query: &Query,
    user: &str,
) -> Result<Response, ApiError> {
    let hosts = view.hosts.borrow().clone().ok_or_else(away)?;
    let deployment = Api::<Deployment>::namespaced(view.client.clone(), namespace).get_opt(name).await?;
    let deployment = deployment.ok_or_else(|| {
        ApiError::not_found(format!("there is no Deployment {name:?} in the namespace {namespace:?}"))
    })?;
    let group_name = &deployment.spec.host_group_ref.name;
    let group = Api::<HostGroup>::namespaced(view.client.clone(), namespace).get_opt(group_name).await?;
    let group = group.ok_or_else(|| {
        ApiError::not_found(format!("there is no HostGroup {group_name:?} in the namespace {namespace:?}"))
    })?;
    let application = Application {
        hosts: hosts.as_ref(),
        namespace,
        group: group_name,
        deployment: &deployment,
        folder: FolderName::new(namespace, &deployment.spec.project_ref.name),
    };
    let wanted = wanted(&application, &group, query.host.as_deref())?;
    let is_one = wanted.len() == 1;
    let opening = wanted.iter().map(|host| {
        let lines = Lines::new((!is_one).then_some(host));
        application.open(view, host, query.part, user).map(move |opened| (host, opened, lines))
    });
    let mut opened = Vec::new();
    let mut refused: Vec<(&String, ApiError)> = Vec::new();
    for (host, result, lines) in join_all(opening).await {
        match result {
            Ok((stream, permit)) => opened.push(Opened { stream, lines, _permit: permit }),
            Err(error) => refused.push((host, error)),
        }
    }
    let body = match (opened.pop(), opened.is_empty()) {
        (None, _) => return Err(nothing(refused)),
        (Some(one), true) if is_one => one_body(one),
        (Some(one), _) => {
            opened.push(one);
            let notes = refused.iter().map(|(host, error)| Lines::new(Some(host.as_str())).note(&error.message));
            merged_body(notes.flatten().collect(), opened)
        }
    };
    let mut response = body.into_response();
    mark_as_text(response.headers_mut());
    Ok(response)
}

/// The applications whose logs are asked for.
struct Application<'a> {
    hosts: &'a dyn Hosts,
    namespace: &'a str,
    group: &'a str,
    deployment: &'a Deployment,
    folder: FolderName,
}

impl Application<'_> {
    /// Whether this Deployment's application is there, as far as is known.
    fn check(&self, host: &str) -> Result<(), ApiError> {
        let project = &self.deployment.spec.project_ref.name;
        let facts = match self.hosts.last_check(self.namespace, self.group, host).0 {
            HostCheck::Facts(facts) => facts,
            HostCheck::Unknown => {
                return Err(ApiError::unavailable(format!("host {host} was not asked yet"), AGAIN_SECONDS));
            }
            HostCheck::Failed(failure) => {
                let why = format!("host {host} is not connected: {}: {}", failure.reason, failure.message);
                return Err(ApiError::unavailable(why, AGAIN_SECONDS));
            }
        };
        let owner = facts.folders.get(&self.folder).and_then(|folder| folder.owner.as_ref());
        match owner {
            Some(owner) if Some(&owner.uid) == self.deployment.metadata.uid.as_ref() => Ok(()),
            Some(owner) => Err(ApiError::conflict(format!(
                "what runs of project {project} on host {host} belongs to Deployment {}/{}, not to {}/{}",
                owner.namespace,
                owner.deployment,
                self.namespace,
                self.deployment.name_any()
            ))),
            None => Err(ApiError::not_found(format!(
                "Deployment {} has no application on host {host}: nothing of project {project} was deployed there",
                self.deployment.name_any()
            ))),
        }
    }

    /// Opens the log on one host, with a permit for its reader.
    async fn open(
        &self,
        view: &View,
        host: &str,
        part: LogPart,
        user: &str,
    ) -> Result<(LogStream, ReaderPermit), ApiError> {
        self.check(host)?;
        let of_host = format!("{}/{}/{host}", self.namespace, self.group);
        let permit = view.application_permits.take_on_host(user, of_host)?;
        let opening = self.hosts.log(self.namespace, self.group, host, self.folder.clone(), part);
        let stream = opening.await.map_err(|error| self.problem(host, &error))?;
        Ok((stream, permit))
    }

    fn problem(&self, host: &str, error: &NoLog) -> ApiError {
        match error {
            NoLog::Host(ProgramError::Refused(Refusal::NotFound { .. })) => ApiError::not_found(format!(
                "the application of Deployment {} on host {host} has no log: it was not started there yet; follow=true waits for it",
                self.deployment.name_any()
            )),
            NoLog::Host(ProgramError::Refused(Refusal::BadInput { why, .. })) => {
                ApiError::too_many(format!("host {host} gives no further log: {why}"), AGAIN_SECONDS)
            }
            NoLog::Host(error @ ProgramError::TooLate { .. }) => {
                ApiError::unavailable(format!("the log on host {host} can't be read now: {error}"), AGAIN_SECONDS)
            }
            NoLog::Host(error) if error.ends_session() => {
                ApiError::unavailable(format!("host {host} is not connected: {error}"), AGAIN_SECONDS)
            }
            NoLog::Host(error) => ApiError::conflict(format!("the log on host {host} can't be read: {error}")),
            NoLog::NotConnected(_) => ApiError::unavailable(format!("host {host}: {error}"), AGAIN_SECONDS),
        }
    }
}

/// The host that was named, or all that the Deployment selects or still has.
fn wanted(application: &Application<'_>, group: &HostGroup, host: Option<&str>) -> Result<Vec<String>, ApiError> {
    let Application { group: group_name, deployment, .. } = application;
    if let Some(host) = host {
        let is_known = group.spec.hosts.iter().any(|one| one.name == host);
        let unknown = || ApiError::not_found(format!("the HostGroup {group_name:?} has no host {host:?}"));
        return if is_known { Ok(vec![host.to_owned()]) } else { Err(unknown()) };
    }
    // A selection that can't be carried out changes nothing of what runs.
    let selected = select(deployment.spec.hosts.as_ref(), &group.spec.hosts).unwrap_or_default();
    let selected: BTreeSet<&str> = selected.into_iter().map(|host| host.name.as_str()).collect();
    let is_wanted = |host: &&String| selected.contains(host.as_str()) || application.check(host).is_ok();
    let wanted: Vec<String> = group.spec.hosts.iter().map(|host| &host.name).filter(is_wanted).cloned().collect();
    match wanted.len() {
        0 => Err(ApiError::not_found(format!("Deployment {} has no host", deployment.name_any()))),
        1..=HOSTS_MAX => Ok(wanted),
        many => Err(ApiError::bad_request(format!(
            "Deployment {} has {many} hosts, and {HOSTS_MAX} are read together at most; name one with host",
            deployment.name_any()
        ))),
    }
}

/// No host can be read: the error of one, or of all.
fn nothing(mut refused: Vec<(&String, ApiError)>) -> ApiError {
    // What may pass first: who asks again may be answered.
    refused.sort_by_key(|(_, error)| std::cmp::Reverse(error.code));
    let others: Vec<&str> = refused.iter().map(|(_, error)| error.message.as_str()).collect();
    let message = others.join("; ");
    let mut first = refused.into_iter().next().map_or_else(|| ApiError::not_found("no host"), |(_, error)| error);
    first.message = message;
    first
}

/// One host's text as it comes.
fn one_body(opened: Opened) -> Body {
    Body::from_stream(futures::stream::try_unfold(Some(opened), |opened| async {
        let Some(mut opened) = opened else { return Ok::<_, io::Error>(None) };
        loop {
            match opened.next().await? {
                Some(shown) if shown.is_empty() => {}
                Some(shown) => return Ok(Some((shown, Some(opened)))),
                None => return Ok(Some((opened.lines.finish().into(), None))),
            }
        }
    }))
}

impl Opened {
    /// What may be shown next, perhaps nothing; `None`: nothing more comes.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let next = self.stream.next().await.map_err(io::Error::other)?;
        Ok(next.map(|bytes| self.lines.push(&bytes).into()))
    }
}

/// The lines of several hosts as they come, `notes` first. Hosts whose connection is lost are named; the answer is cut at its end then.
fn merged_body(notes: Vec<u8>, opened: Vec<Opened>) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES);
    let mut pumps = JoinSet::new();
    for one in opened {
        pumps.spawn(pump(one, sender.clone()));
    }
    drop(sender);
    let notes = (!notes.is_empty()).then(|| Bytes::from(notes));
    let state = Merged { notes, receiver, pumps };
    Body::from_stream(futures::stream::try_unfold(state, |mut merged| async {
        Ok::<_, io::Error>(merged.next().await?.map(|bytes| (bytes, merged)))
    }))
}

/// Its pumps, and with them the logs, end when it is dropped.
struct Merged {
    notes: Option<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
    pumps: JoinSet<io::Result<()>>,
}

impl Merged {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(notes) = self.notes.take() {
            return Ok(Some(notes));
        }
        if let Some(bytes) = self.receiver.recv().await {
            return Ok(Some(bytes));
        }
        while let Some(ended) = self.pumps.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(None)
    }
}

/// Hands on what a host says, no faster than the reader takes it.
async fn pump(mut opened: Opened, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    loop {
        let next = opened.next().await;
        let shown = match &next {
            Ok(Some(shown)) => shown.clone(),
            Ok(None) => opened.lines.finish().into(),
            Err(error) => opened.lines.note(&format!("the log is cut here: {error}")).into(),
        };
        // The reader is gone.
        if !shown.is_empty() && sender.send(shown).await.is_err() {
            return Ok(());
        }
        if !matches!(next, Ok(Some(_))) {
            return next.map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_refused_by_name() {
        let read = Query::read(Some("host=web-01&follow&tail=10&since=90s")).unwrap();
        assert_eq!(read.host.as_deref(), Some("web-01"));
        assert_eq!(read.part, LogPart { last_lines: Some(10), since_seconds: Some(90), follow: true });
        assert_eq!(Query::read(Some("since=1h30m")).unwrap().part.since_seconds, Some(5400));
        assert_eq!(Query::read(Some("since=1.5s")).unwrap().part.since_seconds, Some(2));
        for (bad, word) in [
            ("since=12", "since"),
            ("since=-1m", "since"),
            ("since=0s", "since"),
            ("tail=-1", "tail"),
            ("attempt=1", "attempt"),
        ] {
            let refused = Query::read(Some(bad)).unwrap_err();
            assert!(refused.message.contains(word) && refused.code == 400, "{refused:?}");
        }
    }
}
