//! Bytes of a release on a bad day: a bundle that is cut and goes on, a base that changed or went between, a bundle that somebody damaged.
//! Whatever happened, every file that counts is the operator's, and the full bundle mends it.

#[path = "../session/client.rs"]
#[allow(dead_code)]
mod client;

use landfall_host_bundle::{digest, encode, write};
use landfall_host_protocol::{Answer, Bundle, Kind, Reason, Request, Step, StepName};

use crate::support::{Host, TestRelease, release};
use client::{Client, noise};

/// Hex of noise: it has to come to the host, and is text as the files of [`release`].
fn text(length: usize) -> String {
    noise(length / 2).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two versions of an application, of which the second has most of the first, and new bytes besides.
fn versions() -> (TestRelease, TestRelease) {
    let (library, application) = (text(200_000), text(90_000));
    let next = format!("{}// a line more\n{}", &application[..40_000], &application[40_000..]);
    let addition: String = text(500_000).chars().rev().take(150_000).collect();
    let one = release(
        "v1",
        &[("app.jar", 0o644, &application), ("lib/a.jar", 0o644, &library), ("run", 0o755, "#!/bin/sh\n")],
    );
    let files = [("app.jar", 0o644, next.as_str()), ("lib/a.jar", 0o644, &library), ("lib/b.jar", 0o600, &addition)];
    (one, release("v2", &files))
}

fn bundle(wanted: &TestRelease, base: Option<&TestRelease>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&wanted.release, base.map(|base| &base.release), &mut bytes).unwrap();
    bytes
}

/// The step, without bringing anything.
fn step(wanted: &TestRelease, base: Option<&TestRelease>) -> Step {
    let bytes = bundle(wanted, base);
    let base = base.map(|base| base.name.clone());
    Step::Stage {
        release: wanted.name.clone(),
        digest: wanted.digest.clone(),
        manifest: digest(&encode(wanted.release.manifest())),
        bundle: Some(Bundle { sha256: digest(&bytes), size: bytes.len() as u64, base }),
    }
}

/// Asks what is there and sends the rest over a new session, of which at most so many bytes get through; answers where it began.
fn send(host: &Host, bytes: &[u8], at_most: usize) -> usize {
    let (mut client, _) = Client::greeted(&host.root);
    let Answer::Have { bytes: have } = client.ask(&client::put("web", bytes, None)) else { panic!() };
    let have = usize::try_from(have).unwrap();
    let id = client.send(&client::put("web", bytes, Some(have as u64)));
    let rest = &bytes[have..];
    if at_most < rest.len() {
        client.send_bytes(id, Kind::Bytes, &rest[..at_most]);
        // The line is cut: what was read before the end of input is kept.
        client.close();
        client.wait();
        return have;
    }
    for piece in rest.chunks(60_000) {
        client.send_bytes(id, Kind::Bytes, piece);
    }
    client.send_bytes(id, Kind::LastBytes, &[]);
    assert_eq!(client.answer(id), Answer::Stored);
    have
}

#[test]
fn a_bundle_that_is_cut_again_and_again_goes_on_where_it_was() {
    let host = Host::new();
    let (one, two) = versions();
    host.succeed(vec![host.stage_step(&one, None)]);
    host.bring(&encode(two.release.manifest()));
    let mut begins = Vec::new();
    for at_most in [0, 1, 20_000, 30_000, 11, usize::MAX] {
        // The operator may have been started again between: it makes the same bytes.
        begins.push(send(&host, &bundle(&two, Some(&one)), at_most));
    }
    assert_eq!(begins, [0, 0, 1, 20_001, 50_001, 50_012]);
    host.succeed(vec![step(&two, Some(&one))]);
    host.assert_whole(&two);
    host.assert_whole(&one);
}

