//! Logs of applications: read, followed, closed.

use std::{
    fs::{self, OpenOptions},
    io::Write,
};

use landfall_host::folder::Folder;
use landfall_host_protocol::{Answer, Frame, Kind, LogFile, LogRequest, Refusal, Request, supports};

use crate::client::{Client, Root, message, name};

fn log(last_lines: Option<u32>, follow: bool) -> Request {
    Request::Log(LogRequest { last_lines, follow, ..LogRequest::of(name("web"), LogFile(0)) })
}

fn write(folder: &Folder, text: &str) {
    fs::create_dir_all(folder.log(0).parent().unwrap()).unwrap();
    let mut file = OpenOptions::new().append(true).create(true).open(folder.log(0)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What comes under this id until so much is there, or until the end.
fn text(client: &mut Client, id: u32, until: &str) -> String {
    let mut text = Vec::new();
    loop {
        if !until.is_empty() && String::from_utf8_lossy(&text).ends_with(until) {
            return String::from_utf8(text).unwrap();
        }
        let Frame { kind, id: of, payload } = client.frame().unwrap();
        if of == 0 {
            continue;
        }
        assert_eq!(of, id, "{}", String::from_utf8_lossy(&payload));
        match kind {
            Kind::Bytes => text.extend(payload),
            Kind::LastBytes => return String::from_utf8(text).unwrap(),
            Kind::Message => panic!("{}", String::from_utf8_lossy(&payload)),
        }
    }
}

/// The next bytes under this id.
fn piece(client: &mut Client, id: u32) -> Vec<u8> {
    loop {
        let frame = client.frame().unwrap();
        if frame.id == id {
            assert_eq!(frame.kind, Kind::Bytes);
            return frame.payload;
        }
    }
}

#[test]
fn the_last_lines_of_a_log_are_sent() {
    let root = Root::new();
    let folder = root.folder("web");
    write(&folder, "a\nb\nc\n");
    fs::write(folder.log(1), "before\n").unwrap();
    let (mut client, _) = Client::greeted(root.path());
    let id = client.send(&log(Some(2), false));
    assert_eq!(text(&mut client, id, ""), "b\nc\n");
    let id = client.send(&log(None, false));
    assert_eq!(text(&mut client, id, ""), "a\nb\nc\n");
    let id = client.send(&Request::Log(LogRequest::of(name("web"), LogFile(1))));
    assert_eq!(text(&mut client, id, ""), "before\n");
}

#[test]
fn a_log_that_is_not_there_is_not_found() {
    let root = Root::new();
    let (mut client, _) = Client::greeted(root.path());
    let answer = client.ask(&log(None, false));
    assert!(matches!(&answer, Answer::Refused(Refusal::NotFound { .. })), "{answer:?}");
}

#[test]
fn a_log_is_followed_across_a_rotation_until_it_is_closed() {
    let root = Root::new();
    let folder = root.folder("web");
    let (mut client, welcome) = Client::greeted(root.path());
    let id = client.send(&log(Some(10), true));
    write(&folder, "one\n");
    assert_eq!(text(&mut client, id, "one\n"), "one\n");
    write(&folder, "two\n");
    assert_eq!(text(&mut client, id, "two\n"), "two\n");
    fs::rename(folder.log(0), folder.log(1)).unwrap();
    write(&folder, "three\n");
    assert_eq!(text(&mut client, id, "three\n"), "three\n");
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged, "looks go on beside it");
    let close = client.send(&Request::Close { id });
    assert_eq!(text(&mut client, id, ""), "");
    assert_eq!(client.answer(close), Answer::Done);
    write(&folder, "four\n");
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
}

#[test]
fn a_look_does_not_wait_for_a_log_without_end() {
    let root = Root::new();
    let folder = root.folder("web");
    write(&folder, &"x".repeat(20 << 20));
    let (mut client, welcome) = Client::greeted(root.path());
    client.send(&log(None, true));
    client.send(&Request::Look { seen: welcome.seen });
    let mut before = 0;
    loop {
        let frame = client.frame().unwrap();
        if frame.kind == Kind::Message {
            break;
        }
        before += frame.payload.len();
    }
    assert!(before < 2 << 20, "{before} bytes of the log came before the answer");
}

#[test]
fn a_log_begins_in_its_older_files_where_it_is_asked_for_whole() {
    let root = Root::new();
    let folder = root.folder("web");
    write(&folder, "c\n");
    fs::write(folder.log(2), "a\n").unwrap();
    fs::write(folder.log(1), "b\n").unwrap();
    let (mut client, welcome) = Client::greeted(root.path());
    assert!(welcome.supports.contains(supports::LOG_WHOLE));
    let mut whole = |last_lines, since_seconds| {
        let request = LogRequest { older: true, last_lines, since_seconds, ..LogRequest::of(name("web"), LogFile(0)) };
        let id = client.send(&Request::Log(request));
        text(&mut client, id, "")
    };
    assert_eq!(whole(None, None), "a\nb\nc\n");
    assert_eq!(whole(Some(2), None), "b\nc\n");
    assert_eq!(whole(Some(2), Some(3600)), "b\nc\n");
    fs::File::options().write(true).open(folder.log(1)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(whole(None, Some(3600)), "c\n");
}

#[test]
fn a_reader_that_asks_for_no_more_holds_up_no_other() {
    let root = Root::new();
    let folder = root.folder("web");
    let all: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    write(&folder, &all);
    let (mut client, welcome) = Client::greeted(root.path());
    let windowed = LogRequest { window: Some(100_000), ..LogRequest::of(name("web"), LogFile(0)) };
    let id = client.send(&Request::Log(windowed));
    assert_eq!(client.answer(id), Answer::Done, "it is open");
    let mut read = Vec::new();
    while read.len() < 100_000 {
        read.extend(piece(&mut client, id));
    }
    assert_eq!(read.len(), 100_000, "no byte beyond the window");
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
    let other = client.send(&log(Some(1), false));
    assert_eq!(text(&mut client, other, ""), "line 199999\n");

    // It goes on where it was, whatever was rotated meanwhile.
    fs::write(folder.log(1), &all[..1 << 20]).unwrap();
    fs::write(folder.log(0), &all[1 << 20..]).unwrap();
    let more = |client: &mut Client, bytes| client.write(&message(id, &Request::More { bytes }));
    more(&mut client, 7);
    assert_eq!(piece(&mut client, id), all.as_bytes()[100_000..100_007]);
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
    more(&mut client, u64::MAX);
    assert!(text(&mut client, id, "") == all[100_007..]);
    // One that comes too late is no error, nor one without a log.
    more(&mut client, 1);
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
}

#[test]
fn logs_leave_room_to_tasks_and_a_fast_one_leaves_turns_to_others() {
    let root = Root::new();
    let folder = root.folder("web");
    let endless = name("endless");
    let other = landfall_host::folder::Folder::new(root.path(), endless.clone());
    fs::create_dir_all(other.log(0).parent().unwrap()).unwrap();
    fs::write(other.log(0), vec![b'x'; 16 << 20]).unwrap();
    write(&folder, "a\n");
    let (mut client, _) = Client::greeted(root.path());
    for _ in 0..4 {
        client.send(&Request::Log(LogRequest::of(endless.clone(), LogFile(0))));
    }
    let windowed = LogRequest { window: Some(100), ..LogRequest::of(name("web"), LogFile(0)) };
    let last = client.send(&Request::Log(windowed));
    let mut is_open = false;
    let mut before = 0;
    loop {
        let frame = client.frame().unwrap();
        match frame.kind {
            Kind::Message if frame.id == last => is_open = true,
            _ if frame.id == last => break,
            _ if is_open => before += frame.payload.len(),
            _ => {}
        }
    }
    assert!(before < 1 << 20, "{before} bytes of the others came once it was open");

    let (mut client, welcome) = Client::greeted(root.path());
    let mut refused = 0;
    for _ in 0..64 {
        // Each is told what is there: it is open.
        let id = client.send(&log(None, true));
        let frame = loop {
            let frame = client.frame().unwrap();
            if frame.id == id {
                break frame;
            }
        };
        refused += usize::from(frame.kind == Kind::Message && String::from_utf8_lossy(&frame.payload).contains("logs"));
    }
    assert_eq!(refused, 32);
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
}
