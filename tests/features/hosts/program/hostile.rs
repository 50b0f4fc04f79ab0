//! A program on a host that lies: it may cost its own session, and nothing else.

use landfall_host_protocol::{Answer, FolderFacts, HostFacts, Kind, MAGIC, MachineFacts, Push, RootFacts, encode};

use super::*;

fn facts() -> HostFacts {
    HostFacts {
        machine: MachineFacts {
            boot_id: "0".to_owned(),
            uptime_seconds: 1,
            uptime_millis: 1000,
            clock_millis: 1,
            machine: "x86_64".to_owned(),
            kernel: "6.1\u{1b}]0;owned\u{7}".to_owned(),
            uid: 0,
            pidfd: true,
            session_scoped: false,
            systemd: false,
        },
        root: RootFacts { free_bytes: 1, free_inodes: None, unfit: None },
        folders: [folder(), FolderName::new("other-team", "web")]
            .into_iter()
            .map(|folder| (folder, FolderFacts::default()))
            .collect(),
        cannot_become: Default::default(),
        sudo_too_wide: false,
        users_pending: false,
    }
}

fn welcome_of(version: u16) -> Welcome {
    let supports = Default::default();
    Welcome { version, program: "1".to_owned(), digest: None, supports, seen: 1, facts: facts() }
}

fn answer(id: u32, answer: &Answer) -> Vec<u8> {
    encode(Kind::Message, id, &serde_json::to_vec(answer).unwrap()).unwrap()
}

fn welcome() -> Vec<u8> {
    let welcome = welcome_of(VERSIONS.max);
    answer(1, &Answer::Welcome(Box::new(welcome)))
}

fn push() -> Vec<u8> {
    let push = Push::Folders { seen: 2, uptime_millis: 1, folders: Default::default() };
    encode(Kind::Message, 0, &serde_json::to_vec(&push).unwrap()).unwrap()
}

/// Puts a script in the program's place that prints these bytes once, then those for ever or nothing more.
async fn forge(host: &Host, once: &[u8], for_ever: Option<&[u8]>) {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let digest = digest(&Images::embedded());
    let ever = base64(for_ever.unwrap_or_default());
    let end = if for_ever.is_some() { "while cat /srv/ever; do :; done" } else { "exec sleep 1000" };
    host.sh(&format!(
        "mkdir -p /srv/landfall/.landfall/bin; cd /srv/landfall/.landfall/bin; rm -f {digest}
        base64 -d >/srv/once <<E\n{}\nE\nbase64 -d >/srv/ever <<E\n{ever}\nE\n
        printf '#!/bin/sh\\ncat /srv/once; {end}\\n' >{digest}; chmod 755 {digest}",
        base64(once),
    ))
    .await;
}

async fn refused(rack: &Hosts, once: &[u8], for_ever: Option<&[u8]>) -> ProgramError {
    forge(rack.host(0), once, for_ever).await;
    start(rack, rack.host(0), &Images::embedded()).await.err().expect("it is believed")
}

#[tokio::test]
async fn forged_first_words_cost_their_own_session() {
    let rack = Hosts::up(1).await;
    let mut huge = vec![0xff; 4];
    huge.extend(b"M\0\0\0\x01");
    for (what, frames, word) in [
        ("a huge frame", huge, "4294967295 bytes"),
        ("an unknown kind", b"\0\0\0\0X\0\0\0\x01".to_vec(), "unknown kind"),
        ("another's id", answer(77, &Answer::Done), "nobody asked"),
        ("no welcome", answer(1, &Answer::Stored), "no welcome"),
        ("bytes", encode(Kind::Bytes, 1, b"x").unwrap(), "bytes where an answer"),
        ("no JSON", encode(Kind::Message, 1, b"{\"welcome\":").unwrap(), "can't be read"),
        ("deep JSON", encode(Kind::Message, 1, &b"[".repeat(20_000)).unwrap(), "can't be read"),
    ] {
        let error = refused(&rack, &[MAGIC, &frames].concat(), None).await;
        assert!(matches!(&error, ProgramError::Protocol(why) if why.contains(word)), "{what}: {error:?}");
    }
    let mut other = welcome_of(999);
    let error = refused(&rack, &[MAGIC, &answer(1, &Answer::Welcome(Box::new(other.clone())))].concat(), None).await;
    assert!(matches!(&error, ProgramError::Protocol(_)), "{error:?}");
    // A good one is believed, without what is another team's, and with texts that have no power.
    other.version = VERSIONS.max;
    forge(rack.host(0), &[MAGIC, &answer(1, &Answer::Welcome(Box::new(other)))].concat(), None).await;
    let (_, welcome, _) = start(&rack, rack.host(0), &Images::embedded()).await.unwrap();
    assert_eq!(welcome.facts.folders.into_keys().collect::<Vec<_>>(), [folder()]);
    assert_eq!(welcome.facts.machine.kernel, "6.1]0;owned");
}

