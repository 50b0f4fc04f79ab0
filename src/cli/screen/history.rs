//! The history of one Deployment, by version.

use std::fmt::Write;

use jiff::Timestamp;

use super::{age, ago, changed, count, short};
use crate::{api::deployment::HistoryEntry, cli::history::OfVersion, model::text::for_terminal};

pub fn history(namespace: &str, name: &str, versions: &[OfVersion<'_>], now: Timestamp) -> String {
    let mut out = format!("History of Deployment {namespace}/{name}\n");
    for OfVersion { version, commit, rollouts } in versions {
        let _ = writeln!(out, "{version} ({})", short(commit));
        for entry in rollouts {
            let _ = writeln!(out, "  {}", rollout(entry, now));
        }
    }
    if versions.is_empty() {
        let _ = writeln!(out, "no rollout has begun");
    }
    for_terminal(&out)
}

fn rollout(entry: &HistoryEntry, now: Timestamp) -> String {
    let (started, outcome) = (entry.started_at.0, format!("{:?}", entry.outcome));
    let change = entry.change.map_or("", changed);
    let took = match &entry.completed_at {
        Some(completed) => format!("took {}", age(started, completed.0)),
        None => String::new(),
    };
    let failed = match usize::try_from(entry.failed_hosts).unwrap_or(0) {
        0 => String::new(),
        n => format!("  {} failed", count(n, "host")),
    };
    format!("#{:<4} {outcome:<12} {change:<26} {took:<9}  {}{failed}", entry.revision, ago(started, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::history::{by_version, tests::entries};

    #[test]
    fn each_version_shows_its_rollouts_with_what_changed_how_it_ended_and_how_long_it_took() {
        let entries = entries();
        let shown = history("shop", "web", &by_version(&entries), "2026-11-24T08:21:00Z".parse().unwrap());
        let expected = "\
History of Deployment shop/web
v1 (0123456789)
  #4    Progressing  new version                           60s ago
  #1    Superseded   new version                took 30s   21m ago
v2 (fedcba9876)
  #3    Failed       new environment            took 2m    11m ago  2 hosts failed
  #2    Succeeded    new version                took 40s   16m ago
";
        assert_eq!(shown, expected);
        assert!(history("shop", "web", &[], Timestamp::UNIX_EPOCH).ends_with("no rollout has begun\n"));
    }
}
