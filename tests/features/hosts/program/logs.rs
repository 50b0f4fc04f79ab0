//! Logs of applications over a session: at the reader's pace, beside everything else that the session does.

use landfall::effects::program::LogPart;
use landfall_host_protocol::Refusal;

use super::*;

const LOG: &str = "/srv/landfall/shop.web/shared/log/output.log";

#[tokio::test]
async fn a_reader_that_takes_nothing_delays_no_answer_and_one_that_leaves_ends_its_log() {
    let rack = Hosts::up(1).await;
    let (program, welcome, _pushes) = connect(&rack).await;
    let absent = program.log(&folder(), LogPart::default()).await.err();
    assert!(matches!(absent, Some(ProgramError::Refused(Refusal::NotFound { .. }))), "{absent:?}");
    let whole = rack
        .host(0)
        .sh(&format!("mkdir -p $(dirname {LOG}); seq 300000 >{LOG}.1; seq 300001 600000 >{LOG}; cat {LOG}.1 {LOG}"))
        .await;
    let mut slow = program.log(&folder(), LogPart::default()).await.unwrap();
    let mut seen = welcome.seen;
    for _ in 0..20 {
        if let Some((newer, _)) = program.look(seen).await.unwrap() {
            seen = newer;
        }
    }
    // More than a host opens at once: each is closed with its reader.
    let follow = LogPart { last_lines: Some(1), follow: true, ..LogPart::default() };
    for _ in 0..80 {
        let mut stream = program.log(&folder(), follow).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "600000\n");
    }
    let mut open = Vec::new();
    let refused = loop {
        match program.log(&folder(), follow).await {
            Ok(stream) => open.push(stream),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, ProgramError::Refused(Refusal::BadInput { field, .. }) if field == "logs"), "{refused}");
    assert!(open.len() > 20, "{}", open.len());
    drop(open);

    let mut read = Vec::new();
    while let Some(bytes) = slow.next().await.unwrap() {
        read.extend(bytes);
    }
    assert!(read == whole.as_bytes(), "{} of {}", read.len(), whole.len());

    // It keeps no session alive.
    let mut following = program.log(&folder(), follow).await.unwrap();
    assert_eq!(following.next().await.unwrap().unwrap(), "600000\n");
    drop(program);
    let ended = following.next().await.unwrap_err();
    assert!(ended.ends_session(), "{ended}");
}
