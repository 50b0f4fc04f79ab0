//! Workers with played hosts: no SSH, no clock but tokio's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use landfall_host_protocol::{
    Author, Digest, Event, EventKind, FenceToken, FolderFacts, FolderName, Hello, HostFacts, MachineFacts,
    Outcome as TaskOutcome, Owner, RootFacts, Secrets, StepName, Task, TaskId, TaskResult, VERSIONS, Welcome,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::effects::{
    payload::Payload,
    program::{ChangedFolders, LogPart, LogStream, ProgramError, PutOptions, TaskNews, Told},
    ssh::{Credentials, SshTarget},
};

/// How a dial goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dial {
    Answers,
    Fails,
    Hangs,
    Panics,
}

/// What the played hosts have in common.
#[derive(Default)]
struct PlayedFleet {
    /// Of the next dials of a host; then it answers.
    dials: Mutex<BTreeMap<String, VecDeque<Dial>>>,
    dialled: AtomicUsize,
    /// What was asked, in order.
    asked: Mutex<Vec<String>>,
    /// The fleet alone keeps them.
    sessions: Mutex<Vec<Weak<Played>>>,
    /// Connections at once, and the most there were.
    open: Arc<AtomicUsize>,
    most: AtomicUsize,
    /// Tasks end when this is told.
    ends: Notify,
    tasks_wait: AtomicBool,
    /// Looks are answered while there are permits, where they wait.
    looks_wait: AtomicBool,
    looks: Notify,
}

impl PlayedFleet {
    fn living(&self) -> Vec<Arc<Played>> {
        self.sessions.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

struct Played {
    world: Arc<PlayedFleet>,
    host: String,
    closed: AtomicBool,
    gone: Notify,
    pushes: Mutex<VecDeque<ChangedFolders>>,
    pushed: Notify,
    permit: Mutex<Option<budget::ConnectionPermit>>,
}

impl Played {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.permit.lock().take();
        self.gone.notify_waiters();
        self.gone.notify_one();
        self.pushed.notify_one();
    }

    fn push(&self, folder: &FolderName, facts: FolderFacts) {
        self.pushes.lock().push_back([(folder.clone(), Some(facts))].into());
        self.pushed.notify_one();
    }

    fn say(&self, what: String) {
        self.world.asked.lock().push(format!("{} {what}", self.host));
    }

    fn alive(&self) -> Result<(), ProgramError> {
        if self.closed.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn gone() -> ProgramError {
    ProgramError::Ended("played".to_owned())
}

struct PlayedDialer(Arc<PlayedFleet>);

impl Dialer for PlayedDialer {
    fn dial<'a>(
        &'a self,
        host: &'a HostId,
        _: &'a HostAccess,
        _: &'a JumpRoute,
        permit: budget::ConnectionPermit,
    ) -> BoxFuture<'a, Result<Dialled, ProgramError>> {
        async move {
            let world = &self.0;
            world.dialled.fetch_add(1, Ordering::SeqCst);
            let next = world.dials.lock().get_mut(&host.host).and_then(VecDeque::pop_front);
            match next.unwrap_or(Dial::Answers) {
                Dial::Answers => {}
                Dial::Fails => return Err(gone()),
                Dial::Hangs => std::future::pending::<()>().await,
                Dial::Panics => panic!("played"),
            }
            let open = world.open.fetch_add(1, Ordering::SeqCst) + 1;
            world.most.fetch_max(open, Ordering::SeqCst);
            let session = Arc::new(Played {
                world: world.clone(),
                host: host.host.clone(),
                closed: AtomicBool::new(false),
                gone: Notify::new(),
                pushes: Mutex::default(),
                pushed: Notify::new(),
                permit: Mutex::new(Some(permit)),
            });
            world.sessions.lock().push(Arc::downgrade(&session));
            let (digest, supports) = (None, Default::default());
            let welcome = Welcome { version: 1, program: "1".to_owned(), digest, supports, seen: 1, facts: facts() };
            let server = "played".to_owned();
            Ok(Dialled { session: session.clone(), server, welcome, pushes: Box::new(PlayedPushes(session)) })
        }
        .boxed()
    }
}

struct PlayedPushes(Arc<Played>);

impl PushSource for PlayedPushes {
    fn next(&mut self) -> BoxFuture<'_, Option<Told>> {
        async {
            loop {
                let pushed = self.0.pushed.notified();
                if let Some(folders) = self.0.pushes.lock().pop_front() {
                    return Some(Told { seen: 2, host: None, folders });
                }
                self.0.alive().ok()?;
                pushed.await;
            }
        }
        .boxed()
    }
}

