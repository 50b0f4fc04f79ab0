//! Statuses that somebody else wrote over: an object whose status is not what this operator decided last is decided on again. Changes of a
//! status wake nobody otherwise, so such a status would stay. It must not decide what is right.

use std::{hash::Hasher, io, sync::Arc, time::Duration};

use kube::{ResourceExt, core::DeserializeGuard};
use serde::Serialize;

use super::{
    kind::{Context, Kind, key_of},
    writes::OnRecord,
};

/// The event of a write of our own may come before its answer. After that time the answer was there.
const REPAIR_DELAY: Duration = Duration::from_secs(1);

impl OnRecord {
    pub fn of<K: Kind>(object: &K) -> Option<Self> {
        Some(Self { version: version_of(object)?, status: Some(digest(&object.status())) })
    }

    fn heard<K: Kind>(object: &DeserializeGuard<K>) -> Option<Self> {
        let status = object.0.as_ref().ok().map(|object| digest(&object.status()));
        Some(Self { version: version_of(object)?, status })
    }
}

/// Has it decided on again, should it still not be ours after a moment: once for all that is written within that.
pub(super) fn observe<K: Kind>(object: &DeserializeGuard<K>, context: &Arc<K::Context>) {
    let (key, heard) = (key_of::<K>(object), OnRecord::heard(object));
    let Some(heard) = heard.filter(|heard| context.shared().writes.is_overwritten(&key, heard)) else { return };
    if !context.shared().writes.suspect(&key, heard) {
        return;
    }
    let (context, namespace, name) = (context.clone(), object.namespace().unwrap_or_default(), object.name_any());
    tokio::spawn(async move {
        tokio::time::sleep(REPAIR_DELAY).await;
        let shared = context.shared();
        let heard = shared.writes.take_suspect(&key);
        if heard.is_some_and(|heard| shared.writes.is_overwritten(&key, &heard)) {
            tracing::info!(kind = K::KIND, namespace, name, "somebody else wrote its status; it is decided on again");
            shared.requeue.wake(K::KIND, &namespace, &name);
        }
    });
}

fn version_of(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

fn digest(status: &impl Serialize) -> u64 {
    struct Sink(std::hash::DefaultHasher);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(std::hash::DefaultHasher::new());
    // What can't be written as JSON was not read from it.
    let _ = serde_json::to_writer(&mut sink, status);
    sink.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_state_with_another_status_is_overwritten_and_nothing_else() {
        let at = |version, status| OnRecord { version, status: Some(digest(&status)) };
        let decided = at(7, "ours");
        assert!(at(8, "theirs").is_overwritten(&decided));
        assert!(OnRecord { version: 8, status: None }.is_overwritten(&decided));
        assert!(!at(8, "ours").is_overwritten(&decided), "a label is new");
        assert!(!at(6, "before").is_overwritten(&decided), "the event of an earlier write of ours comes late");
        assert!(!at(7, "ours").is_overwritten(&decided));
    }
}
