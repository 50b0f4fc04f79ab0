//! Waiting for what comes, on a machine of any pace: a wait that passes costs nothing, so each is as long as a loaded machine may need.
//! What has to come *soon* is measured by its own test.
#![allow(dead_code, clippy::panic, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// For whatever is to come.
pub const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Looks until something is found; else `told` makes words of what was seen last.
pub async fn find<T, E, F>(what: &str, mut look: impl FnMut() -> F, told: impl FnOnce(E) -> String) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            Err(seen) => panic!("not {what} within {PATIENCE:?}: {}", told(seen)),
        }
    }
}

/// Looks until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let look = || {
        let seen = so();
        async { if seen.await { Ok(()) } else { Err(()) } }
    };
    find(what, look, |()| String::new()).await;
}

/// The same in a test that has no runtime.
pub fn until_now(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not {what} within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}
