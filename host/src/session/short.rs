//! What is left out where the facts of a host are longer than a frame, the least wanted first: an application that leaves thousands of
//! processes or writes long lines must not make its host unmanageable. The records keep all of it.

use landfall_host_protocol::{Answer, FolderFacts};

/// Each leaves out more than the one before.
pub(super) const SHORTER: [fn(&mut FolderFacts); 2] = [without_lines, without_details];

fn without_lines(facts: &mut FolderFacts) {
    if let Some(ended) = facts.process.as_mut().and_then(|process| process.last_end.as_mut()) {
        ended.lines.clear();
    }
}

/// That there are such processes and changed files is told, and little of them.
fn without_details(facts: &mut FolderFacts) {
    without_lines(facts);
    for strangers in [&mut facts.survivors, &mut facts.suspected] {
        strangers.truncate(1);
    }
    for release in &mut facts.releases {
        release.tampered.truncate(1);
    }
    if let Some(process) = &mut facts.process {
        process.probe_failure = None;
    }
}

/// Shortens the facts of every folder in an answer.
pub(super) fn shorten(answer: &mut Answer, shorter: fn(&mut FolderFacts)) {
    match answer {
        Answer::Welcome(welcome) => welcome.facts.folders.values_mut().for_each(shorter),
        Answer::Facts { facts, .. } => facts.folders.values_mut().for_each(shorter),
        Answer::Ended { folder: Some(folder), .. } => shorter(folder),
        _ => {}
    }
}
