//! Rollouts by a real operator against a real API server and real hosts.

mod by_hand;
mod bytes;
mod failures;
mod held;
mod min_available;
mod operators;
mod order;
mod pins;
mod references;
mod run;
mod runtimes;
mod screen;
mod secrets;
mod systemd;

use std::time::Duration;

use crate::support::{
    names,
    rollout::{Bench, SERVES, WAITS, is, message},
    wait::{PATIENCE, find, until},
};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::ResourceExt;
use landfall::api::{
    Deployment, HostGroup,
    deployment::{HistoryChange, Phase, RolloutOutcome},
};
use serde_json::json;

fn exception<'a>(object: &'a Deployment, host: &str) -> Option<&'a landfall::api::deployment::RolloutException> {
    object.status.as_ref()?.exceptions.iter().find(|one| one.host == host)
}

async fn events(bench: &Bench, reason: &str) -> Vec<String> {
    let events =
        bench.space.api::<k8s_openapi::api::events::v1::Event>().list(&Default::default()).await.unwrap().items;
    events.into_iter().filter(|one| one.reason.as_deref() == Some(reason)).filter_map(|one| one.note).collect()
}

async fn eventually(what: &str, so: impl Fn() -> bool) {
    until(what, || async { so() }).await;
}
