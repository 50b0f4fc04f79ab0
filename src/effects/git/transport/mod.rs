//! Our own transports for libgit2: https over the one rustls stack, ssh over the one russh stack. libgit2's own for http, https and git
//! are shadowed, so that nothing leaves this process by another way.
//!
//! libgit2 makes a transport knowing only the remote, in the thread that works; what else it needs is handed over in a thread-local.

mod http;
mod https;
mod ssh;
mod talk;
pub(super) mod tls;

use std::sync::Once;

use git2::{Error, ErrorClass, ErrorCode, transport::Transport};

pub(super) use self::talk::Talk;

/// Before anything of libgit2 is used. [`super::Git::new`] calls it too, and all our use of libgit2 goes through a `Git`.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = register_all() {
            tracing::error!(%error, "git over https and ssh can't be set up");
        }
    });
}

#[allow(unsafe_code)]
fn register_all() -> Result<(), Error> {
    // SAFETY: registering must not run beside the making of transports. It happens inside `Once`, which every `Git` passes before it can
    // open a mirror, and transports are made by mirrors alone.
    unsafe {
        git2::transport::register("https", |remote| {
            Transport::smart(remote, true, https::Https::new(talk::current()?))
        })?;
        git2::transport::register("ssh", |remote| Transport::smart(remote, false, ssh::Ssh::new(talk::current()?)))?;
        for shadowed in ["http", "git"] {
            git2::transport::register(shadowed, |_| Err(refused("landfall speaks https and ssh alone")))?;
        }
    }
    Ok(())
}

fn refused(why: &str) -> Error {
    Error::new(ErrorCode::GenericError, ErrorClass::Net, why)
}
