//! Whether a host lets us become the users of its group, as it said last. A yes is good for a minute, a no for nothing.

use std::time::Duration;

use crate::{
    api::hostgroup::{Become, BecomeMethod},
    effects::fresh::Fresh,
    model::facts::HostFacts,
};
use parking_lot::Mutex;

const TTL: Duration = Duration::from_secs(50);

#[derive(Default)]
pub(super) struct PrivilegeCache(Mutex<Option<Fresh<Granted>>>);

struct Granted {
    run_users: Become,
    too_wide: bool,
}

impl PrivilegeCache {
    /// `Some`: it may become all of them, and whether it may more than it needs.
    pub fn known(&self, run_users: &Become) -> Option<bool> {
        let granted = self.0.lock();
        let granted = granted.as_ref()?.get(TTL)?;
        (granted.run_users == *run_users).then_some(granted.too_wide)
    }

    /// Takes over what these facts say. A user of whom the host said nothing can't be become.
    pub(crate) fn learn(&self, run_users: &Become, facts: &mut HostFacts) {
        if run_users.method == BecomeMethod::None {
            facts.cannot_become.clear();
            return;
        }
        let asked = |user: &String| run_users.users.contains(user);
        for user in &run_users.users {
            facts.cannot_become.entry(user.clone()).or_insert_with(|| "the host did not say".to_owned());
        }
        facts.cannot_become.retain(|user, said| asked(user) && !said.is_empty());
        let granted = facts.cannot_become.is_empty() && facts.missing_tools.is_empty();
        let granted =
            granted.then(|| Fresh::now(Granted { run_users: run_users.clone(), too_wide: facts.sudo_too_wide }));
        *self.0.lock() = granted;
    }
}
