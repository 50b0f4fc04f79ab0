//! Our own transports for libgit2: https over the one rustls stack, ssh over the one russh stack. libgit2's own for http, https and git
//! are shadowed, so that nothing leaves this process by another way.
//!
//! libgit2 makes a transport knowing only the remote, in the thread that works; what else it needs is handed over in a thread-local.

mod buffer;
mod http;
mod https;
mod ssh;

use std::sync::Once;

use git2::Error;

use crate::effects::git::config::LARGEST_OBJECT;

/// Before anything of libgit2 is used. [`crate::effects::git::Git::new`] calls it too, and all our use of libgit2 goes through a `Git`.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = register_all() {
            tracing::error!(%error, "git over https and ssh can't be set up");
        }
    });
}

fn register_all() -> Result<(), Error> {
    native::limit_memory(LARGEST_OBJECT)?;
    native::register()
}

/// Whether the last thing that this thread was refused was one object alone, larger than is taken; asked once. Otherwise all of git
/// together had too much.
pub(super) fn was_too_large() -> bool {
    native::TOO_LARGE.take()
}

/// All that is unsafe: what libgit2 is told before it is used.
#[allow(unsafe_code)]
mod native {
    use std::{
        cell::Cell,
        ffi::{c_char, c_int, c_void},
        ptr::null_mut,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use git2::{Error, transport::Transport};
    use libgit2_sys::{GIT_OPT_SET_ALLOCATOR, GIT_OPT_SET_PACK_MAX_OBJECT_SIZE, git_libgit2_opts};

    use crate::effects::git::{
        session::{self, refused},
        transport::{https, ssh},
    };

    pub(super) fn register() -> Result<(), Error> {
        // SAFETY: registering must not run beside the making of transports. It happens inside `Once`, which every `Git` passes before it
        // can open a mirror, and transports are made by mirrors alone.
        unsafe {
            git2::transport::register("https", |remote| {
                Transport::smart(remote, true, https::Https::new(session::current()?))
            })?;
            git2::transport::register("ssh", |remote| {
                Transport::smart(remote, false, ssh::Ssh::new(session::current()?))
            })?;
            for shadowed in ["http", "git"] {
                git2::transport::register(shadowed, |_| Err(refused("landfall speaks https and ssh alone")))?;
            }
        }
        Ok(())
    }

    /// One object, and what it was made of: its base, and the delta between the two.
    const OBJECTS_AT_ONCE: usize = 3;
    /// For all that is no object.
    const SPARE: usize = 256 << 20;

    /// The largest piece that libgit2 gets; 0: not limited yet.
    static LARGEST: AtomicUsize = AtomicUsize::new(0);
    /// What libgit2 has now, all mirrors together.
    static HELD: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        pub(super) static TOO_LARGE: Cell<bool> = const { Cell::new(false) };
    }

    /// A few kilobytes of a pack may say that they make an object of gigabytes, and libgit2 would make it in memory.
    pub(super) fn limit_memory(object: usize) -> Result<(), Error> {
        // The byte behind an object's last, and a header.
        LARGEST.store(object.saturating_add(4096), Relaxed);
        let mut allocator = Allocator { malloc, realloc, free };
        libgit2_sys::init();
        // SAFETY: both take what they are given here (libgit2 copies the allocator, and gets `size_t` for a size), before any other thread
        // uses libgit2, as above. What it allocated before comes from the same `malloc`, so it may be freed by ours.
        let answers = unsafe {
            [
                git_libgit2_opts(GIT_OPT_SET_ALLOCATOR as c_int, &raw mut allocator),
                git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECT_SIZE as c_int, object),
            ]
        };
        if answers == [0, 0] { Ok(()) } else { Err(refused("libgit2 takes no limit of its memory")) }
    }

    /// libgit2's `git_allocator`.
    #[repr(C)]
    struct Allocator {
        malloc: extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: extern "C" fn(*mut c_void),
    }

    /// Whether it may have so much more; what it had underway is then given up with `ErrorClass::NoMemory`.
    fn may_have(bytes: usize, more: usize) -> bool {
        let largest = LARGEST.load(Relaxed);
        let (fits, room) = (bytes <= largest, largest.saturating_mul(OBJECTS_AT_ONCE).saturating_add(SPARE));
        if fits && HELD.load(Relaxed).saturating_add(more) <= room {
            return true;
        }
        // Not unsaid by what still succeeds meanwhile: the clean-up asks for memory, too.
        TOO_LARGE.set(!fits);
        false
    }

    fn size(piece: *mut c_void) -> usize {
        // SAFETY: it is null or came from `malloc`.
        unsafe { libc::malloc_usable_size(piece) }
    }

    pub(super) extern "C" fn malloc(bytes: usize, _: *const c_char, _: c_int) -> *mut c_void {
        if !may_have(bytes, bytes) {
            return null_mut();
        }
        // SAFETY: any size may be asked for.
        let piece = unsafe { libc::malloc(bytes) };
        HELD.fetch_add(size(piece), Relaxed);
        piece
    }

    extern "C" fn realloc(piece: *mut c_void, bytes: usize, _: *const c_char, _: c_int) -> *mut c_void {
        let before = size(piece);
        if !may_have(bytes, bytes.saturating_sub(before)) {
            return null_mut();
        }
        // SAFETY: it is null or came from `malloc`, and libgit2 no longer uses it if this succeeds.
        let after = unsafe { libc::realloc(piece, bytes) };
        if !after.is_null() {
            give_back(before);
            HELD.fetch_add(size(after), Relaxed);
        }
        after
    }

    pub(super) extern "C" fn free(piece: *mut c_void) {
        give_back(size(piece));
        // SAFETY: it is null or came from `malloc`, and libgit2 frees it once.
        unsafe { libc::free(piece) }
    }

    /// What was allocated before there was a limit was not counted.
    fn give_back(bytes: usize) {
        let _ = HELD.fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null;

    use super::*;

    #[test]
    fn libgit2_gets_no_piece_larger_than_an_object_may_be_and_not_all_there_is() {
        register();
        let largest = LARGEST_OBJECT;
        assert!(native::malloc(2 * largest, null(), 0).is_null() && was_too_large() && !was_too_large());
        // Nothing is written, so it costs no memory.
        let pieces: Vec<_> = (0..8).map(|_| native::malloc(largest, null(), 0)).collect();
        let got = pieces.iter().filter(|piece| !piece.is_null()).count();
        assert!((1..=3).contains(&got) && !was_too_large(), "{got}");
        pieces.into_iter().for_each(|piece| native::free(piece));
        let piece = native::malloc(largest, null(), 0);
        assert!(!piece.is_null());
        native::free(piece);
    }
}
