//! `landfall retry build/NAME` and its like: what a person does, as against what shall be. Each command writes one annotation, which the operator
//! acts on; a verb that would do nothing to the object as it is now is refused.

use serde_json::{Value, json};

use super::{
    applicable::Asked,
    cluster::{ClusterArgs, SILENCE_MAX},
    error::{CliError, ExitStatus},
    follow::Until,
    object::{self, Kind},
    output,
    stamp::Stamp,
    wait::{WaitOptions, wait_for},
};
use crate::{effects::clock, model::text::for_terminal};

#[derive(Debug, Clone, clap::Subcommand)]
pub enum VerbCommand {
    /// Try again: a failed Build, or the failed and never-tried hosts of a Deployment
    Retry {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// Deploy the version of a Deployment again, on all selected hosts
    Redeploy {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// Let the next retry of a Deployment update hosts whose drain failed without it
    SkipDrain {
        #[command(flatten)]
        target: Target,
        /// Why; it is kept with the rollout and shown
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Take over hosts of a Deployment that another control plane, or a later state of this one, acted on
    Adopt {
        #[command(flatten)]
        target: Target,
        /// Id of the control plane, as the message of the Deployment shows it
        #[arg(value_name = "CONTROL-PLANE-ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        control_plane_id: String,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// Look now: fetch the repository of a Project, or check every host of a HostGroup
    Refresh {
        #[command(flatten)]
        target: Target,
    },
    /// Take hosts of a HostGroup out of service: neither updated nor healed; what runs there is left alone
    Suspend {
        #[command(flatten)]
        target: Target,
        /// Hosts to take out of service
        #[arg(value_name = "HOST", required = true, value_delimiter = ',')]
        hosts: Vec<String>,
        /// Why; `landfall status hostgroup/NAME` shows it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// Pause the rollout of a Deployment: hosts under way finish, and no other begins
    Pause {
        #[command(flatten)]
        target: Target,
        /// Why; it is shown as long as the pause lasts
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Let all other hosts of a Deployment follow its canary
    Promote {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// End the rollout of a Deployment where it is: hosts under way finish, and no other begins; a retry goes on with it
    Abort {
        #[command(flatten)]
        target: Target,
    },
    /// End the pause of a Deployment, or put suspended hosts of a HostGroup back into service
    Resume {
        #[command(flatten)]
        target: Target,
        /// Hosts to put back into service; of a HostGroup only
        #[arg(value_name = "HOST", value_delimiter = ',')]
        hosts: Vec<String>,
        #[command(flatten)]
        waiting: WaitOptions,
    },
}

/// Object of a verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Object, such as deployment/hello
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What one command writes.
struct Request<'a> {
    target: &'a Target,
    /// Kinds that have the verb.
    kinds: &'static [Kind],
    asked: Asked<'a>,
    write: Write,
    waiting: Option<&'a WaitOptions>,
}

/// The annotation of a request.
enum Write {
    /// A value that has to be a new one. The character means nothing and makes it so; where every character means something, there is none.
    Stamp(String, Option<char>),
    /// A value that names the rollout and its attempt; `/` behind it makes it a new one.
    RolloutAttempt,
    /// A value that is in force while it is there.
    InForce(String),
    /// The end of such a one.
    Removal,
}

/// Writes the annotation, prints what was asked for and how to watch it, and waits where that is wanted.
pub async fn verb(command: VerbCommand) -> Result<ExitStatus, CliError> {
    run(request(&command)?).await
}

fn request(command: &VerbCommand) -> Result<Request<'_>, CliError> {
    let now = || Write::Stamp(clock::now().to_string(), Some('+'));
    Ok(match command {
        VerbCommand::Retry { target, waiting } => Request {
            target,
            kinds: &[Kind::Build, Kind::Deployment],
            asked: Asked::Retry,
            write: now(),
            waiting: Some(waiting),
        },
        VerbCommand::Redeploy { target, waiting } => {
            Request { target, kinds: &[Kind::Deployment], asked: Asked::Redeploy, write: now(), waiting: Some(waiting) }
        }
        VerbCommand::SkipDrain { target, reason } => Request {
            target,
            kinds: &[Kind::Deployment],
            asked: Asked::SkipDrain,
            write: Write::Stamp(reason.clone(), Some(' ')),
            waiting: None,
        },
        VerbCommand::Adopt { target, control_plane_id, waiting } => Request {
            target,
            kinds: &[Kind::Deployment],
            asked: Asked::Adopt(control_plane_id),
            write: Write::Stamp(control_plane_id.clone(), None),
            waiting: Some(waiting),
        },
        VerbCommand::Refresh { target } => Request {
            target,
            kinds: &[Kind::Project, Kind::HostGroup],
            asked: Asked::Refresh,
            write: now(),
            waiting: None,
        },
        VerbCommand::Suspend { target, hosts, reason, waiting } => Request {
            target,
            kinds: &[Kind::HostGroup],
            asked: Asked::Suspend(hosts),
            write: Write::Stamp(
                hosts_and_reason(hosts, reason.as_deref()),
                Some(if reason.is_some() { ' ' } else { ',' }),
            ),
            waiting: Some(waiting),
        },
        VerbCommand::Pause { target, reason } => Request {
            target,
            kinds: &[Kind::Deployment],
            asked: Asked::Pause,
            write: Write::InForce(reason.clone()),
            waiting: None,
        },
        VerbCommand::Promote { target, waiting } => Request {
            target,
            kinds: &[Kind::Deployment],
            asked: Asked::Promote,
            write: Write::RolloutAttempt,
            waiting: Some(waiting),
        },
        VerbCommand::Abort { target } => Request {
            target,
            kinds: &[Kind::Deployment],
            asked: Asked::Abort,
            write: Write::RolloutAttempt,
            waiting: None,
        },
        VerbCommand::Resume { target, hosts, waiting } => {
            let (kind, _) = object::required(&target.object, &[Kind::Deployment, Kind::HostGroup])?;
            match (kind, hosts.is_empty()) {
                (Kind::Deployment, true) => Request {
                    target,
                    kinds: &[Kind::Deployment],
                    asked: Asked::Unpause,
                    write: Write::Removal,
                    waiting: Some(waiting),
                },
                (Kind::Deployment, false) => {
                    return Err(CliError::Usage("a Deployment is resumed as a whole: leave the hosts out"));
                }
                (_, true) => {
                    return Err(CliError::Usage(
                        "name the hosts to put back into service; `landfall status hostgroup/NAME` shows those that are suspended",
                    ));
                }
                (_, false) => Request {
                    target,
                    kinds: &[Kind::HostGroup],
                    asked: Asked::Resume(hosts),
                    write: Write::Stamp(hosts_and_reason(hosts, None), Some(',')),
                    waiting: Some(waiting),
                },
            }
        }
    })
}

fn hosts_and_reason(hosts: &[String], reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!("/{}", reason.trim())).unwrap_or_default();
    format!("{}{reason}", hosts.join(","))
}

async fn run(request: Request<'_>) -> Result<ExitStatus, CliError> {
    let Request { target, kinds, asked, write, waiting } = request;
    let (kind, name) = object::required(&target.object, kinds)?;
    let object = kind.object(name);
    let deadline = waiting.map(WaitOptions::deadline).transpose()?.flatten();
    let cluster = target.cluster.connect(Some(SILENCE_MAX)).await?;
    let current = cluster.get(kind, name).await?;
    if let Some(refusal) = asked.refusal(kind, &object, &current) {
        return Err(CliError::NotApplicable(refusal));
    }
    let stamp = |value, filler| {
        let stamp = Stamp::new(asked.verb(), value, filler, &current);
        stamp.ok_or_else(|| CliError::NotApplicable(asked_before(kind, name, asked, &cluster.namespace)))
    };
    let (patch, until) = match write {
        Write::Stamp(value, filler) => {
            let stamp = stamp(value, filler)?;
            (stamp.patch(), until(asked, stamp))
        }
        Write::RolloutAttempt => {
            let stamp = stamp(rollout_attempt(&current), Some('/'))?;
            (stamp.patch(), until(asked, stamp))
        }
        Write::InForce(value) => (annotation(asked.verb(), Some(&value)), Until::Decided),
        Write::Removal => (annotation(asked.verb(), None), Until::Decided),
    };
    cluster.merge(kind, name, &patch).await?;
    let options = target.cluster.repeated(&cluster.namespace);
    output::print(&for_terminal(&format!("{object}: {}\n", words(asked, kind, &object, &options))))?;
    match waiting.is_some_and(|waiting| waiting.wait) {
        true => wait_for(&cluster, kind, name, until, deadline).await,
        false => Ok(ExitStatus::Done),
    }
}

fn until(asked: Asked<'_>, stamp: Stamp) -> Until {
    match asked {
        Asked::Suspend(_) | Asked::Resume(_) => Until::Handled(stamp),
        _ => Until::DecidedAfter(stamp),
    }
}

fn annotation(name: &str, value: Option<&str>) -> Value {
    json!({ "metadata": { "annotations": { name: value } } })
}

/// The value that names the current attempt of the current rollout.
fn rollout_attempt(deployment: &Value) -> String {
    let rollout = &deployment["status"]["rollout"];
    format!("{}.{}", rollout["id"].as_str().unwrap_or_default(), rollout["attempt"])
}

/// What was asked for, and how to go on.
fn words(asked: Asked<'_>, kind: Kind, object: &str, options: &str) -> String {
    let watch = format!("To watch it: landfall status {options} {object} --watch");
    match asked {
        Asked::Retry if kind == Kind::Build => {
            format!("another attempt is asked for. To follow it: landfall logs {options} {object} -f")
        }
        Asked::Retry => format!("another attempt on its failed and never-tried hosts is asked for. {watch}"),
        Asked::Redeploy => format!("its version is asked for again, on all selected hosts. {watch}"),
        Asked::SkipDrain => {
            format!(
                "the next retry updates hosts whose drain failed without it. To start it: landfall retry {options} {object}"
            )
        }
        Asked::Adopt(id) => format!("taking over hosts from control plane {id} is asked for. {watch}"),
        Asked::Refresh if kind == Kind::Project => {
            format!("a fetch is asked for. To see what it finds: landfall status {options} {object}")
        }
        Asked::Refresh => format!("a check of every host is asked for. To see them: landfall hosts {options} {object}"),
        Asked::Suspend(hosts) => format!(
            "{} to be taken out of service; what runs there is left alone. To put back: landfall resume {options} {object} {}",
            hosts.join(", "),
            hosts.join(" ")
        ),
        Asked::Pause => {
            format!("hosts under way finish, and no other begins. To go on: landfall resume {options} {object}")
        }
        Asked::Promote => format!("all other hosts follow the canary. {watch}"),
        Asked::Unpause => format!("its pause has ended. {watch}"),
        Asked::Abort => {
            format!("hosts under way finish, and no other begins. To go on with it: landfall retry {options} {object}")
        }
        Asked::Resume(hosts) => {
            format!(
                "{} to be put back into service. To see the group: landfall status {options} {object}",
                hosts.join(", ")
            )
        }
    }
}

/// The annotation has this very value already, and no other one means the same.
fn asked_before(kind: Kind, name: &str, asked: Asked<'_>, namespace: &str) -> String {
    let (verb, object) = (asked.verb(), kind.object(name));
    format!(
        "{object} was asked for this before: a verb acts on a value that differs from the last one. To ask once more, set another value, wait \
         until status.lastHandled of {object} has it, and run the command again: kubectl -n {namespace} annotate --overwrite {}.landfall.dev/{name} \
         {verb}=none",
        kind.plural()
    )
}
