//! A disk that fails when it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex, PoisonError};

use super::*;
use crate::audit::sink::Durable;

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
async fn who_reads_again_and_again_is_recorded_in_order_and_refused_from_the_moment_the_disk_is_full() {
    let disk = Disk::default();
    let log = log_on(&disk);
    let (asked, outcome) = (Asked::of(&get("db")), good());
    let (reader, full) = (log.clone(), disk.clone());
    let alone = tokio::spawn(async move {
        let log = reader;
        let read = || {
            log.read(
                &About::default(),
                &permit(get("db")),
                &asked,
                &outcome,
                now(),
                now(),
            )
        };
        for _ in 0..3 {
            log.complete(read()).await.unwrap();
        }
        // Nobody came between, so no queue is needed from the second on.
        assert!(log.0.writer.has_come_last());
        full.set(&full.0.full, true);
        assert_eq!(log.complete(read()).await, Err(AuditError::Unavailable));
        assert!(!log.is_writable());
        full.set(&full.0.full, false);
        until(|| log.is_writable()).await;
        log.complete(read()).await.unwrap();
    });
    alone.await.unwrap();
    let ids: Vec<_> = disk
        .lines()
        .iter()
        .map(|line| {
            line["recordId"]
                .as_str()
                .unwrap()
                .rsplit('-')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(ids, ["0", "1", "2", "4"]);
    assert_eq!(log.0.places.available_permits(), PLACES);
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
    let line = log.refused(&About::default(), &caller(), &vault().id, &asked, &denied, now());
    assert_eq!(log.complete(line).await, Err(AuditError::Unavailable));
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
async fn the_end_of_a_change_whose_intent_was_never_written_is_no_news() {
    let disk = Disk::default();
    let log = log_on(&disk);
    let change = log
        .open(About::default(), &permit(set("db")), now())
        .await
        .unwrap();
    let never_begun = change.id.number + 1;
    drop(log.0.write(b"{}\n".to_vec(), Purpose::Outcome(never_begun), None));
    change.close(&good(), now()).await.unwrap();
    assert_eq!(stages(&disk.lines()), ["Intent Intent", "Outcome Success"]);
}

/// A sink with a defect, which comes to light within somebody's write.
struct Defect {
    disk: Disk,
    strikes: Arc<AtomicBool>,
}

impl Sink for Defect {
    fn append(&mut self, lines: &[u8], reserve: u64, begun: bool) -> io::Result<Arc<dyn Durable>> {
        let keeper = std::thread::current().name() == Some("audit-keep");
        let strikes = !keeper && !lines.is_empty() && self.strikes.swap(false, Ordering::SeqCst);
        assert!(!strikes, "a defect");
        self.disk.append(lines, reserve, begun)
    }

    fn distrust(&mut self) {
        self.disk.distrust();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_within_a_write_is_its_callers_and_the_log_goes_on() {
    let (disk, strikes) = (Disk::default(), Arc::new(AtomicBool::new(false)));
    let sink = Defect {
        disk: disk.clone(),
        strikes: Arc::clone(&strikes),
    };
    let log = AuditLog::over(Box::new(sink), metrics(), PATIENCE).unwrap();
    let begun = log
        .open(About::default(), &permit(set("begun")), now())
        .await
        .unwrap();
    strikes.store(true, Ordering::SeqCst);
    // The keeper may be quicker than the caller, and meets no defect.
    let mut written_by_the_keeper = 0;
    loop {
        let struck = log.clone();
        let change =
            tokio::spawn(async move { struck.open(About::default(), &permit(set("struck")), now()).await });
        match change.await {
            Ok(entry) => drop(entry.unwrap()),
            Err(end) => {
                assert!(end.is_panic());
                break;
            }
        }
        written_by_the_keeper += 1;
        assert!(written_by_the_keeper < 10, "the defect strikes nobody");
    }
    log.flush().await.unwrap();
    assert!(log.is_writable());
    begun.close(&good(), now()).await.unwrap();
    let read = log
        .open(About::default(), &permit(get("read")), now())
        .await
        .unwrap();
    read.close(&good(), now()).await.unwrap();
    let expected = ["Intent Intent", "Outcome Success", "Complete Success"];
    if written_by_the_keeper == 0 {
        assert_eq!(
            stages(&disk.lines()),
            expected,
            "of what was struck nothing is there"
        );
    }
    assert_eq!(
        log.0.places.available_permits(),
        PLACES,
        "every place is given back"
    );
}