impl Session for Played {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn look(&self, _: u64) -> BoxFuture<'_, Result<Option<(u64, HostFacts)>, ProgramError>> {
        self.say("look".to_owned());
        async {
            if self.world.looks_wait.load(Ordering::SeqCst) {
                self.world.looks.notified().await;
            }
            self.alive().map(|()| None)
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        _: &'a FolderName,
        object: &'a Object,
        _: &'a PutOptions,
    ) -> BoxFuture<'a, Result<(), ProgramError>> {
        self.say(format!("put {}", object.size));
        async { self.alive() }.boxed()
    }

    fn begin<'a>(&'a self, task: &'a Task, _: &'a Secrets) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>> {
        self.say(format!("begin {} {}", task.folder, task.id.rollout));
        async { self.events(0) }.boxed()
    }

    fn attach<'a>(
        &'a self,
        folder: &'a FolderName,
        _: &'a TaskId,
        offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>> {
        self.say(format!("attach {folder} {offset}"));
        async move { self.events(offset) }.boxed()
    }

    fn cancel<'a>(&'a self, folder: &'a FolderName, _: &'a TaskId) -> BoxFuture<'a, Result<(), ProgramError>> {
        self.say(format!("cancel {folder}"));
        async { self.alive() }.boxed()
    }

    fn log<'a>(&'a self, folder: &'a FolderName, _: LogPart) -> BoxFuture<'a, Result<LogStream, ProgramError>> {
        self.say(format!("log {folder}"));
        async { Err(ProgramError::BadInput { what: "the log", why: "played".to_owned() }) }.boxed()
    }
}

impl Played {
    fn events(&self, offset: u64) -> Result<Box<dyn TaskEvents>, ProgramError> {
        self.alive()?;
        let session = self.world.living().into_iter().find(|one| std::ptr::eq(Arc::as_ptr(one), self));
        Ok(Box::new(PlayedTask { session: session.unwrap(), next: offset, ended: false }))
    }
}

/// Three events, then, where tasks wait, a wait, then the end.
struct PlayedTask {
    session: Arc<Played>,
    next: u64,
    ended: bool,
}

impl TaskEvents for PlayedTask {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<TaskNews>, ProgramError>> {
        async {
            self.session.alive()?;
            if self.next < 3 {
                let event = Event { after_millis: self.next, step: StepName::Stage, kind: EventKind::Begun };
                self.next += 1;
                return Ok(Some(TaskNews::Events { offset: self.next - 1, events: vec![event] }));
            }
            if self.ended {
                return Ok(None);
            }
            let world = self.session.world.clone();
            if world.tasks_wait.load(Ordering::SeqCst) {
                tokio::select! {
                    () = world.ends.notified() => {}
                    () = self.session.gone.notified() => return Err(gone()),
                }
            }
            self.ended = true;
            let result = TaskResult { outcome: TaskOutcome::Succeeded, journal: 7 };
            let folder = Some(Box::new(FolderFacts { journal: 7, ..FolderFacts::default() }));
            Ok(Some(TaskNews::Ended { result, folder }))
        }
        .boxed()
    }
}

fn facts() -> HostFacts {
    HostFacts {
        machine: MachineFacts {
            boot_id: "b".to_owned(),
            uptime_seconds: 1,
            uptime_millis: 1000,
            clock_millis: 1,
            machine: "x86_64".to_owned(),
            kernel: "6".to_owned(),
            uid: 0,
            pidfd: true,
            session_scoped: false,
            systemd: false,
        },
        root: RootFacts { free_bytes: 1, free_inodes: None, unfit: None },
        folders: BTreeMap::new(),
        cannot_become: BTreeMap::new(),
        sudo_too_wide: false,
        users_pending: false,
    }
}

fn credentials() -> Credentials {
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let key = russh::keys::PrivateKey::from(pair);
    Credentials::new(&key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap(), "").unwrap()
}

