//! How quickly the log becomes views: `cargo run --release --example fold_bench [INSTANCES [fold]]`.
//! With `fold` nothing but the fold of one thread, five times.
//!
//! Made up: each instance is created, gets its root volume, starts, is reconfigured and stops.

use std::{
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use stapes_core::{
    event::Event,
    ids::{CommitId, Epoch, InstanceId, NodeId, OperationId, PoolId, Revision, Sequence, StreamId},
    instance,
    port::{
        guest::ExitCause,
        image::ImageKind,
        log::{Commit, EventLog, Expected, MemoryLog, Part},
    },
    project::Project,
    record::{Actor, Body, Digest, Protocol, Record, Recorded},
    spec::IdMap,
    world::World,
};
use stapes_projections::{Options, Views};
use uuid::Uuid;

const EVENTS_EACH: usize = 5;
/// Records of one commit.
const AT_ONCE: usize = 500;
const FOREVER: Duration = Duration::from_secs(600);

struct Writer {
    log: Arc<MemoryLog>,
    parts: Vec<Part>,
    commits: u64,
    start: DateTime<Utc>,
}

impl Writer {
    async fn record(
        &mut self,
        stream: StreamId,
        tail: &mut (Revision, Option<Digest>),
        event: Event,
    ) {
        let record = Record {
            id: Uuid::from_u128(u128::from(self.commits)),
            time: self.start + TimeDelta::milliseconds(self.commits.cast_signed()),
            actor: Actor { protocol: Protocol::Unix, name: "ann".to_owned() },
            operation: OperationId(stream.id),
            caused_by: None,
            reason: None,
            epoch: Epoch(0),
            prev: tail.1,
            body: Body::Events(vec![event]),
        };
        let payload = record.encode();
        let expected = Expected::Exact(tail.0);
        *tail = (tail.0.next(), Some(Digest::of(&payload)));
        self.parts.push(Part { stream, expected, payload });
        if self.parts.len() == AT_ONCE {
            self.commit().await;
        }
    }

    async fn commit(&mut self) {
        self.commits += 1;
        let id = CommitId(Uuid::from_u128(u128::from(self.commits)));
        let parts = std::mem::take(&mut self.parts);
        if !parts.is_empty() {
            self.log.append(Commit { id, parts }).await.expect("memory takes it");
        }
    }
}

fn event(number: usize, step: usize, at: DateTime<Utc>) -> Event {
    let limit = |value: &str| ("limits.memory".to_owned(), value.to_owned());
    let event = match step {
        0 => instance::Event::Created(Box::new(instance::Created {
            name: format!("instance-{number}"),
            project: Project::default_id(),
            node: NodeId(Uuid::nil()),
            kind: ImageKind::Container,
            architecture: "x86_64".to_owned(),
            ephemeral: false,
            description: String::new(),
            config: [limit("2GiB"), ("user.number".to_owned(), number.to_string())].into(),
            devices: Default::default(),
            profiles: vec!["default".to_owned()],
            image: None,
            pool: PoolId(Uuid::nil()),
            idmap: IdMap { base: 1_000_000, size: 65_536 },
            leases: Default::default(),
            template: None,
            placement: Vec::new(),
            snapshots: Default::default(),
        })),
        1 => instance::Event::RootCreated,
        2 => instance::Event::Started { pid: 4711, at, guest: Default::default() },
        3 => instance::Event::Reconfigured(Box::new(instance::Reconfigured {
            config: [("limits.memory".to_owned(), Some("4GiB".to_owned()))].into(),
            ..Default::default()
        })),
        _ => instance::Event::Stopped { cause: ExitCause::GuestShutdown, at },
    };
    event.into()
}

async fn write(instances: usize) -> Arc<MemoryLog> {
    let (log, start) = (Arc::new(MemoryLog::default()), Utc::now());
    let mut writer = Writer { log: log.clone(), parts: Vec::new(), commits: 0, start };
    let mut tails = vec![(Revision(0), None); instances];
    for step in 0..EVENTS_EACH {
        for (number, tail) in tails.iter_mut().enumerate() {
            let id = InstanceId::derive(&[&number.to_string()]);
            writer.record(id.stream(), tail, event(number, step, start)).await;
        }
    }
    writer.commit().await;
    log
}

fn tell(what: &str, count: u64, begun: Instant) {
    let elapsed = begun.elapsed();
    let rate = count as f64 / elapsed.as_secs_f64();
    say(&format!("{what}: {:.3} s, {rate:.0}/s", elapsed.as_secs_f64()));
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output is there");
}

/// Time that this thread was on a CPU: what counts on a machine that is shared.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Says what an act of one thread took.
fn timed<T>(what: &str, count: u64, act: impl FnOnce() -> T) -> T {
    let (begun, cpu) = (Instant::now(), on_cpu());
    let done = act();
    let (elapsed, cpu) = (begun.elapsed(), on_cpu() - cpu);
    let rate = count as f64 / cpu.as_secs_f64();
    let (elapsed, cpu) = (elapsed.as_secs_f64(), cpu.as_secs_f64());
    say(&format!("{what}: {elapsed:.3} s, on CPU {cpu:.3} s, {rate:.0}/s of CPU"));
    done
}

/// One thread, nothing but the fold.
async fn fold_alone(log: &MemoryLog) -> World {
    let stored = log.read(Sequence(1), usize::MAX).await.expect("memory is there");
    let count = stored.len() as u64;
    timed("decode", count, || {
        for stored in &stored {
            std::hint::black_box(Record::decode(&stored.payload).expect("it was encoded"));
        }
    });
    let read = |stored| Recorded::read(stored).expect("it was encoded");
    let recorded: Vec<_> =
        timed("decode and digest, kept", count, || stored.iter().map(read).collect());
    let mut world = World::default();
    timed("apply", count, || {
        recorded.iter().for_each(|recorded| world.apply(recorded).expect("it is whole"));
    });
    drop(recorded);
    let mut world = World::default();
    timed("decode, digest and apply", count, || {
        stored.iter().for_each(|stored| world.apply(&read(stored)).expect("it is whole"));
    });
    timed("a copy of the world", 1, || drop(std::hint::black_box(world.clone())));
    world
}

/// Looks at one instance while 10,000 events a second are followed.
async fn looks(log: &Arc<MemoryLog>, views: &Views, kind: &str) {
    let mut writer = Writer { log: log.clone(), parts: Vec::new(), commits: 0, start: Utc::now() };
    writer.commits = log.head().await.expect("memory is there").0;
    let mut took = Vec::new();
    let count = views.world().instances.len();
    for second in 0..100 {
        for number in 0..100 {
            let name = format!("{kind} {} {second} {number}", views.sequence());
            let stream = InstanceId::derive(&[&name]).stream();
            let mut tail = (Revision(0), None);
            writer.record(stream, &mut tail, event(number, 0, writer.start)).await;
        }
        writer.commit().await;
        for number in 0..50 {
            let id = InstanceId::derive(&[&(number * count / 100).to_string()]);
            let begun = Instant::now();
            std::hint::black_box(views.read(|world| world.instances.get(&id).cloned()));
            took.push(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1000];
    let (half, most, worst) = (at(500), at(990), at(1000));
    say(&format!("a look at one of {count}: p50 {half:?}, p99 {most:?}, worst {worst:?}"));
    let head = log.head().await.expect("memory is there");
    views.wait_for(head, FOREVER).await.expect("it gets there");
}

async fn views(log: &Arc<MemoryLog>, directory: Option<&Path>) {
    let head = log.head().await.expect("memory is there");
    let kind = if directory.is_some() { "sled" } else { "memory" };
    let begun = Instant::now();
    let views = Views::open(directory, log.clone(), Options::default()).await.expect("it opens");
    let warm = views.sequence();
    let task = tokio::spawn(views.clone().run());
    views.wait_for(head, FOREVER).await.expect("it gets there");
    tell(&format!("views live ({kind}, from {warm})"), head.0, begun);
    while views.indexed() < head {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tell(&format!("index complete ({kind})"), head.0, begun);
    looks(log, &views, kind).await;
    let id = InstanceId::derive(&["7"]).stream();
    let begun = Instant::now();
    let page = views.timeline(&[id], None, 100).await.expect("it is indexed");
    tell(&format!("timeline of {} entries", page.rows.len()), 1, begun);
    task.abort();
    let _ = task.await;
}

#[tokio::main]
async fn main() {
    let instances = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(200_000);
    let begun = Instant::now();
    let log = write(instances).await;
    let head = log.head().await.expect("memory is there");
    tell("written", head.0, begun);
    if std::env::args().nth(2).is_some_and(|it| it == "fold") {
        for _ in 0..5 {
            drop(fold_alone(&log).await);
        }
        return;
    }
    drop(fold_alone(&log).await);
    views(&log, None).await;
    let directory = tempfile::tempdir().expect("there is room");
    views(&log, Some(directory.path())).await;
    views(&log, Some(directory.path())).await;
}