#[test]
fn a_base_that_changed_after_the_bundle_came_is_named_and_the_full_bundle_mends_it() {
    let host = Host::new();
    let (one, two) = versions();
    host.succeed(vec![host.stage_step(&one, None)]);
    for (path, change) in [("lib/a.jar", "shorter".to_owned()), ("app.jar", text(90_000).replace('7', "8"))] {
        let step = host.stage_step(&two, Some(&one));
        let path = host.folder.release(&one.name).join(path);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, change).unwrap();
        let failure = host.fail(vec![step], StepName::Stage, Reason::StageFailed);
        assert!(failure.why.contains(path.file_name().unwrap().to_str().unwrap()), "{}", failure.why);
        assert!(!host.folder.release(&two.name).exists());
        assert_eq!(std::fs::read_dir(host.folder.dot().join("tmp")).unwrap().count(), 0, "nothing is left");
        std::fs::write(&path, before).unwrap();
    }
    std::fs::write(host.folder.release(&one.name).join("lib/a.jar"), "changed for good").unwrap();
    host.succeed(vec![host.stage_step(&two, None)]);
    host.assert_whole(&two);
}

#[test]
fn a_base_that_went_or_never_was_there_is_said_and_the_full_bundle_mends_it() {
    let (one, two) = versions();
    for was_there in [true, false] {
        let host = Host::new();
        let step = if was_there {
            host.succeed(vec![host.stage_step(&one, None)]);
            let step = host.stage_step(&two, Some(&one));
            let prune = Step::Prune { keep: Vec::new(), at_most: 0 };
            host.succeed(vec![prune]);
            assert!(!host.folder.release(&one.name).exists());
            step
        } else {
            host.stage_step(&two, Some(&one))
        };
        let failure = host.fail(vec![step], StepName::Stage, Reason::StageFailed);
        assert!(failure.why.contains("not here") || failure.why.contains("incoming"), "{}", failure.why);
        host.succeed(vec![host.stage_step(&two, None)]);
        host.assert_whole(&two);
    }
}

#[test]
fn a_bundle_that_somebody_damaged_in_incoming_is_sent_again() {
    let host = Host::new();
    let (_, two) = versions();
    let step = host.stage_step(&two, None);
    let bytes = bundle(&two, None);
    let path = host.folder.incoming(&digest(&bytes));
    let mut damaged = bytes.clone();
    damaged[60_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    host.fail(vec![step.clone()], StepName::Stage, Reason::StageFailed);
    assert!(!host.folder.release(&two.name).exists());
    let (mut client, _) = Client::greeted(&host.root);
    assert_eq!(client.ask(&client::put("web", &bytes, None)), Answer::Have { bytes: 0 }, "it is asked for again");
    drop(client);
    send(&host, &bytes, usize::MAX);
    host.bring(&encode(two.release.manifest()));
    host.succeed(vec![step]);
    host.assert_whole(&two);
}

#[test]
fn a_bundle_of_another_release_makes_no_file_of_this_one() {
    let host = Host::new();
    let (one, two) = versions();
    let Step::Stage { bundle: other, .. } = host.stage_step(&one, None) else { panic!() };
    let Step::Stage { release, digest, manifest, .. } = host.stage_step(&two, None) else { panic!() };
    let mixed = Step::Stage { release, digest, manifest, bundle: other };
    let failure = host.fail(vec![mixed], StepName::Stage, Reason::StageFailed);
    assert!(failure.why.contains("app.jar"), "{}", failure.why);
    assert!(!host.folder.release(&two.name).exists());
}

/// What a slow line carries holds up nothing: a task runs beside it.
#[test]
fn bytes_come_while_a_task_runs_and_are_staged_by_the_next() {
    let host = Host::new();
    let (one, two) = versions();
    host.bring(&encode(two.release.manifest()));
    let (mut client, _) = Client::greeted(&host.root);
    let bytes = bundle(&two, None);
    let id = client.send(&client::put("web", &bytes, Some(0)));
    client.send_bytes(id, Kind::Bytes, &bytes[..50_000]);
    host.succeed(vec![host.stage_step(&one, None)]);
    client.send_bytes(id, Kind::LastBytes, &bytes[50_000..]);
    assert_eq!(client.answer(id), Answer::Stored);
    assert!(matches!(client.ask(&Request::Look { seen: 0 }), Answer::Facts { .. }));
    host.succeed(vec![step(&two, None)]);
    host.assert_whole(&two);
}
