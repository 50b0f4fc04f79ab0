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
pub(super) struct PrivilegeCache(Mutex<Option<Fresh<Yes>>>);

struct Yes {
    whom: Become,
    too_wide: bool,
}

impl PrivilegeCache {
    /// `Some`: it may become all of them, and whether it may more than it needs.
    pub fn known(&self, whom: &Become) -> Option<bool> {
        let yes = self.0.lock();
        let yes = yes.as_ref()?.get(TTL)?;
        (yes.whom == *whom).then_some(yes.too_wide)
    }

    /// Takes over what these facts say. A user of whom the host said nothing can't be become.
    pub(crate) fn learn(&self, whom: &Become, facts: &mut HostFacts) {
        if whom.method == BecomeMethod::None {
            facts.cannot_become.clear();
            return;
        }
        let asked = |user: &String| whom.users.contains(user);
        for user in &whom.users {
            facts.cannot_become.entry(user.clone()).or_insert_with(|| "the host did not say".to_owned());
        }
        facts.cannot_become.retain(|user, said| asked(user) && !said.is_empty());
        let yes = facts.cannot_become.is_empty() && facts.missing_tools.is_empty();
        let yes = yes.then(|| Fresh::now(Yes { whom: whom.clone(), too_wide: facts.sudo_too_wide }));
        *self.0.lock() = yes;
    }
}
