//! The log as its users meet it: real threads over real files and real disks.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::time::Instant;

use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;

use super::*;
use crate::audit::fixtures::{CANARY, caller, get, moment, now, permit, set, vault};
use crate::model::{Kind, Version};
use crate::telemetry::metrics::Shown;

mod obedient_disk;

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

async fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
    let line = log.refused(&About::default(), &caller(), &vault().id, &asked, &outcome, now());
    log.complete(line).await.unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(stages(&lines), ["Complete Failure"]);
    assert_eq!(lines[0]["resultDescription"], "ForbiddenByPolicy");
    assert_eq!(lines[0]["serviceAccount"], "shop/shopper");
    assert_eq!(lines[0]["properties"]["isAccessPolicyMatch"], false);
}

#[tokio::test]
async fn that_a_store_which_went_back_has_to_do_is_on_disk_before_it_is_acted_on() {
    let dir = tempfile::tempdir().unwrap();
    log_in(dir.path()).store_accepted(now()).await.unwrap();
    let lines = lines_in(dir.path());
    assert_eq!(stages(&lines), ["Complete Success"]);
    assert_eq!(lines[0]["operationName"], "StoreAccept");
    assert_eq!(lines[0].get("identity"), None);
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
async fn a_full_disk_that_is_taken_away_is_left_for_the_one_below() {
    let Some(disk) = SmallDisk::mount(MountFlags::empty()) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let dir = disk.0.path();
    let log = log_in(dir);
    until(|| log.is_writable()).await;
    let mut rest = std::fs::File::create(dir.join("filler")).unwrap();
    io::copy(&mut io::repeat(0), &mut rest).unwrap_err();
    let mut refused = false;
    for _ in 0..2_000 {
        refused |= log
            .open(About::default(), &permit(set("new")), now())
            .await
            .is_err();
    }
    assert!(refused);
    rustix::mount::unmount(dir, UnmountFlags::DETACH).unwrap();
    until(|| log.is_writable()).await;
    let entry = log
        .open(About::default(), &permit(get("db")), now())
        .await
        .unwrap();
    entry.close(&good(), now()).await.unwrap();
    assert!(stages(&lines_in(dir)).contains(&"Complete Success".to_owned()));
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
    // (A memory file system counts its pages for each processor, so near its end it may refuse one and take the next.)
    let (mut reads, mut refused) = (0, 0);
    while refused < 10 {
        let entry = log
            .open(About::default(), &permit(get("db")), now())
            .await
            .unwrap();
        refused = match entry.close(&good(), now()).await {
            Ok(()) => 0,
            Err(AuditError::Unavailable) => refused + 1,
        };
        reads += 1;
        assert!(reads < 200, "a full disk takes one read after the other");
    }
    // Nor does it count as healed because there is nothing to write for a while.
    for _ in 0..12 {
        assert!(!log.is_writable());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
