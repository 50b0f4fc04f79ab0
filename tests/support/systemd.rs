//! A host with systemd as pid 1, for what only logind does. Dropped, everything of it goes.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{free_port, wait::until};

pub struct SystemdHost {
    starter: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl SystemdHost {
    /// Comes back when its sshd answers.
    pub async fn up() -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("host/tests/support/systemd-host.sh");
        let starter = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(script)
            .arg(folder.path())
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let host = Self { starter, folder, port };
        until("up: the systemd host", || async {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
                && host.sh("systemctl is-active test-sshd").is_some()
        })
        .await;
        host
    }

    pub fn identity(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("keys/user")).unwrap()
    }

    pub fn known_hosts(&self) -> String {
        let key = std::fs::read_to_string(self.folder.path().join("keys/host.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// What a script says there, as root and not over SSH; `None` where it fails.
    pub fn sh(&self, script: &str) -> Option<String> {
        let parent = self.starter.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let init = children.split_whitespace().next()?;
        let output = Command::new("nsenter")
            .args(["-t", init, "-m", "-p", "-u", "-i", "-r", "-w", "--", "sh", "-c", script])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for SystemdHost {
    fn drop(&mut self) {
        let _ = self.starter.kill();
        let _ = self.starter.wait();
        let groups = format!("lfh-units-{}", self.starter.id());
        for hierarchy in ["systemd", "unified", "pids", "memory", "devices", "freezer"] {
            let group = format!("/sys/fs/cgroup/{hierarchy}/{groups}");
            for _ in 0..50 {
                // Its processes take a moment to go.
                let _ = Command::new("find")
                    .args([&group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                    .stderr(Stdio::null())
                    .status();
                if !Path::new(&group).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
