//! The log as its users meet it: real threads over real files, and a disk that can be told to fail.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;

use super::*;
use crate::audit::fixtures::{CANARY, caller, get, moment, now, permit, set, vault};
use crate::audit::sink::Durable;
use crate::model::{Kind, Version};
use crate::telemetry::metrics::Shown;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Shown::DataPlane).unwrap())
}

fn log_in(dir: &Path) -> AuditLog {
    let config = FileConfig {
        dir: dir.to_owned(),
        max_bytes: 1 << 30,
        keep: 1,
    };
    AuditLog::open_file(config, metrics()).unwrap()
}

fn lines_in(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("audit.log")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn good() -> Outcome {
    Outcome::success(Some(Version([7; 16])))
}

fn stages(lines: &[Value]) -> Vec<String> {
    let of = |line: &Value| {
        format!(
            "{} {}",
            line["stage"].as_str().unwrap(),
            line["resultType"].as_str().unwrap()
        )
    };
    lines.iter().map(of).collect()
}

#[tokio::test]
async fn a_reads_line_is_there_before_its_close_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let entry = log
        .open(About::default(), &permit(get("db")), now())
        .await
        .unwrap();
    log.flush().await.unwrap();
    assert_eq!(
        lines_in(dir.path()),
        Vec::<Value>::new(),
        "nothing has happened yet"
    );
    entry.close(&good(), now()).await.unwrap();
    assert_eq!(stages(&lines_in(dir.path())), ["Complete Success"]);
}

#[tokio::test]
async fn a_changes_intent_is_there_before_its_open_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let entry = log
        .open(About::default(), &permit(set("db")), now())
        .await
        .unwrap();
    assert_eq!(stages(&lines_in(dir.path())), ["Intent Intent"]);
    entry.close(&good(), now()).await.unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(stages(&lines), ["Intent Intent", "Outcome Success"]);
    assert_eq!(lines[0]["recordId"], lines[1]["recordId"]);
    assert_eq!(lines[0].get("durationMs"), None);
    assert!(lines[1]["durationMs"].is_number());
}

#[tokio::test]
async fn no_part_of_what_is_written_to_a_vault_is_in_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let entry = log
        .open(About::default(), &permit(set("db")), now())
        .await
        .unwrap();
    entry.close(&good(), now()).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    assert!(text.contains("SecretSet") && !text.contains(CANARY));
}

