//! Disks without room.

use super::*;

#[tokio::test]
async fn a_full_disk_is_named_before_anything_stops_and_the_release_arrives_once_there_is_room() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    let mut noise = vec![0u8; 4 << 20];
    rand::fill(&mut noise[..]);
    let big = Release::with("v2", &[("noise.bin", &noise), ("run.json", b"{}")]);
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let before = rig.bring_up(&Release::new("v1"), words!(web(8080))).await;
        test.fill_but(1024).await;
        let error = rig.stage(&big).await.unwrap_err();
        assert!(matches!(error, HostError::DiskFull { .. }), "{}: {error:?}", test.name);
        let seen = rig.look().await;
        assert!(seen.process.is_some_and(|now| now.alive && now.pid == before.pid), "{}: v1 was touched", test.name);
        assert!(!seen.releases.contains(&big.spec.release), "{}: half a release counts as whole", test.name);
        test.drain().await;
        rig.stage(&big).await.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        assert!(rig.look().await.releases.contains(&big.spec.release));
        assert_eq!(test.sh("ls /srv/landfall/shop.petclinic/.landfall/tmp").await, "", "left behind on {}", test.name);
    }
}

#[tokio::test]
async fn a_disk_without_a_free_byte_starts_nothing_and_starts_once_there_is_room() {
    let hosts = Hosts::up_with(3, &SHELLS).await;
    for test in hosts.all() {
        let mut rig = Rig::new(&hosts, test).await;
        let release = Release::new("v1");
        rig.stage(&release).await.unwrap();
        rig.switch(&release).await.unwrap();
        test.fill().await;
        let error = rig.start(&release, words!(web(8080))).await.unwrap_err();
        assert!(matches!(error, HostError::DiskFull { .. }), "{}: {error:?}", test.name);
        assert_eq!(test.sh("pgrep -c -x busybox || true").await, "0\n", "{}: it runs without an identity", test.name);
        test.drain().await;
        rig.look().await;
        rig.start(&release, words!(web(8080))).await.unwrap_or_else(|error| panic!("{}: {error}", test.name));
        rig.until_http_ready(8080).await;
    }
}

#[tokio::test]
async fn a_disk_without_inodes_is_a_full_disk() {
    let hosts = Hosts::up(1).await;
    let mut rig = Rig::new(&hosts, hosts.host(0)).await;
    rig.stage(&Release::new("v1")).await.unwrap();
    hosts.host(0).fill_inodes().await;
    assert_eq!(rig.host.facts().await.unwrap().free_inodes, Some(0));
    let error = rig.stage(&Release::new("v2")).await.unwrap_err();
    assert!(matches!(error, HostError::DiskFull { .. }), "{error:?}");
    hosts.host(0).drain().await;
    rig.look().await;
    rig.stage(&Release::new("v2")).await.unwrap();
}
