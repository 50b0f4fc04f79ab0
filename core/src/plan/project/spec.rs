//! What in a Project's spec can never work: reported by the Project itself, before a Build fails because of it.

use jiff::SignedDuration;

use crate::{
    api::{
        common::{bytes, seconds},
        project::ProjectSpec,
    },
    model::branch_patterns::BranchPatterns,
    plan::builds::{resources, template},
};

/// The first thing that is wrong, with its field and what is right.
pub(super) fn invalid(spec: &ProjectSpec) -> Option<String> {
    let checks = [source_interval, branches, triggers, tag_template, limits, caches, log_retention];
    checks.into_iter().find_map(|check| check(spec))
}

fn source_interval(spec: &ProjectSpec) -> Option<String> {
    let given = &spec.source.interval;
    interval(spec).is_none().then(|| {
        format!("source.interval {given:?} is not a valid interval: write for example 30s, 1m or 1h30m, at least 1s and at most a year")
    })
}

fn branches(spec: &ProjectSpec) -> Option<String> {
    let bad = BranchPatterns::parse(&spec.source.branches).err()?;
    Some(format!("source.branches: {bad}; write for example main or release/*"))
}

fn triggers(spec: &ProjectSpec) -> Option<String> {
    let bad = BranchPatterns::parse(&spec.build.trigger.as_ref()?.on_push).err()?;
    Some(format!("build.trigger.onPush: {bad}; write for example main or release/*"))
}

fn tag_template(spec: &ProjectSpec) -> Option<String> {
    Some(template::check(&spec.build.tag.template).err()?.to_string())
}

fn limits(spec: &ProjectSpec) -> Option<String> {
    resources::read(spec.build.resources.as_ref()).err()
}

fn caches(spec: &ProjectSpec) -> Option<String> {
    let bad = spec.build.caches.iter().find(|cache| bytes(&cache.max_bytes).is_none())?;
    Some(format!(
        "build.caches {}: maxBytes {:?} is not a valid size; write for example 500Mi or 5Gi",
        bad.name, bad.max_bytes
    ))
}

fn log_retention(spec: &ProjectSpec) -> Option<String> {
    let logs = &spec.retention.logs;
    if seconds(&logs.max_age).is_none() {
        return Some(format!("retention.logs.maxAge {:?} is no duration; write for example 12h or 90d", logs.max_age));
    }
    let bad = bytes(&logs.max_bytes).is_none();
    bad.then(|| {
        format!("retention.logs.maxBytes {:?} is not a valid size; write for example 500Ki or 5Gi", logs.max_bytes)
    })
}

/// `source.interval`, where it is an interval that can be kept.
pub(super) fn interval(spec: &ProjectSpec) -> Option<SignedDuration> {
    let seconds = seconds(&spec.source.interval).filter(|seconds| (1..=31_536_000).contains(seconds))?;
    Some(SignedDuration::from_secs(seconds))
}
