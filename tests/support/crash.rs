//! The crash harness. A story is played once to list its effects, and then once for each of them with the operator killed (-9) just
//! before it, and once just after it, and started again. However that went, the end is the same, and the ledgers that the operator
//! can't touch say that nothing was lost and nothing happened twice.
//!
//! Lanes play stories side by side, each on hosts of its own that are wiped between two stories. A point that a run does not come to,
//! because it had fewer effects of that name than the first run, is taken again at the last one that there was.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use rand::{rngs::StdRng, seq::SliceRandom};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    hosts::Hosts,
    plane::{Operator, TestNamespace, namespace},
    wait::PATIENCE,
};

/// What comes after the end, should anything come, comes within that.
const QUIET: Duration = Duration::from_millis(1500);
/// For a point that a run did not come to.
const TRIES: usize = 4;
const HOSTS: usize = 3;

/// Kills everything but the host's own first process and the listening sshd, and empties its disks.
const WIPE: &str = "read -r listener </run/sshd.listener
for p in /proc/[0-9]*; do p=${p#/proc/}; case $p in 1 | $$ | $listener) ;; *) kill -KILL $p 2>/dev/null ;; esac; done
find /srv /root /home/deploy /tmp /var/tmp -mindepth 1 -delete";

/// What a story does, given where: it answers what there is when all is over, as told by everybody but the operator.
pub type Play = for<'a> fn(&'a mut Stage) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>>;

#[derive(Clone, Copy)]
pub struct Story {
    pub name: &'static str,
    pub play: Play,
}

/// Where the operator is killed: `before host.stop #2` is just before the second effect of that name, whatever it is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub when: &'static str,
    pub name: String,
    pub nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.when, self.name, self.nth)
    }
}

/// One telling of a story.
pub struct Run {
    pub end: Value,
    /// The names of the effects in their order. After a crash those of both lives.
    pub effects: Vec<String>,
    pub crashed: bool,
}

impl Run {
    fn count(&self, name: &str) -> usize {
        self.effects.iter().filter(|effect| *effect == name).count()
    }
}

/// A namespace, wiped hosts, and an operator that is to crash somewhere.
pub struct Stage {
    folder: tempfile::TempDir,
    pub space: TestNamespace,
    pub hosts: Arc<Hosts>,
    pub operator: Operator,
    crash: Option<Point>,
    crashed: bool,
}

impl Stage {
    async fn set(hosts: Arc<Hosts>, crash: Option<Point>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let wipes = hosts.all().iter().map(|host| host.sh(WIPE));
        let (space, _) = tokio::join!(namespace("crash"), futures::future::join_all(wipes));
        let ledger = folder.path().join("ledger").display().to_string();
        let mut plan = Operator::of(&[&space.name]).env("LANDFALL_EFFECTS_LEDGER", ledger);
        if let Some(Point { when, name, nth }) = &crash {
            plan = plan.env("LANDFALL_CRASH_AT", format!("{when} {name} *#{nth}"));
        }
        let operator = plan.start().await;
        Self { folder, space, hosts, operator, crash, crashed: false }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn create<K>(&self, object: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).expect("an object of this kind");
        self.space.api::<K>().create(&PostParams::default(), &object).await.expect("created");
    }

    /// Waits for an object (`Null` once it is gone), and plays `landfall dev` meanwhile: an operator that ended where it should is
    /// started again.
    pub async fn until<K>(&mut self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Send
            + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = Box::pin(watcher(self.space.api::<K>(), config).default_backoff());
        let (mut last, mut listed) = (Value::Null, false);
        loop {
            let event = tokio::select! {
                event = futures::StreamExt::next(&mut events) => event,
                () = self.operator.ended() => { self.revive().await; continue; }
                () = tokio::time::sleep_until(deadline) => None,
            };
            match event {
                Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                    last = serde_json::to_value(object).expect("JSON");
                }
                Some(Ok(watcher::Event::Delete(_) | watcher::Event::Init)) => last = Value::Null,
                Some(Ok(watcher::Event::InitDone)) => listed = true,
                Some(Err(_)) => continue,
                None => break,
            }
            if listed && fits(&last) {
                return last;
            }
        }
        let log = self.operator.log.display();
        panic!("{name} never {what}: {:#}\n{log}\n{}", last["status"], self.operator.tail());
    }

    /// The same for what is no object.
    pub async fn until_so(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < deadline, "never so: {what}\n{}", self.operator.output());
            if !self.operator.is_running() {
                self.revive().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same for what a host says.
    pub async fn until_told(&mut self, host: usize, script: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.hosts.host(host).sh(script).await.trim() != wanted {
            assert!(Instant::now() < deadline, "{script} never says {wanted}\n{}", self.operator.output());
            if !self.operator.is_running() {
                self.revive().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn revive(&mut self) {
        assert!(self.crash.is_some() && !self.crashed, "the operator ended by itself: {}", self.operator.output());
        self.crashed = true;
        self.operator.unset("LANDFALL_CRASH_AT");
        self.operator.restart().await;
    }

    /// Waits for what should not come.
    pub async fn quiet(&mut self) {
        let over = Instant::now() + QUIET;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(over) => return,
                () = self.operator.ended() => self.revive().await,
            }
        }
    }

    fn effects(&self) -> Vec<String> {
        let ledger = std::fs::read_to_string(self.path("ledger")).unwrap_or_default();
        // The last line may be on its way.
        let lines = ledger.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let names = lines.filter_map(|line| line.strip_prefix("before ")?.split(' ').next());
        names.map(str::to_owned).collect()
    }
}

/// Plays a story once, and kills the operator at the point if there is one.
pub async fn run(story: Story, crash: Option<Point>, hosts: Arc<Hosts>) -> Run {
    let mut stage = Stage::set(hosts, crash).await;
    let end = (story.play)(&mut stage).await;
    Run { end, effects: stage.effects(), crashed: stage.crashed }
}

/// All points: before and after each effect.
pub fn points(effects: &[String]) -> Vec<Point> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for effect in effects {
        *counts.entry(effect).or_default() += 1;
    }
    let all = counts.into_iter().flat_map(|(name, count)| (1..=count).map(move |nth| (name, nth)));
    all.flat_map(|(name, nth)| ["before", "after"].map(|when| Point { when, name: name.to_owned(), nth })).collect()
}