fn access(hash: u64) -> HostAccess {
    HostAccess {
        target: SshTarget {
            address: "192.0.2.1".to_owned(),
            port: 22,
            user: "deploy".to_owned(),
            connect_timeout: Duration::from_secs(1),
        },
        credentials: credentials(),
        jumps: vec![],
        root: "/srv".to_owned(),
        hello: Hello { versions: VERSIONS, namespace: "shop".to_owned(), become_method: None, become_users: vec![] },
        hash,
    }
}

fn fleet(world: &Arc<PlayedFleet>) -> Fleet {
    Fleet::new(Arc::new(PlayedDialer(world.clone())), FleetSettings::default())
}

fn configure(fleet: &Fleet, hosts: usize, connections: Option<usize>, hash: u64) {
    let hosts = (0..hosts).map(|n| (format!("web-{n}"), access(hash))).collect();
    fleet.configure("shop", "g", GroupAccess { hosts, connections, period: Duration::from_secs(60), least_rate: None });
}

fn host(n: usize) -> HostId {
    HostId::new("shop", "g", &format!("web-{n}"))
}

fn folder(name: &str) -> FolderName {
    FolderName::new("shop", name)
}

fn task(name: &str, rollout: &str) -> Work {
    let owner = Owner {
        control_plane_id: "p".to_owned(),
        namespace: "shop".to_owned(),
        deployment: name.to_owned(),
        uid: "u".to_owned(),
        host: "web-0".to_owned(),
    };
    let id = TaskId { uid: "u".to_owned(), rollout: rollout.to_owned(), attempt: 1, n: 0 };
    let fence = FenceToken { epoch: "p".to_owned(), created: 1, transitions: 1 };
    let task = Task { id, folder: folder(name), owner, replaces: None, fence, author: Author::Operator, steps: vec![] };
    Work::Task { task: Box::new(task), secrets: Secrets::default() }
}

fn put(size: u64) -> Work {
    let sha256 = Digest::parse(&"ab".repeat(32)).unwrap();
    let object = Object { sha256, size, payload: Payload::file("/nowhere") };
    Work::Put { folder: folder("web"), object }
}

