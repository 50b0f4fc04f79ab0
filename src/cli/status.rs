//! `landfall status KIND/NAME`: one object on one screen, and its state as an exit code.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use kube::Api;
use serde_json::Value;

use super::{
    cluster::{Cluster, ClusterArgs},
    error::{CliError, ExitStatus},
    object::{self, Kind},
    output::{self, Format},
    screen,
    state::{State, to_json, verdict},
};
use crate::{
    api::{Deployment, HostGroup},
    effects::clock,
    model::text::for_terminal,
};

/// Interval at which `--watch` reads the object.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which `--watch` waits for an API server that does not answer.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// Timeout of one answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Show an object on one screen: its state, and for a Deployment its hosts, versions, rollout and history
///
/// Exit code: 0 ready, 1 failed, 2 no answer (usage, no cluster, no such object, no right), 3 in progress.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Object, such as deployment/hello; a project, build or hostgroup works as well
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Output format [default: the screen]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Follow until the object is ready or failed, as `kubectl rollout status` does
    #[arg(short, long)]
    pub watch: bool,
    /// Give up watching after this time, such as 90s or 10m, with exit code 3 [default: never]
    #[arg(long, value_name = "DURATION", requires = "watch")]
    pub timeout: Option<String>,
}

/// Prints the screen on stdout.
pub async fn status(args: StatusArgs) -> Result<ExitStatus, CliError> {
    let wanted = "project/NAME, build/NAME, hostgroup/NAME or deployment/NAME; `kubectl get landfall` lists them";
    let (kind, name) =
        object::parse(&args.object).ok_or_else(|| CliError::BadName { object: args.object.clone(), wanted })?;
    let deadline = deadline(args.timeout.as_deref())?;
    let cluster = args.cluster.connect(Some(SILENCE_MAX)).await?;
    if args.watch {
        return watch(&cluster, kind, name, deadline, args.output).await;
    }
    let object = cluster.get(kind, name).await?;
    show(&cluster, kind, &object, args.output).await?;
    Ok(verdict(&object).state.exit())
}

fn deadline(timeout: Option<&str>) -> Result<Option<Instant>, CliError> {
    let Some(value) = timeout else { return Ok(None) };
    let bad = || CliError::BadTimeout { value: value.to_owned() };
    let duration: jiff::SignedDuration = value.parse().map_err(|_| bad())?;
    let duration = Duration::try_from(duration).map_err(|_| bad())?;
    Ok(Some(clock::monotonic() + duration))
}

/// Follows the object. A terminal gets the screen again whenever it changes; a file gets one line a change, and the screen at the end; JSON is
/// printed once, at the end.
async fn watch(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    deadline: Option<Instant>,
    output: Option<Format>,
) -> Result<ExitStatus, CliError> {
    let terminal = output.is_none() && std::io::stdout().is_terminal();
    let mut last = None;
    let mut answered = clock::monotonic();
    loop {
        let timed_out = deadline.is_some_and(|deadline| clock::monotonic() >= deadline);
        match cluster.get(kind, name).await {
            Ok(object) => {
                answered = clock::monotonic();
                let verdict = verdict(&object);
                if verdict.state != State::InProgress || timed_out {
                    if terminal {
                        output::print(CLEAR)?;
                    }
                    show(cluster, kind, &object, output).await?;
                    return Ok(verdict.state.exit());
                }
                let changed = last.as_ref() != Some(&verdict);
                if terminal {
                    output::print(CLEAR)?;
                    show(cluster, kind, &object, output).await?;
                } else if changed && output.is_none() {
                    let text = format!("{}: {}: {}\n", verdict.state.words(), verdict.reason, verdict.message);
                    output::print(&for_terminal(&text))?;
                }
                last = Some(verdict);
            }
            Err(CliError::Unreachable { .. }) if !timed_out && answered.elapsed() < OUTAGE_MAX => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Cursor to the top left, and the rest of the screen empty.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

async fn show(cluster: &Cluster, kind: Kind, object: &Value, output: Option<Format>) -> Result<(), CliError> {
    match output {
        Some(Format::Json) => output::print_json(&to_json(kind.name(), object)),
        None => output::print(&text(cluster, kind, object).await),
    }
}

async fn text(cluster: &Cluster, kind: Kind, object: &Value) -> String {
    let now = clock::now();
    let shown = match kind {
        Kind::Project => parse(object).map(|typed| screen::project(object, &typed, now)),
        Kind::Build => parse(object).map(|typed| screen::build(object, &typed, now)),
        Kind::HostGroup => parse(object).map(|typed| screen::hostgroup(object, &typed, now)),
        Kind::Deployment => match parse::<Deployment>(object) {
            Ok(typed) => {
                // Without the right to read the group, or without a group, the screen lacks its host names.
                let groups = Api::<HostGroup>::namespaced(cluster.client.clone(), &cluster.namespace);
                let group = groups.get_opt(&typed.spec.host_group_ref.name).await.ok().flatten();
                Ok(screen::deployment(object, &typed, group.as_ref(), now))
            }
            Err(error) => Err(error),
        },
    };
    shown.unwrap_or_else(|error| screen::unreadable(kind.name(), object, &error.to_string()))
}

fn parse<K: serde::de::DeserializeOwned>(object: &Value) -> Result<K, serde_json::Error> {
    K::deserialize(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_duration_or_a_usage_error() {
        assert!(deadline(None).unwrap().is_none());
        for good in ["90s", "10m", "1h"] {
            assert!(deadline(Some(good)).unwrap().is_some(), "{good}");
        }
        for bad in ["soon", "-5s", ""] {
            assert!(deadline(Some(bad)).is_err(), "{bad}");
        }
    }
}
