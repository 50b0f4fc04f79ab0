//! A connection to one host with the helper script on it: how a call gets there and its answer back.

use std::{sync::LazyLock, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};

use super::{
    Acted, HostError, facts,
    privilege_cache::PrivilegeCache,
    protocol::{Answer, Request, shown},
};
use crate::effects::{
    fresh::Fresh,
    gate::{Effect, Gate},
    ssh::{Connection, Credentials, Input, OpenOptions, Output, SshTarget},
};
use crate::model::text::{last_lines, shell_quote};

/// One script on the host, in three files here.
const HELPER: &str = concat!(include_str!("become.sh"), include_str!("look.sh"), include_str!("helper.sh"));
static HELPER_DIGEST: LazyLock<String> =
    LazyLock::new(|| Sha256::digest(HELPER.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect());

/// The longest time of a call that only reads or acts at once.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest time of a check, which takes 20 ms.
pub(super) const FACTS_TIMEOUT: Duration = Duration::from_secs(18);
/// How long a call waits for its step. What takes longer goes on by itself: the call answers `Busy`, and `attach` waits for it.
pub(super) const STEP_WAIT: Duration = Duration::from_secs(10);
/// The longest time of such a call. The host counts its naps, which take longer on a busy machine.
pub(super) const DETACHED_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers whether the script is in its place, whole; arguments: root, digest, nonce, and what to do: only `find` it, `put` it there from
/// stdin, or let it answer the request on stdin (`ask`). Without single quotes, so that it can stand between them in every shell's syntax.
const INSTALL: &str = r#"set -u; umask 022; p=$1/.landfall/bin; f=$p/$2
d() { if command -v sha256sum >/dev/null; then sha256sum; else openssl dgst -sha256 -r; fi; }
t() { [ -d "$p" ] || { mkdir -p "$1" && umask 077 && mkdir -p "$p"; } 2>&1 || return 1; umask 077
if [ "$4" = put ]; then { cat >"$f.$$" && chmod 700 "$f.$$" && mv -f "$f.$$" "$f"; } 2>&1 || { rm -f "$f.$$"; return 1; }; fi
[ -r "$f" ] || { printf "@absent=1\n"; return 0; }
s=$(d <"$f"); [ "${s%% *}" = "$2" ] || { printf "@absent=1\n"; return 0; }
[ "$4" != ask ] || exec /bin/sh "$f" "$3"; printf "@present=1\n"; }
o() { a=$1/.landfall; me=; set --; while [ -n "$a" ]; do set -- "$@" "$a"; a=${a%/*}; done
ls -ldn "$@" / 2>/dev/null | while read -r m l u g z x y v p; do
case $u in 0) ;; *) me=${me:-$(id -u)}; [ "$u" = "$me" ] || printf "@unsafe=%s belongs to the user %s\n" "$p" "$u" ;; esac
case $m in d???????w[!tT]*) printf "@unsafe=everybody may write to %s\n" "$p" ;; esac; done; }
printf "\n%s begin 1\n" "$3"; u=$(o "$1"); if [ -n "$u" ]; then printf "%s\n" "$u"; else t "$@"; fi; printf "\n%s end %s\n" "$3" "$?""#;

pub(super) struct Session {
    pub name: String,
    pub connection: Connection,
    pub privileges: PrivilegeCache,
    script: String,
    /// What the host said of itself when we signed in. Good for the very next call, and for a moment.
    first: Mutex<Option<Fresh<First>>>,
}

struct First {
    request: Vec<u8>,
    answer: Answer,
}

const FIRST_ANSWER_TTL: Duration = Duration::from_secs(2);

impl Session {
    /// Refuses a root that can't be one before the host is dialled.
    pub(crate) async fn dial(
        options: OpenOptions,
        target: &SshTarget,
        credentials: &Credentials,
        root: &str,
    ) -> Result<Connection, HostError> {
        let bad = |why: &str| HostError::BadInput { what: "the group's root", why: why.to_owned() };
        if !root.starts_with('/') || root.contains('\n') {
            return Err(bad("it must be an absolute path on one line"));
        }
        if root.contains('\0') {
            return Err(bad("it holds a NUL byte"));
        }
        Ok(Connection::open_with(options, target, credentials).await?)
    }

    /// Finds the script, and uploads it where it is missing. `request`: a call that the script answers in the same round trip.
    pub async fn open(
        gate: &Gate,
        name: &str,
        connection: Connection,
        root: &str,
        request: Option<&Request>,
    ) -> Result<Self, HostError> {
        let bad = || HostError::BadInput { what: "the group's root", why: "it holds a NUL byte".to_owned() };
        let root = root.trim_end_matches('/');
        let quoted = shell_quote(root).ok_or_else(bad)?;
        let script = shell_quote(&format!("{root}/.landfall/bin/{}", *HELPER_DIGEST)).ok_or_else(bad)?;
        let (name, first) = (name.to_owned(), Mutex::default());
        let session = Self { name, connection, privileges: PrivilegeCache::default(), script, first };
        let (mode, request) = match request {
            Some(request) => ("ask", request.head()?),
            None => ("find", Vec::new()),
        };
        let answer = session.install(&quoted, mode, request.clone()).await?;
        if answer.get("absent").is_some() {
            gate.pass(Effect::new("host.helper", &session.name), session.put(&quoted)).await?;
        } else if answer.get("protocol").is_some() {
            *session.first() = Some(Fresh::now(First { request, answer }));
        }
        Ok(session)
    }

    fn first(&self) -> MutexGuard<'_, Option<Fresh<First>>> {
        self.first.lock()
    }

    async fn put(&self, root: &str) -> Result<(), HostError> {
        let answer = self.install(root, "put", HELPER.as_bytes().to_vec()).await?;
        match answer.get("present") {
            Some(_) => Ok(()),
            None => Err(HostError::StepFailed {
                step: "putting the helper script".to_owned(),
                why: "it did not arrive whole".to_owned(),
                last_lines: last_lines(&answer.output, 5),
            }),
        }
    }

    async fn install(&self, root: &str, mode: &str, bytes: Vec<u8>) -> Result<Answer, HostError> {
        let nonce = nonce();
        let command = format!("exec /bin/sh -c '{INSTALL}' sh {root} {} {nonce} {mode}", *HELPER_DIGEST);
        let output = self.connection.exec(command, Input { bytes, payload: None }, SHORT_TIMEOUT).await?;
        let answer = Answer::read(&nonce, &output)?;
        if let Some(why) = answer.get("unsafe") {
            let why = format!(
                "{}, so another user could put programs there that run as the SSH user; choose a folder all of whose parents belong to root or the \
                 SSH user",
                shown(why)
            );
            return Err(HostError::BadInput { what: "the group's root", why });
        }
        if !["present", "absent", "protocol"].iter().any(|word| answer.get(word).is_some()) {
            let last_lines = last_lines(&answer.output, 5);
            let why = "the folder below the group's root can't be made".to_owned();
            return Err(HostError::StepFailed { step: "putting the helper script".to_owned(), why, last_lines });
        }
        Ok(answer)
    }

    /// One call of the helper; its answer, whatever it is. `limit` counts from when the input is on the host.
    pub async fn call(&self, request: &Request, limit: Duration) -> Result<Answer, HostError> {
        let head = request.head()?;
        let first = self.first().take();
        let first = first.and_then(|first| first.into_inner(FIRST_ANSWER_TTL));
        if let Some(first) = first.filter(|first| first.request == head) {
            return Ok(first.answer);
        }
        let nonce = nonce();
        let command = format!("exec /bin/sh {} {nonce}", self.script);
        let input = Input { bytes: head, payload: request.payload.clone() };
        let output: Output = self.connection.exec(command, input, limit).await?;
        Answer::read(&nonce, &output)
    }

    /// A call that answers with the journal's number and the folder as it is then, or an error.
    pub async fn act(&self, request: &Request, limit: Duration) -> Result<Acted, HostError> {
        let answer = self.call(request, limit).await?;
        match answer.error() {
            Some(error) => Err(error),
            None => acted(&answer),
        }
    }
}

pub(super) fn acted(answer: &Answer) -> Result<Acted, HostError> {
    let journal = answer.journal().ok_or_else(|| HostError::Protocol {
        why: format!("no journal number; {}", shown(&String::from_utf8_lossy(&answer.output))),
    })?;
    Ok(Acted { journal, folder: facts::folders(answer).into_values().next() })
}

fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}