#[tokio::test]
async fn what_sudo_says_in_a_moment_is_among_the_first_facts_and_is_not_told_again() {
    let rack = Hosts::up(1).await;
    let mut pending = welcome_of(VERSIONS.max);
    pending.facts.users_pending = true;
    let mut facts = facts();
    facts.cannot_become.insert("app".to_owned(), "a password is required".to_owned());
    let told = Push::Host { seen: 2, facts: Box::new(facts) };
    let told = encode(Kind::Message, 0, &serde_json::to_vec(&told).unwrap()).unwrap();
    let welcome = answer(1, &Answer::Welcome(Box::new(pending)));
    forge(rack.host(0), &[MAGIC, &welcome, &told].concat(), None).await;
    let (_program, welcome, mut pushes) = start(&rack, rack.host(0), &Images::embedded()).await.unwrap();
    assert!(!welcome.facts.users_pending && welcome.facts.cannot_become.contains_key("app"));
    assert!(welcome.facts.folders.contains_key(&folder()), "it tells nothing of folders");
    // Whoever is told looks at the host, and may end a session that is of no use: told of what it began with, it would begin at once again.
    let again = tokio::time::timeout(Duration::from_millis(300), pushes.next()).await;
    assert!(again.is_err(), "it is told of what the welcome has");
    // One that is not told in time is not waited for.
    let mut pending = welcome_of(VERSIONS.max);
    pending.facts.users_pending = true;
    let welcome = answer(1, &Answer::Welcome(Box::new(pending)));
    forge(rack.host(0), &[MAGIC, &welcome].concat(), None).await;
    let (_, welcome, _) = start(&rack, rack.host(0), &Images::embedded()).await.unwrap();
    assert!(welcome.facts.users_pending);
}

#[tokio::test]
async fn endless_frames_end_the_session_and_endless_noise_is_no_program() {
    let rack = Hosts::up(1).await;
    let begun = [MAGIC, &welcome()].concat();
    let flood = |kind, id, bytes| encode(kind, id, &vec![b'x'; bytes]).unwrap();
    for (what, frames, word) in [
        ("pushes", push(), "all the time"),
        ("bytes for nobody", flood(Kind::Bytes, 9, 30_000), "nobody asked"),
        ("bytes unasked", flood(Kind::Bytes, 0, 30_000), "no request"),
    ] {
        forge(rack.host(0), &begun, Some(&frames)).await;
        let ended = match start(&rack, rack.host(0), &Images::embedded()).await {
            Err(error) => error,
            Ok((program, _, mut pushes)) => {
                // Whoever listens hears the end.
                while pushes.next().await.is_some() {}
                assert!(program.is_closed(), "{what}");
                program.look(0).await.unwrap_err()
            }
        };
        assert!(matches!(&ended, ProgramError::Protocol(why) if why.contains(word)), "{what}: {ended:?}");
    }
    // The noise of a program that never begins is that of a damaged one: it is replaced.
    forge(rack.host(0), b"noise\n", Some(&b"noise\n".repeat(1000))).await;
    let (program, ..) = start(&rack, rack.host(0), &Images::embedded()).await.unwrap();
    assert!(program.was_uploaded());
}

#[tokio::test]
async fn forged_answers_to_our_questions_end_the_session() {
    let rack = Hosts::up(1).await;
    let object = landfall_host_protocol::Digest::parse(&"ab".repeat(32)).unwrap();
    let task = landfall_host_protocol::TaskId { uid: "u".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 };
    let line = landfall_host_protocol::Event {
        after_millis: 1,
        step: landfall_host_protocol::StepName::Stage,
        kind: landfall_host_protocol::EventKind::Begun,
    };
    // The first question has the id 2. What comes before it is asked is nobody's, so the script waits for the question.
    let forge_answer = async |answers: Vec<u8>| {
        forge(rack.host(0), &[MAGIC, &welcome()].concat(), None).await;
        let digest = digest(&Images::embedded());
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD.encode(answers);
        // Frames of messages have an M in their head, and the hello one more in a field's name.
        rack.host(0)
            .sh(&format!(
                "base64 -d >/srv/answers <<E\n{base64}\nE\ncd /srv/landfall/.landfall/bin
                printf '#!/bin/bash\\nLC_ALL=C; IFS= read -r -d M x; IFS= read -r -d M x; cat /srv/once; IFS= read -r -d M x; cat /srv/answers; exec sleep 1000\\n' >{digest}"
            ))
            .await;
        start(&rack, rack.host(0), &Images::embedded()).await.unwrap().0
    };
    let program = forge_answer(answer(2, &Answer::Stored)).await;
    assert!(matches!(program.look(1).await, Err(ProgramError::Protocol(_))));
    assert!(program.is_closed());

    let program = forge_answer(answer(2, &Answer::Have { bytes: 1001 })).await;
    assert!(matches!(program.have(&folder(), &object, 1000).await, Err(ProgramError::Protocol(_))));

    let program = forge_answer(answer(2, &Answer::Events { offset: 5, events: vec![line.clone()] })).await;
    let mut events = program.attach(&folder(), &task, 0).await.unwrap();
    let left_out = events.next().await;
    assert!(matches!(&left_out, Err(ProgramError::Protocol(why)) if why.contains("left out")), "{left_out:?}");

    let twice = [
        answer(2, &Answer::Events { offset: 0, events: vec![line.clone(); 3] }),
        answer(2, &Answer::Events { offset: 1, events: vec![line.clone(); 3] }),
    ];
    let program = forge_answer(twice.concat()).await;
    let mut events = program.attach(&folder(), &task, 0).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        if let Some(landfall::effects::program::TaskNews::Events { offset, events }) = events.next().await.unwrap() {
            told.push((offset, events.len()));
        }
    }
    assert_eq!(told, [(0, 3), (3, 1)], "none is told twice");
}
