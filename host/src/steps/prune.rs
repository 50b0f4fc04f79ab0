//! `prune`: removes the oldest releases until few enough are left. What runs, what `current` points at and what is to be kept stays; so
//! does what can't be removed.

use std::{io, path::PathBuf, time::SystemTime};

use landfall_host_protocol::{ConfigHash, FolderFacts, ReleaseName, Step};

use super::{Context, Done, staged, switch};
use crate::{failure::StepResult, files, folder::Folder, gate, runtime};

pub(super) fn prune(context: &Context<'_>, keep: &[ReleaseName], at_most: usize) -> StepResult<Done> {
    let folder = context.folder;
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    let mut kept: Vec<ReleaseName> = keep.to_vec();
    kept.extend(switch::current(folder));
    if let Some(process) = facts.process {
        collect_configurations(context, process.config.as_ref());
        kept.push(process.release);
    }

    let staged: Vec<ReleaseName> = staged::list(folder).into_iter().map(|(name, _)| name).collect();
    let (kept, mut others): (Vec<_>, Vec<_>) = staged.iter().cloned().partition(|name| kept.contains(name));
    others.sort_by_key(|name| std::cmp::Reverse((staged::number(folder, name), staged_at(folder, name))));
    let surplus = others.split_off(at_most.saturating_sub(kept.len()).min(others.len()));
    // Folders without a record are what is left of a stage or of a prune that died.
    let left_over = in_folder(folder).into_iter().filter(|name| !staged.contains(name) && !kept.contains(name));
    let surplus: Vec<ReleaseName> = surplus.into_iter().chain(left_over).collect();
    if surplus.is_empty() {
        return Ok(Done::Skipped);
    }
    for name in &surplus {
        if let Err(error) = remove(folder, name) {
            context.progress(format!("{name} can't be removed: {error}"));
        }
    }
    Ok(Done::Ended)
}

/// Configurations of applications that are gone, which may hold secret values, go; what runs and what this task starts is kept.
fn collect_configurations(context: &Context<'_>, running: Option<&ConfigHash>) {
    let folder = context.folder;
    let started = context.task.steps.iter().filter_map(|step| match step {
        Step::Start(start) => Some(&start.config.hash),
        _ => None,
    });
    let kept: Vec<&ConfigHash> = started.chain(running).collect();
    runtime::configuration::keep_only(folder, &kept);
}

fn remove(folder: &Folder, name: &ReleaseName) -> io::Result<()> {
    staged::forget(folder, name)?;
    let gone = folder.dot().join("tmp").join(format!("gone.{name}"));
    if std::fs::symlink_metadata(folder.release(name)).is_ok() {
        gate::pass("release.setAside", || {
            files::create_folder(&folder.dot().join("tmp"), 0o700)?;
            files::remove_below(folder.root(), &gone)?;
            files::rename(&folder.release(name), &gone)?;
            files::sync_dir(&folder.releases())
        })?;
    }
    gate::pass("release.remove", || files::remove_below(folder.root(), &gone))
}

/// Orders those that an earlier program staged.
fn staged_at(folder: &Folder, name: &ReleaseName) -> Option<SystemTime> {
    let changed = |path: PathBuf| std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
    changed(folder.staged(name)).or_else(|| changed(folder.release(name)))
}

fn in_folder(folder: &Folder) -> Vec<ReleaseName> {
    let entries = std::fs::read_dir(folder.releases()).into_iter().flatten().flatten();
    entries.filter_map(|entry| ReleaseName::parse(entry.file_name().to_str()?)).collect()
}
