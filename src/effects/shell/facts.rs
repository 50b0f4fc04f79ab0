//! Reads the answer of a `facts` call. A host may answer anything: what can't be read is left out, never guessed.

use std::collections::BTreeMap;

use super::{
    HostError,
    protocol::{Answer, name, owner_from, shown},
};
use crate::model::{
    facts::{FolderFacts, HealFact, HostFacts, OpenAct, ProcessFacts, ReadyMark},
    ids::{FenceToken, FolderName, ReleaseName},
};

/// More folders than this on one host are not ours.
const MAX_FOLDERS: usize = 10_000;
/// The script keeps six.
const MAX_HEALS: usize = 6;

pub(super) fn read(answer: &Answer, server: &str, forwards: bool) -> Result<HostFacts, HostError> {
    let mut facts = HostFacts {
        boot_id: answer.get("boot").unwrap_or_default().to_owned(),
        uptime: 0,
        rotated: false,
        missing_tools: Vec::new(),
        unfit: None,
        free_bytes: 0,
        free_inodes: None,
        server: server.to_owned(),
        forwards,
        session_scoped: false,
        cannot_become: BTreeMap::new(),
        sudo_too_wide: false,
        folders: folders(answer),
    };
    for (key, value) in answer.values.iter().take_while(|(key, _)| key != "folder") {
        host_fact(&mut facts, key, value);
    }
    if answer.get("protocol") != Some("1") {
        return Err(HostError::Protocol { why: "it speaks another version of the helper's protocol".to_owned() });
    }
    Ok(facts)
}

/// The project folders of an answer; each begins with its name.
pub(super) fn folders(answer: &Answer) -> BTreeMap<FolderName, FolderFacts> {
    let mut folders = BTreeMap::new();
    let mut folder: Option<FolderName> = None;
    for (key, value) in &answer.values {
        if key == "folder" {
            folder = FolderName::parse(value).filter(|_| folders.len() < MAX_FOLDERS);
            if let Some(name) = &folder {
                folders.insert(name.clone(), FolderFacts::default());
            }
        } else if let Some(found) = folder.as_ref().and_then(|name| folders.get_mut(name)) {
            folder_fact(found, key, value);
        }
    }
    folders
}

fn host_fact(facts: &mut HostFacts, key: &str, value: &str) {
    match key {
        "missing" => facts.missing_tools.push(shown(value).replace('-', " ")),
        "free" => facts.free_bytes = value.parse::<u64>().unwrap_or_default().saturating_mul(1024),
        "blocks" => space(facts, &value.split(' ').collect::<Vec<_>>()),
        "inodes" => facts.free_inodes = value.parse().ok(),
        "uptime" => facts.uptime = value.parse().unwrap_or_default(),
        "rotated" => facts.rotated = true,
        "scoped" => facts.session_scoped = true,
        "wide" => facts.sudo_too_wide = true,
        "become" => {
            let (user, answer) = value.split_once(' ').unwrap_or((value, ""));
            facts.cannot_become.insert(shown(user), shown(answer));
        }
        _ => {}
    }
}

/// As `stat -f` prints it: free blocks, their size, inodes in all, free ones.
fn space(facts: &mut HostFacts, words: &[&str]) {
    let words: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let [free, size, inodes, free_inodes] = words[..] else { return };
    facts.free_bytes = free.saturating_mul(size);
    facts.free_inodes = (inodes > 0).then_some(free_inodes);
}

fn folder_fact(folder: &mut FolderFacts, key: &str, value: &str) {
    let words: Vec<&str> = value.split(' ').collect();
    match key {
        "owner" => folder.owner = owner_from(value),
        "fence" => folder.fence = fence(&words),
        "journal" => folder.journal = value.parse().unwrap_or_default(),
        "open" => folder.open = open(&words),
        "current" => folder.current = value.rsplit('/').next().and_then(ReleaseName::parse),
        "release" => folder.releases.extend(ReleaseName::parse(value)),
        "ready" => folder.ready = ready(&words),
        "process" => folder.process = process(&words),
        "heal" => folder.heals.extend(heal(&words).filter(|_| folder.heals.len() < MAX_HEALS)),
        _ => {}
    }
}

fn fence(words: &[&str]) -> Option<FenceToken> {
    let [epoch, created, transitions] = words else { return None };
    Some(FenceToken { epoch: name(epoch)?, created: created.parse().ok()?, transitions: transitions.parse().ok()? })
}

fn open(words: &[&str]) -> Option<OpenAct> {
    let [step, uid, rollout, attempt, n, running] = words else { return None };
    Some(OpenAct {
        uid: (*uid).to_owned(),
        rollout: (*rollout).to_owned(),
        attempt: attempt.parse().ok()?,
        n: n.parse().ok()?,
        step: (*step).to_owned(),
        running: *running == "1",
    })
}

fn ready(words: &[&str]) -> Option<ReadyMark> {
    let [uid, rollout, pid, start] = words else { return None };
    Some(ReadyMark {
        uid: (*uid).to_owned(),
        rollout: (*rollout).to_owned(),
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    })
}

fn heal(words: &[&str]) -> Option<HealFact> {
    let [at, attempt] = words else { return None };
    Some(HealFact { at: at.parse().ok()?, attempt: attempt.parse().ok()? })
}

pub(super) fn process(words: &[&str]) -> Option<ProcessFacts> {
    let [alive, pid, start, boot_id, digest, uid, revision, rollout, release] = words else { return None };
    Some(ProcessFacts {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
        boot_id: (*boot_id).to_owned(),
        digest: (*digest).to_owned(),
        release: ReleaseName::parse(release),
        uid: (*uid).to_owned(),
        revision: revision.parse().ok()?,
        rollout: (*rollout).to_owned(),
        alive: *alive == "1",
        kept: false,
        restarts: 0,
        end: None,
    })
}
