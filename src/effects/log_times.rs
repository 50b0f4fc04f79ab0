//! When the output of a build arrived: an index beside its log, one line `<offset> <unix seconds>` for the bytes from that offset on, in
//! their order. Each line is written before the bytes that it is of, so whoever has read these finds it.
//!
//! It is read leniently: what is not there, or can't be read, is a time that is not known, and never an error.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::logs::Log;

/// Bytes of an index that are read at once.
const BLOCK: u64 = 16 * 1024;

/// A line of the index; `None` where the time from there on is not known.
pub(crate) fn entry(offset: u64, second: Option<i64>) -> String {
    match second {
        Some(second) => format!("{offset} {second}\n"),
        None => format!("{offset} -\n"),
    }
}

fn parse(line: &str) -> Option<(u64, Option<i64>)> {
    let (offset, second) = line.split_once(' ')?;
    let second = if second == "-" { None } else { Some(second.parse().ok()?) };
    Some((offset.parse().ok()?, second))
}

/// The index of one log, read from its begin to its end as the log is.
pub(crate) struct Times {
    log: Log,
    /// The next byte of the index to read.
    next: u64,
    /// The log does not grow any more, and neither does this.
    over: bool,
    /// All of it was read.
    complete: bool,
    now: Option<i64>,
    /// What holds from later offsets on.
    ahead: VecDeque<(u64, Option<i64>)>,
}

impl Times {
    /// `over`: the log does not grow any more.
    pub fn new(log: Log, over: bool) -> Self {
        Self { log, next: 0, over, complete: false, now: None, ahead: VecDeque::new() }
    }

    /// Reads what is said of the log's bytes `from..end`. To be called when these were read.
    pub async fn read(&mut self, from: u64, end: u64) {
        while !self.complete && self.ahead.back().is_none_or(|(offset, _)| *offset < end) {
            let block = match self.log.read_times(self.next, BLOCK).await {
                Ok(block) => block,
                Err(error) => {
                    tracing::debug!(%error, "times of a log can't be read; its lines are shown without");
                    return;
                }
            };
            let Some(last) = block.iter().rposition(|byte| *byte == b'\n') else {
                self.complete = self.over;
                return;
            };
            self.next += last as u64 + 1;
            let lines = String::from_utf8_lossy(block.get(..last).unwrap_or_default()).into_owned();
            self.ahead.extend(lines.lines().filter_map(parse));
            self.pass(from);
        }
    }

    /// When the byte at `offset` arrived. Offsets are asked for in their order.
    pub fn at(&mut self, offset: u64) -> Option<Timestamp> {
        self.pass(offset);
        Timestamp::from_second(self.now?).ok()
    }

    fn pass(&mut self, offset: u64) {
        while let Some((_, second)) = self.ahead.front().filter(|(from, _)| *from <= offset) {
            self.now = *second;
            self.ahead.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        effects::{
            gate::Gate,
            store::{Store, keys},
        },
        model::ids::FenceToken,
    };

    fn log(dir: &std::path::Path) -> (Log, std::path::PathBuf, Gate) {
        let store = Store::folder(dir.join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let times = dir.join("times");
        let folder = keys::log_folder("u", "1").unwrap();
        (Log { file: dir.join("log"), times: Some(times.clone()), folder, store }, times, gate)
    }

    /// Seconds at these offsets, as a reader of a log of this size has them.
    async fn seconds(log: &Log, from: u64, size: u64, offsets: &[u64]) -> Vec<Option<i64>> {
        let mut times = Times::new(log.clone(), true);
        times.read(from, size).await;
        offsets.iter().map(|offset| times.at(*offset).map(Timestamp::as_second)).collect()
    }

    #[tokio::test]
    async fn a_byte_has_the_time_of_the_last_entry_at_or_before_it_also_from_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let (log, file, gate) = log(dir.path());
        let mut index = String::new();
        // Several blocks of it, and in its middle what no operator wrote.
        for n in 0..5000 {
            index.push_str(&entry(n * 10, Some(1_700_000_000 + n as i64)));
            if n == 2500 {
                index.push_str("what is this\n7\n\n");
            }
        }
        index.push_str(&entry(50_000, None));
        std::fs::write(&file, &index).unwrap();
        for sealed in [false, true] {
            if sealed {
                log.seal_times(&gate).await.unwrap();
                log.seal_times(&gate).await.unwrap();
                std::fs::remove_file(&file).unwrap();
            }
            let all = seconds(&log, 0, 60_000, &[0, 9, 10, 25_015, 49_999, 50_000, 59_999]).await;
            let expected = [0, 0, 1, 2501, 4999].map(|n| Some(1_700_000_000 + n));
            assert_eq!(all[..5], expected, "sealed: {sealed}");
            assert_eq!(all[5..], [None, None], "beyond its limit no time is known");
            assert_eq!(seconds(&log, 40_000, 60_000, &[40_001]).await, [Some(1_700_004_000)], "begun in the middle");
        }
    }

    #[tokio::test]
    async fn an_index_that_is_not_there_or_is_no_index_is_no_error_and_gives_no_times() {
        let dir = tempfile::tempdir().unwrap();
        let (log, file, gate) = log(dir.path());
        assert_eq!(seconds(&log, 0, 100, &[0, 50]).await, [None, None]);
        log.seal_times(&gate).await.unwrap();
        for torn in [&b"12 17000"[..], b"\n\n\xff\xff 3\n", &[b'x'; 40_000]] {
            std::fs::write(&file, torn).unwrap();
            assert_eq!(seconds(&log, 0, 100, &[0, 50]).await, [None, None]);
        }
    }

    #[tokio::test]
    async fn an_index_that_grows_is_read_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (log, file, _) = log(dir.path());
        let mut times = Times::new(log, false);
        // The second entry is half written.
        std::fs::write(&file, "0 1700000000\n10 17000").unwrap();
        times.read(0, 10).await;
        assert_eq!(times.at(5).map(Timestamp::as_second), Some(1_700_000_000));
        std::fs::write(&file, "0 1700000000\n10 1700000007\n").unwrap();
        times.read(10, 20).await;
        assert_eq!(times.at(10).map(Timestamp::as_second), Some(1_700_000_007));
    }
}
