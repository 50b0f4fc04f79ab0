//! The program as a release has it: static, small, without name services, content with a root file system of itself and busybox, and on
//! aarch64 as well (by qemu). `scripts/build-host.sh` builds what is tested here; it says what is missing where it can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../session/client.rs"]
#[allow(dead_code)]
mod client;
mod life;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use landfall_host::elf;
use landfall_host_protocol::Answer;

use client::{Client, Root};
use life::{BareRoot, carry, hello, keep};

/// Bytes that a release's program may have.
const LARGEST: u64 = 4 << 20;

/// The built program of a machine; the build is as good as done where the tests of the whole workspace run.
fn built(machine: &str, profile: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(root.join("scripts/build-host.sh")).args([machine, profile]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/build-host.sh {machine} {profile}: {said}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn output(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn machine_of(program: &Path) -> elf::Machine {
    let bytes = fs::read(program).unwrap();
    elf::Machine::read(&bytes[..elf::HEAD]).unwrap()
}

#[test]
fn a_releases_program_is_small_and_needs_no_library() {
    let program = built(std::env::consts::ARCH, "host");
    let size = fs::metadata(&program).unwrap().len();
    assert!(size < LARGEST, "{size} bytes");
    let dynamic = output("readelf", &["--wide", "--dynamic", "--program-headers"], &program);
    assert!(!dynamic.contains("(NEEDED)") && !dynamic.contains("INTERP"), "{dynamic}");
}

/// How the functions of name services are looked for: in the symbols of the build that is not stripped and not optimized for size. A
/// static linker takes an object of libc only for a symbol that something refers to, and drops what nothing reaches from `main`, so a
/// function that could be called has its name here. glibc's tables of services (`__nss_…`) are here in every program that forks; only these
/// functions lead into them.
#[test]
fn no_function_of_a_name_service_can_be_reached() {
    let program = built(std::env::consts::ARCH, "host-quick");
    let symbols = output("nm", &["--format=posix"], &program);
    let names: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 1000 && names.contains("main") && names.contains("fork"), "{} symbols", names.len());
    let plain = |name: &str| name.trim_start_matches('_').trim_end_matches("_r").to_owned();
    let leads_there = |name: &str| {
        let services = [
            "getaddrinfo",
            "getnameinfo",
            "gethostbyname",
            "gethostbyname2",
            "gethostbyaddr",
            "gethostent",
            "getpwnam",
            "getpwuid",
            "getpwent",
            "getgrnam",
            "getgrgid",
            "getgrent",
            "getgrouplist",
            "initgroups",
            "getspnam",
            "getservbyname",
            "getservbyport",
            "getprotobyname",
            "getnetbyname",
            "getlogin",
            "cuserid",
            "wordexp",
        ];
        services.contains(&plain(name).as_str())
    };
    let found: Vec<_> = names.iter().filter(|name| leads_there(name)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_root_of_itself_and_busybox_is_enough() {
    let Some(bare) = BareRoot::new(&built(std::env::consts::ARCH, "host")) else { return };
    let mut client = Client::of(bare.command(&[]));
    let welcome = hello(&mut client);
    assert_eq!(welcome.facts.machine.machine, std::env::consts::ARCH);
    assert_eq!(welcome.facts.root.unfit, None);
    let folder = carry(&mut client);
    keep(&mut client, &folder, &bare.groups_root());
}

/// Services that no static program can load are named for every name there is.
#[test]
fn name_services_of_systemd_and_sss_are_never_asked() {
    let Some(bare) = BareRoot::new(&built(std::env::consts::ARCH, "host")) else { return };
    for (file, text) in [
        (
            "nsswitch.conf",
            "passwd: sss systemd\ngroup: sss systemd\nshadow: sss\nhosts: sss resolve mymachines dns\nservices: sss\n",
        ),
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("resolv.conf", "nameserver 127.0.0.53\n"),
    ] {
        fs::write(bare.path().join("etc").join(file), text).unwrap();
    }
    let log = bare.path().join("trace");
    let trace = ["strace", "-f", "-qq", "-e", "trace=open,openat,connect,execve", "-o", log.to_str().unwrap()];
    let mut client = Client::of(bare.command(&trace));
    hello(&mut client);
    let folder = carry(&mut client);
    keep(&mut client, &folder, &bare.groups_root());
    client.close();
    client.wait();
    let calls = fs::read_to_string(log).unwrap();
    assert!(calls.contains("/landfall-host"), "{calls}");
    let asked = ["nsswitch.conf", "libnss", "nscd", "resolv.conf"];
    let asked: Vec<_> = calls.lines().filter(|line| asked.iter().any(|word| line.contains(word))).collect();
    assert!(asked.is_empty(), "{asked:#?}");
}

#[test]
fn the_program_for_aarch64_runs_and_answers() {
    let program = built("aarch64", "host-quick");
    let root = Root::new();
    let mut command = Command::new("qemu-aarch64-static");
    command.arg(&program).arg("session").arg(root.path());
    let mut client = Client::of(command);
    let welcome = hello(&mut client);
    assert_eq!(welcome.facts.machine.machine, "aarch64");
    let bytes = client::noise(100_000);
    let id = client.send(&client::put("web", &bytes, Some(0)));
    client.send_bytes(id, landfall_host_protocol::Kind::LastBytes, &bytes);
    assert_eq!(client.answer(id), Answer::Stored);
    assert_eq!(root.incoming("web").len(), 1);
}

/// The session and the runner. A keeper can't be had here: Debian 12's qemu has no PR_SET_CHILD_SUBREAPER.
#[test]
fn a_release_is_staged_and_switched_to_on_aarch64() {
    if cfg!(target_arch = "aarch64") || !life::can_run_foreign_programs() {
        eprintln!("not run: this kernel is older than 6.7, or runs aarch64 itself");
        return;
    }
    let Some(bare) = BareRoot::new(&built("aarch64", "host-quick")) else { return };
    let mut client = Client::of(bare.foreign_command());
    let welcome = hello(&mut client);
    assert_eq!((welcome.facts.machine.machine.as_str(), welcome.facts.root.unfit), ("aarch64", None));
    carry(&mut client);
}

/// C22.
#[test]
fn a_real_program_of_another_machine_is_recognised_before_the_kernel_refuses_it() {
    let (own, foreign) = if cfg!(target_arch = "aarch64") { ("aarch64", "x86_64") } else { ("x86_64", "aarch64") };
    let program = built(foreign, "host-quick");
    let machine = machine_of(&program);
    assert_eq!(machine.name(), foreign);
    assert!(machine.is_foreign_to(own) && !machine.is_foreign_to(foreign));
    assert!(!machine_of(&built(own, "host-quick")).is_foreign_to(own));
}
