//! `landfall status KIND/NAME`: one object on one screen, and its state as an exit code.

use std::{io::IsTerminal, time::Instant};

use kube::Api;
use serde_json::Value;

use super::{
    cluster::{Cluster, ClusterArgs, SILENCE_MAX},
    error::{CliError, ExitStatus},
    follow::{Follower, Seen, Until, deadline},
    object::{self, Kind},
    output::{self, Format},
    screen,
    state::{to_json, verdict},
};
use crate::{
    api::{Deployment, HostGroup},
    effects::clock,
    model::text::for_terminal,
};

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
    let (kind, name) = object::required(&args.object, &Kind::ALL)?;
    let deadline = deadline(args.timeout.as_deref())?;
    let cluster = args.cluster.connect(Some(SILENCE_MAX)).await?;
    if args.watch {
        return watch(&cluster, kind, name, deadline, args.output).await;
    }
    let object = cluster.get(kind, name).await?;
    show(&cluster, kind, &object, args.output).await?;
    Ok(verdict(&object).state.exit())
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
    let mut follower = Follower::new(cluster, kind, name, Until::Decided, deadline);
    let mut last = None;
    loop {
        let Seen { object, verdict, is_last } = follower.next().await?;
        if terminal {
            output::print(CLEAR)?;
        }
        if terminal || is_last {
            show(cluster, kind, &object, output).await?;
        } else if output.is_none() && last.as_ref() != Some(&verdict) {
            let text = format!("{}: {}: {}\n", verdict.state.words(), verdict.reason, verdict.message);
            output::print(&for_terminal(&text))?;
        }
        if is_last {
            return Ok(verdict.state.exit());
        }
        last = Some(verdict);
    }
}

/// Cursor to the top left, and the rest of the screen empty.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

async fn show(cluster: &Cluster, kind: Kind, object: &Value, output: Option<Format>) -> Result<(), CliError> {
    match output {
        Some(format) => output::print_value(format, &to_json(kind.name(), object)),
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