#[tokio::test]
async fn a_refused_caller_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let asked = Asked::of(&get("db"));
    let outcome = Outcome::failure(Kind::Denied, "ForbiddenByPolicy");
    log.refused(&About::default(), &caller(), &vault().id, &asked, &outcome, now())
        .await
        .unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(stages(&lines), ["Complete Failure"]);
    assert_eq!(lines[0]["resultDescription"], "ForbiddenByPolicy");
    assert_eq!(lines[0]["serviceAccount"], "shop/shopper");
    assert_eq!(lines[0]["properties"]["isAccessPolicyMatch"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reads_and_changes_at_once_get_exactly_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let mut all = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let log = log.clone();
        all.spawn(async move {
            let secret = format!("object-{number}");
            let (read, change) = (permit(get(&secret)), permit(set(&secret)));
            let read = log.open(About::default(), &read, now()).await.unwrap();
            let change = log.open(About::default(), &change, now()).await.unwrap();
            let good = good();
            let (read, change) = tokio::join!(read.close(&good, now()), change.close(&good, now()));
            (read.unwrap(), change.unwrap())
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let lines = lines_in(dir.path());
    assert_eq!(lines.len(), 3_000);
    for number in 0..1_000 {
        let object = format!("/secrets/object-{number}");
        let of_object = lines.iter().filter(|line| {
            let id = line["properties"]["id"].as_str().unwrap();
            id.split(".svc").nth(1).unwrap().split("/0707").next().unwrap() == object
        });
        let mut stages = stages(&of_object.cloned().collect::<Vec<_>>());
        let intent = stages.iter().position(|stage| stage == "Intent Intent");
        let outcome = stages.iter().position(|stage| stage == "Outcome Success");
        assert!(intent < outcome, "{number}: {stages:?}");
        stages.sort();
        assert_eq!(
            stages,
            ["Complete Success", "Intent Intent", "Outcome Success"],
            "{number}"
        );
    }
    let mut ids: Vec<_> = lines.iter().map(|line| line["recordId"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2_000);
}

#[tokio::test]
async fn an_operation_that_nobody_ends_is_on_record_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    drop(
        log.open(About::default(), &permit(get("db")), now())
            .await
            .unwrap(),
    );
    drop(
        log.open(About::default(), &permit(set("db")), now())
            .await
            .unwrap(),
    );
    log.flush().await.unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(
        stages(&lines),
        ["Complete Unknown", "Intent Intent", "Outcome Unknown"]
    );
    assert_eq!(
        log.0.places.available_permits(),
        PLACES,
        "every place was given back"
    );
}

#[tokio::test]
async fn strangers_are_counted_and_leave_one_line_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let peer = "203.0.113.5".parse().unwrap();
    let refused = Outcome::failure(Kind::Unauthenticated, "Unauthorized");
    for second in 0..3 {
        for _ in 0..1_000 {
            log.unauthenticated(peer, &refused, moment(1_700_000_000 + second, 0));
        }
    }
    log.flush().await.unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["operationName"], "Authentication");
    assert_eq!(lines[0]["callerIpAddress"], "203.0.113.5");
    assert_eq!(lines[0].get("identity"), None);
    assert_eq!(lines[0]["properties"]["httpStatusCode"], 401);
    let not_shown = |line: &Value| line["properties"]["notShown"].as_u64().unwrap();
    assert_eq!(lines.iter().map(not_shown).collect::<Vec<_>>(), [0, 999, 999]);
    let text = String::from_utf8(log.0.metrics.text().unwrap()).unwrap();
    assert!(text.contains("strongroom_unauthenticated_total 3000\n"));
    // However bad the disk, a stranger gets the 401 at once: there is nothing to wait for, and nothing that fails.
}

/// A disk that obeys.
#[derive(Clone, Default)]
struct Disk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    written: Mutex<Vec<u8>>,
    /// Nothing more goes on it, but for what room was reserved for.
    full: AtomicBool,
    /// Nothing at all goes on it.
    away: AtomicBool,
    sync_fails: AtomicBool,
    syncs: AtomicUsize,
    distrusted: AtomicUsize,
    held: Mutex<bool>,
    released: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    fn lines(&self) -> Vec<Value> {
        let written = lock(&self.0.written);
        let text = std::str::from_utf8(&written).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Syncs wait until they are released.
    fn hold(&self, held: bool) {
        *lock(&self.0.held) = held;
        self.0.released.notify_all();
    }

    fn set(&self, what: &AtomicBool, to: bool) {
        what.store(to, Ordering::SeqCst);
    }
}

impl Sink for Disk {
    fn append(&mut self, lines: &[u8], _: u64, begun: bool) -> io::Result<Arc<dyn Durable>> {
        let full = self.0.full.load(Ordering::SeqCst) && !begun;
        if full || self.0.away.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lock(&self.0.written).extend_from_slice(lines);
        Ok(Arc::clone(&self.0) as Arc<dyn Durable>)
    }

    fn distrust(&mut self) {
        self.0.distrusted.fetch_add(1, Ordering::SeqCst);
    }
}

impl Durable for Inner {
    fn sync(&self) -> io::Result<()> {
        let mut held = lock(&self.held);
        while *held {
            held = self.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.sync_fails.load(Ordering::SeqCst) {
            Err(io::ErrorKind::Other.into())
        } else {
            Ok(())
        }
    }
}

fn log_on(disk: &Disk) -> AuditLog {
    AuditLog::over(Box::new(disk.clone()), metrics(), PATIENCE).unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(5), "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn reads_do_not_wait_for_the_disk_and_changes_do() {
    let disk = Disk::default();
    let log = log_on(&disk);
    disk.hold(true);
    let change = permit(set("db"));
    let mut opening = Box::pin(log.open(About::default(), &change, now()));
    let waits = tokio::time::timeout(Duration::from_millis(100), &mut opening).await;
    assert!(waits.is_err(), "the intent is not on disk yet");
    let read = log
        .open(About::default(), &permit(get("db")), now())
        .await
        .unwrap();
    read.close(&good(), now()).await.unwrap();
    disk.hold(false);
    opening.await.unwrap().close(&good(), now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_changes_shares_its_syncs() {
    let disk = Disk::default();
    let log = log_on(&disk);
    disk.hold(true);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let log = log.clone();
        all.spawn(async move {
            log.open(About::default(), &permit(set("db")), now())
                .await
                .unwrap()
        });
    }
    until(|| disk.lines().len() == 100).await;
    disk.hold(false);
    let entries = all.join_all().await;
    let syncs = disk.0.syncs.load(Ordering::SeqCst);
    assert!(syncs <= 3, "{syncs} syncs for {} changes", entries.len());
}

#[tokio::test]
async fn while_the_disk_is_full_nothing_new_is_done_and_what_has_begun_is_recorded() {
    let disk = Disk::default();
    let log = log_on(&disk);
    let begun = log
        .open(About::default(), &permit(set("begun")), now())
        .await
        .unwrap();
    let read = log
        .open(About::default(), &permit(get("read")), now())
        .await
        .unwrap();
    assert!(log.is_writable());
    disk.set(&disk.0.full, true);
    let change = log.open(About::default(), &permit(set("new")), now()).await;
    assert_eq!(change.map(|_| ()).unwrap_err(), AuditError::Unavailable);
    assert_eq!(read.close(&good(), now()).await, Err(AuditError::Unavailable));
    let asked = Asked::of(&get("db"));
    let denied = Outcome::failure(Kind::Denied, "ForbiddenByPolicy");
    let refused = log
        .refused(&About::default(), &caller(), &vault().id, &asked, &denied, now())
        .await;
    assert_eq!(refused, Err(AuditError::Unavailable));
    assert!(!log.is_writable());
    begun.close(&good(), now()).await.unwrap();
    assert_eq!(stages(&disk.lines()), ["Intent Intent", "Outcome Success"]);
    // It heals by itself, and what was refused left nothing behind.
    disk.set(&disk.0.full, false);
    until(|| log.is_writable()).await;
    let change = log
        .open(About::default(), &permit(set("new")), now())
        .await
        .unwrap();
    change.close(&good(), now()).await.unwrap();
    assert_eq!(disk.lines().len(), 4);
    assert_eq!(log.0.places.available_permits(), PLACES);
    let text = String::from_utf8(log.0.metrics.text().unwrap()).unwrap();
    assert!(text.contains("strongroom_audit_failures_total 3\n"), "{text}");
    assert!(text.contains("strongroom_audit_incidents_total{incident=\"healed\"} 1\n"));
}

#[tokio::test]
async fn an_outcome_that_could_not_be_written_is_written_when_the_log_heals() {
    let disk = Disk::default();
    let log = log_on(&disk);
    let change = log
        .open(About::default(), &permit(set("db")), now())
        .await
        .unwrap();
    disk.set(&disk.0.away, true);
    assert_eq!(
        change.close(&good(), now()).await,
        Err(AuditError::Unavailable),
        "the caller gets 503"
    );
    assert_eq!(stages(&disk.lines()), ["Intent Intent"], "which reads as unknown");
    disk.set(&disk.0.away, false);
    until(|| disk.lines().len() == 2).await;
    assert_eq!(stages(&disk.lines()), ["Intent Intent", "Outcome Success"]);
}

#[tokio::test]
async fn an_intent_that_may_not_be_on_disk_forbids_its_change() {
    let disk = Disk::default();
    let log = log_on(&disk);
    disk.set(&disk.0.sync_fails, true);
    let change = log.open(About::default(), &permit(set("db")), now()).await;
    assert_eq!(change.map(|_| ()).unwrap_err(), AuditError::Unavailable);
    assert!(!log.is_writable());
    // The file is begun anew, the sync is tried again, and the record says that nothing was done.
    disk.set(&disk.0.sync_fails, false);
    until(|| log.is_writable()).await;
    assert!(disk.0.distrusted.load(Ordering::SeqCst) >= 1);
    assert_eq!(stages(&disk.lines()), ["Intent Intent", "Outcome Failure"]);
    assert_eq!(
        disk.lines()[1]["resultDescription"],
        "Abandoned before it began: nothing was done"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_intent_is_written_leaves_a_record_that_nothing_was_done() {
    let disk = Disk::default();
    let log = log_on(&disk);
    disk.hold(true);
    let change = permit(set("db"));
    let opening = log.open(About::default(), &change, now());
    assert!(
        tokio::time::timeout(Duration::from_millis(100), opening)
            .await
            .is_err()
    );
    disk.hold(false);
    log.flush().await.unwrap();
    assert_eq!(stages(&disk.lines()), ["Intent Intent", "Outcome Failure"]);
    assert_eq!(log.0.places.available_permits(), PLACES);
}

#[tokio::test]
async fn nobody_waits_for_a_dead_disk_for_ever() {
    let disk = Disk::default();
    let patience = Duration::from_millis(200);
    let log = AuditLog::over(Box::new(disk.clone()), metrics(), patience).unwrap();
    disk.hold(true);
    let begin = Instant::now();
    let change = log.open(About::default(), &permit(set("db")), now()).await;
    assert_eq!(change.map(|_| ()).unwrap_err(), AuditError::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(5));
    disk.hold(false);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_and_never_drops_an_end() {
    let disk = Disk::default();
    let log = log_on(&disk);
    let mut open = Vec::new();
    for _ in 0..PLACES {
        open.push(
            log.open(About::default(), &permit(get("db")), now())
                .await
                .unwrap(),
        );
    }
    let read = permit(get("late"));
    let mut late = Box::pin(log.open(About::default(), &read, now()));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut late)
            .await
            .is_err()
    );
    // A stranger does not wait.
    log.unauthenticated(
        "203.0.113.5".parse().unwrap(),
        &Outcome::failure(Kind::Unauthenticated, "Unauthorized"),
        now(),
    );
    for entry in open {
        entry.close(&good(), now()).await.unwrap();
    }
    late.await.unwrap().close(&good(), now()).await.unwrap();
    assert_eq!(disk.lines().len(), PLACES + 1);
}

#[tokio::test]
async fn a_log_whose_folder_cannot_be_written_starts_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-folder");
    std::fs::write(&file, "").unwrap();
    let log = log_in(&file);
    let change = log.open(About::default(), &permit(set("db")), now()).await;
    assert_eq!(change.map(|_| ()).unwrap_err(), AuditError::Unavailable);
    assert!(!log.is_writable());
    std::fs::remove_file(&file).unwrap();
    until(|| log.is_writable()).await;
    log.open(About::default(), &permit(set("db")), now())
        .await
        .unwrap();
}

/// A real file system of one megabyte; none where this user or machine mounts nothing.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(flags: MountFlags) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size: &CStr = c"size=1m";
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, size).ok()?;
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_real_full_disk_fails_closed_keeps_its_promises_and_heals() {
    let Some(disk) = SmallDisk::mount(MountFlags::empty()) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let dir = disk.0.path();
    let log = log_in(dir);
    let mut begun = Vec::new();
    for number in 0..50 {
        let permit = permit(set(&format!("begun-{number}")));
        begun.push(log.open(About::default(), &permit, now()).await.unwrap());
    }
    let filler = dir.join("filler");
    let mut rest = std::fs::File::create(&filler).unwrap();
    let filled = io::copy(&mut io::repeat(0), &mut rest).unwrap_err();
    assert_eq!(filled.kind(), io::ErrorKind::StorageFull);
    // What is left of the room in steps is used up by new changes; then they are refused.
    let mut refused = 0;
    for _ in 0..2_000 {
        match log.open(About::default(), &permit(set("new")), now()).await {
            Ok(entry) => begun.push(entry),
            Err(AuditError::Unavailable) => refused += 1,
        }
    }
    assert!(refused > 1_000, "{refused}");
    // A read's line is shorter: a few more fit into what is left, and not one takes what was promised.
    let mut read = Ok(());
    for _ in 0..20 {
        let entry = log
            .open(About::default(), &permit(get("db")), now())
            .await
            .unwrap();
        read = entry.close(&good(), now()).await;
    }
    assert_eq!(read, Err(AuditError::Unavailable));
    // Everything that has begun finds room for its end.
    let changes = begun.len();
    for entry in begun {
        entry.close(&good(), now()).await.unwrap();
    }
    let lines = lines_in(dir);
    let outcomes = lines
        .iter()
        .filter(|line| line["stage"] == "Outcome" && line["resultType"] == "Success");
    assert_eq!(outcomes.count(), changes);
    std::fs::remove_file(&filler).unwrap();
    until(|| log.is_writable()).await;
    let change = log
        .open(About::default(), &permit(set("new")), now())
        .await
        .unwrap();
    change.close(&good(), now()).await.unwrap();
}

#[tokio::test]
async fn a_real_read_only_disk_fails_closed_and_heals() {
    let Some(disk) = SmallDisk::mount(MountFlags::RDONLY) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let log = log_in(disk.0.path());
    let change = log.open(About::default(), &permit(set("new")), now()).await;
    assert_eq!(change.map(|_| ()).unwrap_err(), AuditError::Unavailable);
    rustix::mount::mount_remount(disk.0.path(), MountFlags::empty(), c"size=1m").unwrap();
    until(|| log.is_writable()).await;
    let change = log
        .open(About::default(), &permit(set("new")), now())
        .await
        .unwrap();
    change.close(&good(), now()).await.unwrap();
}
