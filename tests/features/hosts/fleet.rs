//! The fleet on real hosts, without Kubernetes.

use std::{sync::Arc, time::Duration};

use landfall::{
    effects::{
        clock,
        gate::Gate,
        program::Images,
        ssh::{Credentials, SshTarget},
    },
    fleet::{
        Fleet, FleetSettings, GroupAccess, HostAccess, HostId, Link, Object, Order, Outcome, Priority, SshDialer, Work,
    },
    model::ids::FenceToken,
};
use landfall_host_protocol::{FolderName, Hello, Outcome as TaskOutcome, Secrets, VERSIONS};

use super::program::application::{Version, task};
use crate::support::{hosts::Hosts, wait::until};

fn fleet() -> Fleet {
    let gate = Gate::open_for(FenceToken { epoch: "plane-1".to_owned(), created: 1_700_000_000, transitions: 5 });
    Fleet::new(Arc::new(SshDialer::new(gate, Images::embedded())), FleetSettings::default())
}

fn group(rack: &Hosts, hosts: &[usize], connections: Option<usize>) -> GroupAccess {
    let credentials = Credentials::new(&rack.identity(), &rack.known_hosts()).unwrap();
    let access = |n: &usize| {
        let host = rack.host(*n);
        let access = HostAccess {
            target: SshTarget {
                address: host.address.clone(),
                port: host.port,
                user: rack.user().to_owned(),
                connect_timeout: Duration::from_secs(10),
            },
            credentials: credentials.clone(),
            jumps: vec![],
            root: "/srv/landfall".to_owned(),
            hello: Hello {
                versions: VERSIONS,
                namespace: "shop".to_owned(),
                become_method: None,
                become_users: vec![],
            },
            hash: 1,
        };
        (host.name.clone(), access)
    };
    GroupAccess {
        hosts: hosts.iter().map(access).collect(),
        connections,
        period: Duration::from_secs(60),
        least_rate: None,
    }
}

fn id(rack: &Hosts, n: usize) -> HostId {
    HostId::new("shop", "g", &rack.host(n).name)
}

fn order(priority: Priority, work: Work) -> Order {
    Order { priority, work, patience: Duration::from_secs(60) }
}

fn folder() -> FolderName {
    FolderName::new("shop", "web")
}

fn is_connected(fleet: &Fleet, host: &HostId) -> bool {
    fleet.known(host).is_some_and(|known| matches!(known.link, Link::Connected))
}

async fn deploy(fleet: &Fleet, host: &HostId, version: &Version, n: u64) -> u64 {
    for (sha256, size, payload) in [&version.manifest, &version.bundle] {
        let object = Object { sha256: sha256.clone(), size: *size, payload: payload.clone() };
        let put = Work::Put { folder: folder(), object };
        assert_eq!(fleet.submit(host, order(Priority::Stage, put)).done().await.unwrap(), Outcome::Done);
    }
    let steps = std::iter::once(version.stage()).chain(version.update()).collect();
    let work = Work::Task { task: Box::new(task(&folder(), &host.host, n, steps)), secrets: Secrets::default() };
    match fleet.submit(host, order(Priority::Update, work)).done().await.unwrap() {
        Outcome::Ended { result, folder } => {
            assert_eq!(result.outcome, TaskOutcome::Succeeded, "{}", host.host);
            assert!(folder.unwrap().process.unwrap().ready, "{}", host.host);
            result.journal
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_that_is_cut_off_holds_up_no_other_and_is_reached_when_it_is_back() {
    let rack = Hosts::up(3).await;
    rack.host(2).cut().await;
    let fleet = fleet();
    fleet.configure("shop", "g", group(&rack, &[0, 1, 2], None));
    let local = tempfile::tempdir().unwrap();
    let version = Version::pack(local.path(), "v1", 100_000, None);
    let (one, two) = (id(&rack, 0), id(&rack, 1));
    tokio::join!(deploy(&fleet, &one, &version, 0), deploy(&fleet, &two, &version, 0));
    assert!(fleet.known(&id(&rack, 2)).unwrap().facts.is_none());
    rack.host(2).mend().await;
    until("the third is reached", || async { is_connected(&fleet, &id(&rack, 2)) }).await;
}

#[tokio::test]
async fn a_lost_link_is_dialled_again_at_once_and_a_rebooted_host_seconds_after() {
    let rack = Hosts::up(2).await;
    let fleet = fleet();
    fleet.configure("shop", "g", group(&rack, &[0, 1], None));
    let (one, two) = (id(&rack, 0), id(&rack, 1));
    until("both are reached", || async { is_connected(&fleet, &one) && is_connected(&fleet, &two) }).await;
    let local = tempfile::tempdir().unwrap();
    let version = Version::pack(local.path(), "v1", 1000, None);
    let journal = deploy(&fleet, &two, &version, 0).await;

    let changes = fleet.changes();
    let before = clock::monotonic();
    let heard = fleet.known(&one).unwrap().heard;
    rack.host(0).hangup().await;
    until("the link is back", || async {
        let known = fleet.known(&one).unwrap();
        matches!(known.link, Link::Connected) && known.heard > heard
    })
    .await;
    eprintln!("dialled again after {:?}", before.elapsed());

    let boot = |fleet: &Fleet| fleet.known(&two).unwrap().facts.map(|facts| facts.machine.boot_id.clone());
    let first_boot = boot(&fleet);
    rack.host(1).reboot().await;
    let up = clock::monotonic();
    until("the new boot is known", || async { boot(&fleet) != first_boot && is_connected(&fleet, &two) }).await;
    eprintln!("known after {:?} of its reboot", up.elapsed());
    let mut changed = changes.next().await;
    while !changed.contains_key(&two) {
        changed.extend(changes.next().await);
    }
    let facts = fleet.known(&two).unwrap().facts.unwrap();
    let folder_facts = &facts.folders[&folder()];
    assert_eq!(folder_facts.journal, journal);
    assert!(!folder_facts.process.as_ref().unwrap().ready);

    fleet.forget("shop", "g");
    until("no session is left", || async {
        rack.host(0).sh("pgrep -f '[s]ession /srv/landfall' || :").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn fewer_connections_than_hosts_are_enough_for_real_hosts() {
    let rack = Hosts::up(4).await;
    let fleet = fleet();
    fleet.configure("shop", "g", group(&rack, &[0, 1, 2, 3], Some(1)));
    assert!(fleet.settled("shop", "g", Duration::from_secs(60)).await);
    for n in 0..4 {
        assert!(fleet.known(&id(&rack, n)).unwrap().facts.is_some(), "{n}");
    }
    let local = tempfile::tempdir().unwrap();
    let version = Version::pack(local.path(), "v1", 1000, None);
    deploy(&fleet, &id(&rack, 3), &version, 0).await;
}
