//! A real git server over SSH: sshd on loopback with host keys of its own, where everybody who may log in gets `git-shell` and nothing
//! else; and a line to it that can be cut.
//!
//! It must not know anything of landfall.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{free_port, wait::find};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What goes wrong on the line from now on.
#[derive(Clone, Copy, Debug, Default)]
pub enum Line {
    #[default]
    Whole,
    /// Ends after so many bytes from the server.
    CutAt(usize),
    /// Connections are taken, and nothing is ever said.
    Mute,
    /// So many bytes from the server pass, then nothing more comes.
    StuckAt(usize),
}

/// Ends when it is dropped.
pub struct GitSshd {
    dir: tempfile::TempDir,
    sshd: Child,
    /// Where the line begins; sshd itself listens on another port.
    pub port: u16,
    line: Arc<Mutex<Line>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for GitSshd {
    fn drop(&mut self) {
        self.task.abort();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl GitSshd {
    pub async fn start() -> Self {
        Self::start_with("git-shell -c \"$SSH_ORIGINAL_COMMAND\"").await
    }

    /// With another command in place of git-shell.
    pub async fn start_with(forced: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        for (name, kind) in [
            ("host_ed25519", "ed25519"),
            ("host_ecdsa", "ecdsa"),
            ("ann", "ed25519"),
            ("bob", "ecdsa"),
            ("eve", "ed25519"),
            ("rsa", "rsa"),
        ] {
            keygen(dir.path(), name, kind);
        }
        let public = |name: &str| fs::read_to_string(dir.path().join(format!("{name}.pub"))).unwrap();
        fs::write(dir.path().join("authorized_keys"), public("ann") + &public("bob") + &public("rsa")).unwrap();
        let behind = free_port();
        let at = dir.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {behind}\nHostKey {at}/host_ed25519\nHostKey {at}/host_ecdsa\nPidFile {at}/pid\nUsePAM no\n\
             StrictModes no\nAuthorizedKeysFile {at}/authorized_keys\nPermitRootLogin yes\nPasswordAuthentication no\n\
             AllowTcpForwarding no\nX11Forwarding no\nPermitTTY no\nMaxStartups 200\nForceCommand {forced}\n"
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(dir.path().join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("sshd is needed: run scripts/install-test-tools.sh as root");
        let (line, connections) = (Arc::new(Mutex::new(Line::Whole)), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(serve(listener, behind, line.clone(), connections.clone()));
        let server = Self { dir, sshd, port, line, connections, task };
        let look = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).await.map(drop) };
        find("up: sshd", look, |error| format!("{error}: {}", server.log())).await;
        server
    }

    /// `ssh://root@127.0.0.1:<port><path>`
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, path.display())
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A private key: `ann` (Ed25519), `bob` (ECDSA) and `rsa` may log in, `eve` may not.
    pub fn identity(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// A line of known_hosts for a host key, `ed25519` or `ecdsa`.
    pub fn known_hosts(&self, kind: &str) -> String {
        let key = fs::read_to_string(self.dir.path().join(format!("host_{kind}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// Known by the key of another server at this address.
    pub fn stale_known_hosts(&self) -> String {
        format!("[127.0.0.1]:{} {}", self.port, fs::read_to_string(self.dir.path().join("eve.pub")).unwrap())
    }

    pub fn line(&self, line: Line) {
        *self.line.lock().unwrap() = line;
    }

    /// TCP connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What sshd wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

fn keygen(dir: &Path, name: &str, kind: &str) {
    let path: PathBuf = dir.join(name);
    let mut command = Command::new("ssh-keygen");
    let done = command.args(["-q", "-N", "", "-C", name, "-t", kind, "-f"]).arg(&path).status().unwrap();
    assert!(done.success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn serve(listener: TcpListener, behind: u16, line: Arc<Mutex<Line>>, connections: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let line = *line.lock().unwrap();
        tokio::spawn(async move {
            if matches!(line, Line::Mute) {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).await else { return };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let limit = if let Line::CutAt(n) | Line::StuckAt(n) = line { n } else { usize::MAX };
            let (mut left, mut buffer) = (limit, vec![0; 16 * 1024]);
            while left > 0 {
                let n = from_server.read(&mut buffer).await.unwrap_or(0).min(left);
                if n == 0 || to_client.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
                left -= n;
            }
            if left == 0 && matches!(line, Line::StuckAt(_)) {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            up.abort();
        });
    }
}