fn order(priority: Priority, work: Work) -> Order {
    Order { priority, work, patience: Duration::from_secs(20) }
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

fn ended() -> Outcome {
    let folder = Some(Box::new(FolderFacts { journal: 7, ..FolderFacts::default() }));
    Outcome::Ended { result: TaskResult { outcome: TaskOutcome::Succeeded, journal: 7 }, folder }
}

#[tokio::test]
async fn a_task_goes_on_in_the_next_session_where_its_events_were_cut() {
    let world = Arc::new(PlayedFleet::default());
    world.tasks_wait.store(true, Ordering::SeqCst);
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    let mut ticket = fleet.submit(&host(0), order(Priority::Update, task("web", "1.0")));
    for n in 0..3 {
        assert_eq!(ticket.events().await.map(|(offset, events)| (offset, events.len())), Some((n, 1)));
    }
    let first = world.living().remove(0);
    first.close();
    until(|| world.asked.lock().iter().any(|asked| asked == "web-0 attach shop.web 3")).await;
    world.ends.notify_one();
    assert_eq!(ticket.done().await.unwrap(), ended());
    assert_eq!(world.dialled.load(Ordering::SeqCst), 2, "it was dialled again at once");
    let known = fleet.known(&host(0)).unwrap();
    assert_eq!(known.facts.unwrap().folders[&folder("web")].journal, 7, "what is true after the task is known");
}

#[tokio::test]
async fn one_task_a_folder_and_the_most_urgent_is_next() {
    let world = Arc::new(PlayedFleet::default());
    world.tasks_wait.store(true, Ordering::SeqCst);
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    let first = fleet.submit(&host(0), order(Priority::Update, task("web", "1.0")));
    until(|| !world.asked.lock().is_empty()).await;
    let second = fleet.submit(&host(0), order(Priority::Update, task("web", "2.0")));
    let stop = fleet.submit(&host(0), order(Priority::Stop, task("web", "3.0")));
    // What is of another folder, or no task, does not wait.
    let other = fleet.submit(&host(0), order(Priority::Update, task("db", "9.0")));
    assert_eq!(fleet.submit(&host(0), order(Priority::Stage, put(9))).done().await.unwrap(), Outcome::Done);
    let cancel = Work::Cancel {
        folder: folder("web"),
        task: TaskId { uid: "u".into(), rollout: "1.0".into(), attempt: 1, n: 0 },
    };
    assert_eq!(fleet.submit(&host(0), order(Priority::Stop, cancel)).done().await.unwrap(), Outcome::Done);
    until(|| world.asked.lock().len() == 4).await;
    world.tasks_wait.store(false, Ordering::SeqCst);
    let ending = tokio::spawn({
        let world = world.clone();
        async move {
            loop {
                world.ends.notify_one();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    for ticket in [first, second, stop, other] {
        assert_eq!(ticket.done().await.unwrap(), ended());
    }
    ending.abort();
    let begun: Vec<String> =
        world.asked.lock().iter().filter(|asked| asked.contains("begin shop.web")).cloned().collect();
    assert_eq!(begun, ["web-0 begin shop.web 1.0", "web-0 begin shop.web 3.0", "web-0 begin shop.web 2.0"]);
}

#[tokio::test]
async fn an_order_waits_no_longer_than_its_patience_and_names_the_cause() {
    let world = Arc::new(PlayedFleet::default());
    world.dials.lock().insert("web-0".to_owned(), vec![Dial::Fails; 1000].into());
    world.dials.lock().insert("web-1".to_owned(), vec![Dial::Hangs; 1000].into());
    let fleet = fleet(&world);
    configure(&fleet, 2, None, 1);
    until(|| fleet.known(&host(0)).unwrap().failed > 0).await;
    let brief = Order { patience: Duration::from_millis(50), ..order(Priority::Update, task("web", "1.0")) };
    let failed = fleet.submit(&host(0), brief.clone()).done().await;
    assert!(matches!(&failed, Err(FleetError::Unreached(why)) if **why == gone()), "{failed:?}");
    let failed = fleet.submit(&host(1), brief).done().await;
    assert!(matches!(failed, Err(FleetError::NotReachedYet)), "{failed:?}");
    assert!(world.asked.lock().is_empty());
}

#[tokio::test]
async fn a_panic_and_a_hanging_host_hold_up_nobody_else() {
    let world = Arc::new(PlayedFleet::default());
    world.dials.lock().insert("web-0".to_owned(), [Dial::Panics, Dial::Fails].into());
    world.dials.lock().insert("web-1".to_owned(), [Dial::Hangs].into());
    let fleet = fleet(&world);
    configure(&fleet, 3, None, 1);
    assert_eq!(fleet.submit(&host(2), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    assert_eq!(fleet.submit(&host(0), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    assert!(fleet.known(&host(1)).unwrap().facts.is_none());
}

#[tokio::test]
async fn what_a_host_tells_is_known_and_named_at_once() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    let changes = fleet.changes();
    configure(&fleet, 2, None, 1);
    let mut reached = changes.next().await;
    while reached.len() < 2 {
        reached.extend(changes.next().await);
    }
    let told = world.living().into_iter().find(|session| session.host == "web-1").unwrap();
    told.push(&folder("web"), FolderFacts { journal: 3, ..FolderFacts::default() });
    let web = Changed::Folders([folder("web")].into());
    assert_eq!(changes.next().await, [(host(1), web.clone())].into());
    let known = fleet.known(&host(1)).unwrap();
    assert_eq!(known.facts.unwrap().folders[&folder("web")].journal, 3);
    // The same again changes nothing.
    told.push(&folder("web"), FolderFacts { journal: 3, ..FolderFacts::default() });
    told.push(&folder("web"), FolderFacts { journal: 4, ..FolderFacts::default() });
    assert_eq!(changes.next().await, [(host(1), web)].into());
    assert!(changes.next().now_or_never().is_none());
    assert!(matches!(fleet.known(&host(0)).unwrap().link, Link::Connected));
}

#[tokio::test]
async fn changes_that_come_together_name_the_folders_of_each() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    let changes = fleet.changes();
    configure(&fleet, 1, None, 1);
    until(|| fleet.known(&host(0)).unwrap().facts.is_some()).await;
    assert_eq!(changes.next().await, [(host(0), Changed::Host)].into());
    let told = world.living().remove(0);
    told.push(&folder("web"), FolderFacts { journal: 1, ..FolderFacts::default() });
    told.push(&folder("db"), FolderFacts { journal: 1, ..FolderFacts::default() });
    told.push(&folder("web"), FolderFacts { journal: 2, ..FolderFacts::default() });
    let journal = |name| Some(fleet.known(&host(0))?.facts?.folders.get(&folder(name))?.journal);
    until(|| journal("web") == Some(2)).await;
    let both = Changed::Folders([folder("db"), folder("web")].into());
    assert_eq!(changes.next().await, [(host(0), both)].into());
}

#[tokio::test]
async fn a_look_that_is_wanted_during_another_one_follows_it() {
    let world = Arc::new(PlayedFleet::default());
    world.looks_wait.store(true, Ordering::SeqCst);
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    until(|| matches!(fleet.known(&host(0)).unwrap().link, Link::Connected)).await;
    let looks = || world.asked.lock().len();
    // The first ones may have come before the session.
    until(|| {
        fleet.look_now(&host(0));
        looks() == 1
    })
    .await;
    fleet.look_now(&host(0));
    world.looks_wait.store(false, Ordering::SeqCst);
    until(|| {
        world.looks.notify_waiters();
        looks() == 2
    })
    .await;
}

/// A fleet with so many connections for all namespaces.
fn fleet_of(world: &Arc<PlayedFleet>, connections: usize) -> Fleet {
    let budgets = Budgets::new(BudgetSettings { connections, ..BudgetSettings::default() }, 10_000);
    Fleet::new(Arc::new(PlayedDialer(world.clone())), FleetSettings { budgets, ..FleetSettings::default() })
}

/// Hosts of one namespace, named after it.
fn configure_namespace(fleet: &Fleet, namespace: &str, hosts: usize) {
    let hosts = (0..hosts).map(|n| (format!("{namespace}-{n}"), access(1))).collect();
    let access = GroupAccess { hosts, connections: None, period: Duration::from_secs(600), least_rate: None };
    fleet.configure(namespace, "g", access);
}

fn known_of(fleet: &Fleet, namespace: &str, hosts: usize) -> Vec<Known> {
    let id = |n| HostId::new(namespace, "g", &format!("{namespace}-{n}"));
    (0..hosts).map(|n| fleet.known(&id(n)).unwrap()).collect()
}

fn connected(fleet: &Fleet, namespace: &str, hosts: usize) -> usize {
    known_of(fleet, namespace, hosts).iter().filter(|known| matches!(known.link, Link::Connected)).count()
}

#[tokio::test]
async fn a_namespace_with_more_hosts_than_its_share_gives_back_what_others_need() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet_of(&world, 8);
    configure_namespace(&fleet, "big", 20);
    // Its own hosts take turns, and each connection that can be is kept.
    until(|| known_of(&fleet, "big", 20).iter().all(|known| known.facts.is_some())).await;
    until(|| connected(&fleet, "big", 20) == 8).await;
    configure_namespace(&fleet, "small", 3);
    until(|| connected(&fleet, "small", 3) == 3 && connected(&fleet, "big", 20) == 5).await;
    assert!(world.most.load(Ordering::SeqCst) <= 8);
    // Whoever wants something of a host that gave its connection back has it dialled.
    let dialled = world.dialled.load(Ordering::SeqCst);
    let idle = (0..20).find(|n| !matches!(known_of(&fleet, "big", 20)[*n].link, Link::Connected)).unwrap();
    let id = HostId::new("big", "g", &format!("big-{idle}"));
    assert_eq!(fleet.submit(&id, order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    assert_eq!(world.dialled.load(Ordering::SeqCst), dialled + 1);
    assert_eq!(connected(&fleet, "small", 3), 3);
}

#[tokio::test]
async fn hosts_that_never_answer_take_no_connection_from_those_that_do() {
    let world = Arc::new(PlayedFleet::default());
    for n in 0..40 {
        world.dials.lock().insert(format!("made-up-{n}"), vec![Dial::Hangs; 1000].into());
    }
    let fleet = fleet_of(&world, 8);
    configure_namespace(&fleet, "made-up", 40);
    until(|| world.dialled.load(Ordering::SeqCst) == 1).await;
    configure_namespace(&fleet, "shop", 6);
    until(|| connected(&fleet, "shop", 6) == 6).await;
    let sessions = world.living();
    let id = |n| HostId::new("shop", "g", &format!("shop-{n}"));
    for n in 0..6 {
        assert_eq!(fleet.submit(&id(n), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    }
    assert!(sessions.iter().all(|session| !session.closed.load(Ordering::SeqCst)));
    assert_eq!((world.open.load(Ordering::SeqCst), world.dialled.load(Ordering::SeqCst)), (6, 7), "they are kept");
}

#[tokio::test]
async fn fewer_connections_than_hosts_reach_all_of_them() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    configure(&fleet, 20, Some(3), 1);
    assert!(fleet.settled("shop", "g", Duration::from_secs(30)).await);
    assert!((0..20).all(|n| fleet.known(&host(n)).unwrap().facts.is_some()));
    until(|| world.open.load(Ordering::SeqCst) == 0).await;
    assert!(world.most.load(Ordering::SeqCst) <= 3);
    assert_eq!(fleet.submit(&host(7), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn a_host_that_is_reached_otherwise_is_dialled_again_and_one_that_left_is_forgotten() {
    let world = Arc::new(PlayedFleet::default());
    world.tasks_wait.store(true, Ordering::SeqCst);
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    let waiting = fleet.submit(&host(0), order(Priority::Update, task("web", "1.0")));
    until(|| world.asked.lock().len() == 1).await;
    configure(&fleet, 1, None, 1);
    configure(&fleet, 1, None, 2);
    until(|| world.asked.lock().iter().any(|asked| asked.contains("attach"))).await;
    assert_eq!(world.dialled.load(Ordering::SeqCst), 2);
    fleet.forget("shop", "g");
    assert!(matches!(waiting.done().await, Err(FleetError::Forgotten)));
    let nobody = fleet.submit(&host(0), order(Priority::Look, Work::Look)).done().await;
    assert!(matches!(nobody, Err(FleetError::Forgotten)), "{nobody:?}");
    until(|| world.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_task_that_nobody_waits_for_is_left_and_the_next_one_may_listen() {
    let world = Arc::new(PlayedFleet::default());
    world.tasks_wait.store(true, Ordering::SeqCst);
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    let left = fleet.submit(&host(0), order(Priority::Update, task("web", "1.0")));
    until(|| !world.asked.lock().is_empty()).await;
    let id = TaskId { uid: "u".into(), rollout: "1.0".into(), attempt: 1, n: 0 };
    let attach = Work::Attach { folder: folder("web"), task: id, offset: 0 };
    let next = fleet.submit(&host(0), order(Priority::Update, attach));
    drop(left);
    until(|| world.asked.lock().iter().any(|asked| asked == "web-0 attach shop.web 0")).await;
    world.ends.notify_one();
    assert_eq!(next.done().await.unwrap(), ended());
    assert_eq!(world.dialled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_known_of_a_lost_host_counts_until_it_was_dialled_in_vain() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    assert!(fleet.settled("shop", "g", Duration::from_secs(30)).await);
    world.dials.lock().insert("web-0".to_owned(), [Dial::Hangs].into());
    world.living().remove(0).close();
    until(|| world.dialled.load(Ordering::SeqCst) == 2).await;
    let known = fleet.known(&host(0)).unwrap();
    assert!(matches!(known.link, Link::Again) && known.host.is_some(), "{:?}", known.link);
    // Whoever changes how it is reached ends that dial; the next one fails.
    world.dials.lock().insert("web-0".to_owned(), vec![Dial::Fails; 1000].into());
    fleet.renew(&host(0));
    until(|| matches!(fleet.known(&host(0)).unwrap().link, Link::Lost(_))).await;
    world.dials.lock().clear();
    until(|| matches!(fleet.known(&host(0)).unwrap().link, Link::Connected)).await;
}

#[tokio::test]
async fn a_connection_that_is_wanted_anew_is_made_anew_and_what_is_known_stays() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    configure(&fleet, 1, None, 1);
    assert!(fleet.settled("shop", "g", Duration::from_secs(30)).await);
    fleet.renew(&host(0));
    until(|| world.dialled.load(Ordering::SeqCst) == 2).await;
    assert!(fleet.known(&host(0)).unwrap().host.is_some());
    // Reached otherwise: what was known is of another machine, or of another user.
    world.dials.lock().insert("web-0".to_owned(), [Dial::Hangs].into());
    configure(&fleet, 1, None, 2);
    assert!(fleet.known(&host(0)).unwrap().host.is_none(), "at once");
    until(|| world.dialled.load(Ordering::SeqCst) == 3).await;
    configure(&fleet, 1, None, 3);
    until(|| matches!(fleet.known(&host(0)).unwrap().link, Link::Connected)).await;
}

#[tokio::test]
async fn a_connection_stays_between_the_orders_of_one_who_holds_it() {
    let world = Arc::new(PlayedFleet::default());
    let fleet = fleet(&world);
    configure(&fleet, 2, Some(1), 1);
    assert!(fleet.settled("shop", "g", Duration::from_secs(30)).await);
    until(|| world.open.load(Ordering::SeqCst) == 0).await;
    let dialled = world.dialled.load(Ordering::SeqCst);
    let hold = fleet.hold(&host(0)).unwrap();
    for _ in 0..3 {
        assert_eq!(fleet.submit(&host(0), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    }
    assert_eq!((world.dialled.load(Ordering::SeqCst), world.open.load(Ordering::SeqCst)), (dialled + 1, 1));
    // The other host waits for it, and its order is ended; its place is not lost.
    let brief = Order { patience: Duration::from_millis(20), ..order(Priority::Look, Work::Look) };
    let late = fleet.submit(&host(1), brief).done().await;
    assert!(matches!(late, Err(FleetError::NotReachedYet)), "{late:?}");
    drop(hold);
    until(|| world.dialled.load(Ordering::SeqCst) == dialled + 2).await;
    assert_eq!(fleet.submit(&host(1), order(Priority::Look, Work::Look)).done().await.unwrap(), Outcome::Done);
    assert_eq!(world.dialled.load(Ordering::SeqCst), dialled + 2, "the session that came too late was still there");
}

#[tokio::test]
async fn a_log_is_read_over_the_session_that_there_is_and_none_is_made_for_it() {
    let world = Arc::new(PlayedFleet::default());
    world.dials.lock().insert("web-0".to_owned(), [Dial::Hangs].into());
    let fleet = fleet(&world);
    configure(&fleet, 2, None, 1);
    let read = |host: HostId| {
        let fleet = fleet.clone();
        async move { fleet.log(&host, folder("web"), LogPart::default()).await.map(drop).unwrap_err() }
    };
    assert!(matches!(read(host(1)).await, NoSession::Host(ProgramError::BadInput { .. })), "the host answered");
    assert!(matches!(read(host(0)).await, NoSession::Dialled));
    assert!(matches!(read(HostId::new("shop", "other", "web-0")).await, NoSession::Unwatched));
    configure(&fleet, 2, Some(1), 1);
    until(|| world.open.load(Ordering::SeqCst) == 0).await;
    assert!(matches!(read(host(1)).await, NoSession::NotKept));
}

#[tokio::test]
async fn a_host_that_waits_for_a_connection_says_so_after_a_while() {
    let world = Arc::new(PlayedFleet::default());
    world.dials.lock().insert("web-0".to_owned(), [Dial::Hangs].into());
    world.dials.lock().insert("web-1".to_owned(), [Dial::Hangs].into());
    let settings = FleetSettings { silent_wait: Duration::from_millis(20), ..FleetSettings::default() };
    let fleet = Fleet::new(Arc::new(PlayedDialer(world.clone())), settings);
    let changes = fleet.changes();
    configure(&fleet, 2, Some(1), 1);
    let mut waiting = BTreeMap::new();
    while waiting.len() < 2 {
        for id in changes.next().await.into_keys() {
            waiting.insert(id.host.clone(), fleet.known(&id).unwrap().waiting.unwrap());
        }
    }
    let waiting: Vec<_> = waiting.into_values().collect();
    let connection = Waiting::Connection(Short::DoubtfulOfGroup { most: 1 });
    assert!(waiting.contains(&connection) && waiting.contains(&Waiting::Answer), "{waiting:?}");
    assert!((0..2).all(|n| fleet.known(&host(n)).unwrap().failed == 0));
}
