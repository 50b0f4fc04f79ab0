//! `landfall wait KIND/NAME`, and `--wait` of the commands that ask for something.

use std::time::Instant;

use super::{
    cluster::{Cluster, ClusterArgs, SILENCE_MAX},
    error::{CliError, ExitStatus},
    follow::{Follower, Until, deadline},
    object::{self, Kind},
    output,
    state::{State, Verdict},
};
use crate::model::text::for_terminal;

/// Wait until an object is ready or failed
///
/// The verdict is about the current spec: the state before a change is not taken for its result. Each change on the way is a line on
/// standard error.
///
/// Exit code: 0 ready, 1 failed, 2 no answer (usage, no cluster, no such object, no right), 3 the time is over.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Object, such as deployment/hello or build/hello-1; a project or hostgroup works as well
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Give up after this time, such as 90s or 10m, with exit code 3 [default: never]
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// Options of a command that can wait for what it asks for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WaitOptions {
    /// Wait until the operator has done it: exit code 0 ready, 1 failed, 3 the time is over
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this time, such as 90s or 10m, with exit code 3 [default: never]
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub timeout: Option<String>,
}

/// Prints the verdict on stdout, and what happens until then on stderr.
pub async fn wait(args: WaitArgs) -> Result<ExitStatus, CliError> {
    let (kind, name) = object::required(&args.object, &Kind::ALL)?;
    let deadline = deadline(args.timeout.as_deref())?;
    let cluster = args.cluster.connect(Some(SILENCE_MAX)).await?;
    wait_for(&cluster, kind, name, Until::Decided, deadline).await
}

impl WaitOptions {
    /// End of the wait. A bad `--timeout` is refused before anything is written.
    pub(super) fn deadline(&self) -> Result<Option<Instant>, CliError> {
        deadline(self.timeout.as_deref())
    }
}

pub(super) async fn wait_for(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    until: Until,
    deadline: Option<Instant>,
) -> Result<ExitStatus, CliError> {
    let mut follower = Follower::new(cluster, kind, name, until, deadline);
    let mut last = None;
    loop {
        let seen = follower.next().await?;
        if seen.is_last {
            return end(kind, name, &seen.verdict);
        }
        if last.as_ref() != Some(&seen.verdict) {
            eprint!("{}", for_terminal(&summary(kind, name, &seen.verdict)));
        }
        last = Some(seen.verdict);
    }
}

fn end(kind: Kind, name: &str, verdict: &Verdict) -> Result<ExitStatus, CliError> {
    let text = for_terminal(&summary(kind, name, verdict));
    if verdict.state == State::InProgress {
        eprint!("landfall: the time is over; {text}");
    } else {
        output::print(&text)?;
    }
    Ok(verdict.state.exit())
}

/// One line, however many the message has.
fn summary(kind: Kind, name: &str, verdict: &Verdict) -> String {
    let message = verdict.message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}: {}: {}: {message}\n", kind.object(name), verdict.state.words(), verdict.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_line_whatever_its_message() {
        let verdict = Verdict {
            state: State::Failed,
            reason: "HostsFailed".into(),
            message: "v2 failed on web-01;\n  exit code 1\n".into(),
            observed: true,
        };
        assert_eq!(
            summary(Kind::Deployment, "web", &verdict),
            "deployment/web: failed, needs action: HostsFailed: v2 failed on web-01; exit code 1\n"
        );
    }
}
