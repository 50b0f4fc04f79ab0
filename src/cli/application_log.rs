//! `landfall logs app`: what the applications of a Deployment print on their hosts. A place in such a log has no number (it is rotated on the
//! host), so a connection that breaks is not resumed without a gap: it is made again with what comes from then on, and that is said.

use std::time::Duration;

use http_body_util::BodyExt;

use super::{
    cluster::ClusterArgs,
    error::{CliError, ExitStatus, from_kube},
    object::{self, Kind},
    output::write,
    view::{RetryBudget, ViewClient},
};
use crate::{api::view::path, effects::plain::Plain};

/// Time for which an operator or a host that does not answer is waited for.
const OUTAGE_MAX: Duration = Duration::from_secs(5);
const OUTAGE_MAX_FOLLOWING: Duration = Duration::from_secs(600);

/// Show what the applications of a Deployment print on their hosts
///
/// With several hosts each line begins with the name of its host. Rotated files are part of the log. It takes a right of its own: get on
/// applications/log of the API group view.landfall.dev.
///
/// Exit code: 0 with the log, 2 without an answer (usage, no cluster, no such object, no right, a host that is not connected).
#[derive(Debug, Clone, clap::Args)]
pub struct ApplicationLogArgs {
    /// Deployment: deployment/NAME or NAME
    #[arg(value_name = "deployment/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Show only this host [default: all hosts of the Deployment, 32 at most]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Follow the log until it is interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last N lines of each host
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
    /// Show only what was written in this time: 90s, 10m, 1h30m; whole files of the log are left out, so it may begin earlier
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
}

/// Prints the log on stdout, and notes about it on stderr.
pub async fn application_log(args: ApplicationLogArgs) -> Result<ExitStatus, CliError> {
    let name = object::name_of(Kind::Deployment, &args.object).ok_or_else(|| CliError::BadName {
        object: args.object.clone(),
        wanted: "deployment/NAME; `kubectl get lfd` lists them".into(),
    })?;
    let client = ViewClient::for_logs(&args.cluster).await?;
    let path = path(&client.cluster.namespace, "applications", name, "log");
    let length = if args.follow { OUTAGE_MAX_FOLLOWING } else { OUTAGE_MAX };
    let (mut plain, mut out) = (Plain::default(), tokio::io::stdout());
    let mut budget = RetryBudget::of(length);
    let mut is_first = true;
    loop {
        let mut answer = client.get(&request_path(&path, &args, is_first), &mut budget).await?;
        if !std::mem::replace(&mut is_first, false) {
            eprintln!("landfall: connected again; lines that were written in between are not shown");
        }
        let cut = loop {
            match answer.body.frame().await {
                None => {
                    write(&mut out, &plain.finish()).await?;
                    return Ok(ExitStatus::Done);
                }
                Some(Err(error)) => break from_kube(error, &client.cluster.address),
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    write(&mut out, &plain.push(&bytes)).await?;
                    budget = RetryBudget::of(length);
                }
            }
        };
        // What was shown is not to be shown twice.
        if !args.follow {
            return Err(cut);
        }
        budget.wait(cut, None).await?;
    }
}

fn request_path(path: &str, args: &ApplicationLogArgs, is_first: bool) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(host) = &args.host {
        query.append_pair("host", host);
    }
    if args.follow {
        query.append_pair("follow", "true");
    }
    match (is_first, args.tail, &args.since) {
        (true, tail, since) => {
            tail.map(|tail| query.append_pair("tail", &tail.to_string()));
            since.as_ref().map(|since| query.append_pair("since", since));
        }
        (false, ..) => _ = query.append_pair("tail", "0"),
    }
    format!("{path}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_first_is_not_asked_for_again() {
        let args = ApplicationLogArgs {
            object: "lfd/web".into(),
            cluster: ClusterArgs::default(),
            host: Some("web-01".into()),
            follow: true,
            tail: Some(10),
            since: Some("1h".into()),
        };
        assert_eq!(request_path("/p", &args, true), "/p?host=web-01&follow=true&tail=10&since=1h");
        assert_eq!(request_path("/p", &args, false), "/p?host=web-01&follow=true&tail=0");
    }
}