/// What the lanes share.
pub struct Sweep {
    todo: Mutex<Todo>,
    deadline: Option<Instant>,
    pub done: Mutex<Done>,
}

struct Todo {
    points: VecDeque<(Story, Arc<Run>, Point)>,
    /// So many of the first are run however long it takes: one before and one after an effect of every name.
    sample: usize,
}

#[derive(Default)]
pub struct Done {
    /// Story and point.
    pub crashed: Vec<(&'static str, Point)>,
    /// Points that no run came to, several times.
    pub unreached: Vec<String>,
    pub again: usize,
    /// Not for want of trying: the time was over.
    pub unrun: usize,
    pub wrong: Vec<String>,
}

impl Sweep {
    /// In an order by chance, but for the sample of every name, which comes first.
    pub fn new(stories: &[(Story, Arc<Run>)], only: &str, deadline: Option<Instant>, chance: &mut StdRng) -> Self {
        let mut all: Vec<(Story, Arc<Run>, Point)> = Vec::new();
        for (story, calm) in stories {
            let points = points(&calm.effects).into_iter().filter(|point| point.to_string().contains(only));
            all.extend(points.map(|point| (*story, calm.clone(), point)));
        }
        all.shuffle(chance);
        let mut met = BTreeSet::new();
        let (sample, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, _, point)| met.insert((point.when, point.name.clone())));
        let todo = Todo { sample: sample.len(), points: sample.into_iter().chain(rest).collect() };
        Self { todo: Mutex::new(todo), deadline, done: Mutex::default() }
    }

    /// How many points there are, and how many of them are run whatever the time.
    pub fn listed(&self) -> (usize, usize) {
        let todo = self.todo.lock().expect("a lock");
        (todo.points.len(), todo.sample)
    }

    fn next(&self) -> Option<(Story, Arc<Run>, Point)> {
        let mut todo = self.todo.lock().expect("a lock");
        if todo.sample == 0 && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.done.lock().expect("a lock").unrun += todo.points.len();
            todo.points.clear();
        }
        todo.sample = todo.sample.saturating_sub(1);
        todo.points.pop_front()
    }

    /// Goes through all points with so many lanes.
    pub async fn go(self: &Arc<Self>, lanes: usize) {
        let lanes = (0..lanes).map(|_| {
            let sweep = self.clone();
            tokio::spawn(async move {
                let hosts = Arc::new(Hosts::up(HOSTS).await);
                while let Some((story, calm, point)) = sweep.next() {
                    sweep.point(story, &calm, point, &hosts).await;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.expect("a lane");
        }
    }

    async fn point(&self, story: Story, calm: &Run, listed: Point, hosts: &Arc<Hosts>) {
        let mut point = listed.clone();
        for tried in 1..=TRIES {
            let began = Instant::now();
            // A task of its own: a run that fails costs its own point.
            let run = tokio::spawn(run(story, Some(point.clone()), hosts.clone())).await;
            let seconds = began.elapsed().as_secs_f32();
            let mut done = self.done.lock().expect("a lock");
            let run = match run {
                Ok(run) => run,
                Err(error) => {
                    println!("{}, crash {point}: FAILED in {seconds:.1} s: {error}", story.name);
                    return done.wrong.push(format!("{}, crash {point}: {error}", story.name));
                }
            };
            if run.end != calm.end {
                println!("{}, crash {point}: ANOTHER END in {seconds:.1} s", story.name);
                let (got, wanted) = (&run.end, &calm.end);
                return done.wrong.push(format!("{}, crash {point}: {got:#}\ninstead of {wanted:#}", story.name));
            }
            if run.crashed {
                println!("{}, crash {point}: same end in {seconds:.1} s", story.name);
                return done.crashed.push((story.name, point));
            }
            let there = run.count(&point.name);
            println!("{}, crash {point}: not reached in {seconds:.1} s, there were {there}", story.name);
            done.again += 1;
            point.nth = there.saturating_sub(tried - 1).max(1);
        }
        self.done.lock().expect("a lock").unreached.push(format!("{}, crash {listed}", story.name));
    }
}
