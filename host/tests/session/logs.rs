//! Logs of applications: read, followed, closed.

use std::{
    fs::{self, OpenOptions},
    io::Write,
};

use landfall_host::folder::Folder;
use landfall_host_protocol::{Answer, Frame, Kind, LogFile, Refusal, Request};

use crate::client::{Client, Root, name};

fn log(last_lines: Option<u32>, follow: bool) -> Request {
    Request::Log { folder: name("web"), file: LogFile(0), last_lines, follow }
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
    let id = client.send(&Request::Log { folder: name("web"), file: LogFile(1), last_lines: None, follow: false });
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
