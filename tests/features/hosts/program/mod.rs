//! `landfall-host` on real hosts: how it gets there, what its session does, and what a hostile one may cost.

mod bootstrap;
mod hostile;
mod logs;
mod session;
mod tasks;

pub(super) mod application;

use std::{sync::Arc, time::Duration};

use landfall::effects::{
    gate::Gate,
    program::{ConnectOptions, Image, Images, Program, ProgramError, Pushes},
    ssh::{Connection, Credentials, SshTarget},
};
use landfall::model::ids::FenceToken;
use landfall_host_protocol::{FolderName, Hello, VERSIONS, Welcome};
use sha2::{Digest as _, Sha256};

use crate::support::hosts::{Host, Hosts};

const ROOT: &str = "/srv/landfall";
const NAMESPACE: &str = "shop";

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "plane-1".to_owned(), created: 1_700_000_000, transitions: 5 })
}

fn hello() -> Hello {
    Hello { versions: VERSIONS, namespace: NAMESPACE.to_owned(), become_method: None, become_users: vec![] }
}

fn folder() -> FolderName {
    FolderName::new(NAMESPACE, "web")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The program of another version: what lies behind an ELF file's end does not matter.
fn version(n: u8) -> Images {
    let embedded = Images::embedded();
    let machine = embedded.machines().next().unwrap().to_owned();
    let mut bytes = embedded.get(&machine).unwrap().bytes.to_vec();
    bytes.push(n);
    Images::of([(machine, Image { digest: sha256(&bytes), bytes: bytes.into() })])
}

fn digest(images: &Images) -> String {
    images.get(images.machines().next().unwrap()).unwrap().digest.clone()
}

async fn dial(rack: &Hosts, host: &Host) -> Arc<Connection> {
    let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
    let target = SshTarget {
        address: host.address.clone(),
        port: host.port,
        user: rack.user().to_owned(),
        connect_timeout: Duration::from_secs(60),
    };
    Arc::new(Connection::open(&target, &credentials).await.unwrap())
}

async fn start(rack: &Hosts, host: &Host, images: &Images) -> Result<(Program, Welcome, Pushes), ProgramError> {
    let hello = hello();
    let options = ConnectOptions { name: &host.name, root: ROOT, images, hello: &hello };
    Program::connect(&gate(), dial(rack, host).await, &options).await
}

/// With the program that was built into this one.
async fn connect(rack: &Hosts) -> (Program, Welcome, Pushes) {
    start(rack, rack.host(0), &Images::embedded()).await.unwrap()
}
