//! Deleted objects: they are no longer reconciled, so the dependents of one are woken here, once, also where only the next list shows it.

use std::{collections::HashSet, sync::Arc};

use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::{reflector::Store, watcher::Event},
};

use super::kind::{Context, Kind, key, span_of};

/// Gets every event of a watch, after `reader` took it over.
pub(super) struct DeletionWatch<K: Kind> {
    context: Arc<K::Context>,
    reader: Store<DeserializeGuard<K>>,
    /// What there was when the list began, and the uids that it has.
    before: Vec<Arc<DeserializeGuard<K>>>,
    listed: HashSet<String>,
}

impl<K: Kind> DeletionWatch<K> {
    pub(super) fn new(context: Arc<K::Context>, reader: Store<DeserializeGuard<K>>) -> Self {
        Self { context, reader, before: Vec::new(), listed: HashSet::new() }
    }

    pub(super) fn observe_event(&mut self, event: &Event<DeserializeGuard<K>>) {
        match event {
            Event::Delete(object) => self.report_deleted(object),
            Event::Init => {
                // A list takes effect at its end.
                self.before = self.reader.state();
                self.listed.clear();
            }
            Event::InitApply(object) => _ = self.listed.insert(object.uid().unwrap_or_default()),
            Event::InitDone => {
                for object in std::mem::take(&mut self.before) {
                    if !self.listed.contains(&object.uid().unwrap_or_default()) {
                        self.report_deleted(&object);
                    }
                }
                self.listed.clear();
            }
            Event::Apply(_) => {}
        }
    }

    fn report_deleted(&self, object: &DeserializeGuard<K>) {
        if let Ok(object) = &object.0 {
            let _fields = span_of::<K>(object).entered();
            self.context.shared().requeue.forget(K::KIND, &object.namespace().unwrap_or_default(), &object.name_any());
            self.context.shared().writes.forget(&key(object));
            object.wake_dependents(&self.context);
            object.on_deleted(&self.context);
        }
    }
}
