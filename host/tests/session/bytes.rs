//! Bytes on their way to a host: whole, cut, wrong, too many.

use std::fs;

use landfall_host_protocol::{Answer, Kind, Refusal, Request};

use crate::client::{Client, Root, digest, hello, message, noise, put};

fn send(client: &mut Client, id: u32, bytes: &[u8]) {
    for piece in bytes.chunks(50_000) {
        client.send_bytes(id, Kind::Bytes, piece);
    }
    client.send_bytes(id, Kind::LastBytes, &[]);
}

#[test]
fn bytes_are_stored_under_their_digest() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let bytes = noise(3_000_000);
    assert_eq!(client.ask(&put("web", &bytes, None)), Answer::Have { bytes: 0 });
    let id = client.send(&put("web", &bytes, Some(0)));
    send(&mut client, id, &bytes);
    assert_eq!(client.answer(id), Answer::Stored);
    let stored = root.folder("web").incoming(&digest(&bytes));
    assert_eq!(fs::read(&stored).unwrap(), bytes);
    assert_eq!(client.ask(&put("web", &bytes, None)), Answer::Have { bytes: bytes.len() as u64 });
    let id = client.send(&put("web", &bytes, Some(0)));
    send(&mut client, id, &bytes);
    assert_eq!(client.answer(id), Answer::Stored, "a second time costs nothing and harms nothing");
}

#[test]
fn objects_come_side_by_side_in_one_stream() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let objects = [noise(200_000), noise(200_001), noise(300)];
    let ids: Vec<u32> = objects.iter().map(|bytes| client.send(&put("web", bytes, Some(0)))).collect();
    let longest = objects.iter().map(Vec::len).max().unwrap();
    for at in (0..longest).step_by(10_000) {
        for (id, bytes) in ids.iter().zip(&objects) {
            if at < bytes.len() {
                client.send_bytes(*id, Kind::Bytes, &bytes[at..bytes.len().min(at + 10_000)]);
            }
        }
    }
    for id in &ids {
        client.send_bytes(*id, Kind::LastBytes, &[]);
    }
    let mut answers: Vec<u32> = Vec::new();
    while answers.len() < ids.len() {
        let frame = client.frame().unwrap();
        if frame.id != 0 {
            assert_eq!(serde_json::from_slice::<Answer>(&frame.payload).unwrap(), Answer::Stored);
            answers.push(frame.id);
        }
    }
    for bytes in &objects {
        assert_eq!(&fs::read(root.folder("web").incoming(&digest(bytes))).unwrap(), bytes);
    }
}

#[test]
fn wherever_the_connection_is_cut_the_rest_is_sent_by_the_next() {
    let root = Root::new();
    let bytes = noise(150_000);
    let mut stream = message(1, &hello());
    stream.extend(message(2, &put("web", &bytes, Some(0))));
    for piece in bytes.chunks(20_000) {
        stream.extend(landfall_host_protocol::encode(Kind::Bytes, 2, piece).unwrap());
    }
    let mut offered = Vec::new();
    for cut in [3, 60, 300, 5_000, 25_000, 47_113, 99_999, stream.len()] {
        let mut client = Client::start(root.path());
        client.write(&stream[..cut]);
        client.close();
        while client.frame().is_some() {}
        client.wait();
        let (mut next, _) = Client::greeted(root.path());
        let Answer::Have { bytes: have } = next.ask(&put("web", &bytes, None)) else { panic!() };
        assert!(have < bytes.len() as u64, "nothing is whole before its digest was verified");
        offered.push(have);
    }
    assert!(offered.last() > Some(&0), "{offered:?}");
    let (mut client, _) = Client::greeted(root.path());
    let Answer::Have { bytes: have } = client.ask(&put("web", &bytes, None)) else { panic!() };
    let id = client.send(&put("web", &bytes, Some(have)));
    send(&mut client, id, &bytes[usize::try_from(have).unwrap()..]);
    assert_eq!(client.answer(id), Answer::Stored);
    assert_eq!(fs::read(root.folder("web").incoming(&digest(&bytes))).unwrap(), bytes);
}

#[test]
fn a_session_killed_in_the_middle_keeps_what_came() {
    let root = Root::new();
    let bytes = noise(1_000_000);
    let (mut client, _) = Client::greeted(root.path());
    let id = client.send(&put("web", &bytes, Some(0)));
    client.send_bytes(id, Kind::Bytes, &bytes[..400_000]);
    crate::client::until("a part", || {
        root.incoming("web").first().is_some_and(|path| fs::metadata(path).unwrap().len() == 400_000)
    });
    client.child.kill().unwrap();
    let (mut next, _) = Client::greeted(root.path());
    assert_eq!(next.ask(&put("web", &bytes, None)), Answer::Have { bytes: 400_000 });
    let id = next.send(&put("web", &bytes, Some(400_000)));
    send(&mut next, id, &bytes[400_000..]);
    assert_eq!(next.answer(id), Answer::Stored);
}

#[test]
fn an_error_in_the_middle_drains_the_frames_that_follow() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let bytes = noise(2_000_000);
    let announced =
        Request::Put { folder: crate::client::name("web"), sha256: digest(&bytes), size: 1000, from: Some(0) };
    let id = client.send(&announced);
    send(&mut client, id, &bytes);
    let answer = client.answer(id);
    assert!(matches!(&answer, Answer::Refused(Refusal::BadInput { field, .. }) if field == "size"), "{answer:?}");
    assert!(root.incoming("web").is_empty());
    assert!(matches!(client.ask(&Request::Look { seen: 0 }), Answer::Facts { .. }), "the session goes on");
}

#[test]
fn wrong_bytes_are_refused_with_their_digest() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let (expected, sent) = (noise(1000), vec![7; 1000]);
    let id = client.send(&put("web", &expected, Some(0)));
    send(&mut client, id, &sent);
    let refusal = Refusal::DigestMismatch { expected: digest(&expected), got: digest(&sent) };
    assert_eq!(client.answer(id), Answer::Refused(refusal));
    assert!(root.incoming("web").is_empty());
}

#[test]
fn a_full_disk_is_answered_with_numbers() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let bytes = noise(3 << 20);
    let script = "mount -t tmpfs -o size=2m,mode=755 none \"$1\" && exec \"$0\" session \"$1\"";
    let root = Root::new();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", script, crate::client::program()]).arg(root.path());
    let mut client = Client::of(command);
    assert!(matches!(client.ask(&hello()), Answer::Welcome(_)));
    let id = client.send(&put("web", &bytes, Some(0)));
    send(&mut client, id, &bytes);
    let answer = client.answer(id);
    let Answer::Refused(Refusal::Full(full)) = answer else { panic!("{answer:?}") };
    assert_eq!(full.needed, 3 << 20);
    assert!(full.free_bytes <= 2 << 20 && full.free_bytes > 0);
    assert!(matches!(client.ask(&Request::Look { seen: 0 }), Answer::Facts { .. }));
}
