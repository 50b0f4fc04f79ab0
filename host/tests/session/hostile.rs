//! A broken or hostile operator's end: it may cost its own session, and nothing else.

use std::{fs, time::Duration};

use landfall_host_protocol::{Answer, Kind, MAX_FRAME, Refusal, Request, encode};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::client::{Client, Root, hello, message, name, noise, put};

/// Resident bytes of a process.
fn memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn refused_field(answer: &Answer) -> &str {
    match answer {
        Answer::Refused(Refusal::BadInput { field, .. }) => field,
        _ => panic!("{answer:?}"),
    }
}

#[test]
fn any_bytes_end_a_session_or_are_refused() {
    let root = Root::new();
    let kind = prop_oneof![Just(b'M'), Just(b'B'), Just(b'L'), any::<u8>()];
    let json = prop_oneof![
        Just("{}".to_owned()),
        Just("{\"look\":{\"seen\":1}}".to_owned()),
        Just("{\"close\":{\"id\":3}}".to_owned()),
        Just("[[[[".repeat(200)),
        ".*",
    ];
    let framed = (kind, 0u32..6, json).prop_map(|(kind, id, text)| {
        let mut frame = encode(Kind::Message, id, text.as_bytes()).unwrap();
        frame[4] = kind;
        frame
    });
    let piece = prop_oneof![4 => framed, 1 => prop::collection::vec(any::<u8>(), 0..40)];
    let stream = (any::<bool>(), prop::collection::vec(piece, 0..30));
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&stream, |(greets, pieces)| {
        let mut client = Client::start(root.path());
        let mut bytes = if greets { message(1, &hello()) } else { Vec::new() };
        bytes.extend(pieces.concat());
        // A session that ended at an unreadable frame does not read the rest.
        let _ = client.try_write(&bytes);
        client.close();
        while client.frame().is_some() {}
        let status = client.wait();
        prop_assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn a_request_that_can_not_be_read_is_refused_under_its_id() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    for (text, what) in [
        ("{", "ends too early"),
        ("{]", "no JSON"),
        ("{\"format\":{}}", "none that this program knows"),
        ("\"look\"", "none that this program knows"),
        ("{\"put\":{\"folder\":\"../etc.d\",\"sha256\":\"\",\"size\":1,\"from\":0}}", "none that this program knows"),
        ("{\"look\":{\"seen\":-1}}", "none that this program knows"),
    ] {
        client.send_bytes(9, Kind::Message, text.as_bytes());
        let answer = client.answer(9);
        let Answer::Refused(Refusal::BadInput { field, why }) = &answer else { panic!("{answer:?}") };
        assert_eq!(field, "request");
        assert!(why.contains(what), "{text}: {why}");
    }
    client.send_bytes(9, Kind::Message, &[0xff; 100]);
    assert_eq!(refused_field(&client.answer(9)), "request");
    client.send_bytes(0, Kind::Message, b"{}");
    assert_eq!(refused_field(&client.answer(0)), "id");
    assert!(matches!(client.ask(&Request::Look { seen: 0 }), Answer::Facts { .. }));
}

#[test]
fn a_refusal_repeats_nothing_of_the_request() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let text = "{\"secrets\":{\"folder\":\"shop.web\",\"secrets\":{\"KEY\":[\"hunter2\"]}}}";
    client.send_bytes(9, Kind::Message, text.as_bytes());
    let frame = client.frame().unwrap();
    assert!(!String::from_utf8_lossy(&frame.payload).contains("hunter2"));
    let text = "{\"hunter2\":1}";
    client.send_bytes(9, Kind::Message, text.as_bytes());
    let frame = client.frame().unwrap();
    assert!(!String::from_utf8_lossy(&frame.payload).contains("hunter2"));
}

#[test]
fn an_oversized_frame_is_refused_under_its_id_and_ends_the_session() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    client.write(&[0xff, 0xff, 0xff, 0xff, b'M', 0, 0, 0, 77]);
    assert_eq!(refused_field(&client.answer(77)), "frame");
    assert!(client.frame().is_none());
    assert_eq!(client.wait().code(), Some(1));
}

#[test]
fn endless_bytes_of_no_request_are_dropped() {
    let root = Root::new();
    let (mut client, welcome) = Client::greeted(root.path());
    let frame = encode(Kind::Bytes, 55, &noise(MAX_FRAME)).unwrap();
    for _ in 0..100 {
        client.write(&frame);
    }
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
    let held = memory(client.child.id());
    assert!(held < 24 << 20, "{held} bytes are held");
}

#[test]
fn a_peer_that_never_reads_is_not_read_from_either() {
    let root = Root::new();
    root.folder("web");
    let mut command = std::process::Command::new(crate::client::program());
    command.arg("session").arg(root.path());
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (sender, written) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut frame = message(1, &hello());
        while stdin.write_all(&frame).is_ok() {
            frame = message(2, &Request::Look { seen: 0 });
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    let mut count = 0;
    while written.recv_timeout(Duration::from_millis(1500)).is_ok() {
        count += 1;
        assert!(count < 1_000_000, "it reads and reads");
    }
    let held = memory(child.id());
    assert!(held < 24 << 20, "{held} bytes are held");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_number_of_objects_on_their_way_is_bounded() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let objects: Vec<Vec<u8>> = (0..5).map(|n| noise(100 + n)).collect();
    let ids: Vec<u32> = objects.iter().map(|bytes| client.send(&put("web", bytes, Some(0)))).collect();
    assert_eq!(refused_field(&client.answer(ids[4])), "put");
    let id = client.send(&put("web", &objects[0], None));
    assert!(matches!(client.answer(id), Answer::Have { .. }), "puts that wait keep nobody else waiting");
}

#[test]
fn offsets_and_sizes_beyond_what_is_there_are_refused() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let bytes = noise(1000);
    let mut refused = |size, from| {
        let sha256 = crate::client::digest(&bytes);
        let answer = client.ask(&Request::Put { folder: name("web"), sha256, size, from: Some(from) });
        match answer {
            Answer::Refused(Refusal::BadInput { field, .. }) => field,
            Answer::Refused(Refusal::Full(_)) => "full".to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(1000, 1), "from");
    assert_eq!(refused(1000, u64::MAX), "from");
    assert_eq!(refused(u64::MAX, 0), "full");
    assert!(matches!(client.ask(&Request::Look { seen: 0 }), Answer::Facts { .. }));
}
