//! Real files in real folders.

use std::path::Path;

use super::*;
use crate::telemetry::metrics::Shown;

struct Bench {
    dir: tempfile::TempDir,
    metrics: Arc<Metrics>,
    log: LogFile,
}

fn bench(max_bytes: u64, keep: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new(Shown::DataPlane).unwrap());
    let log = log_in(dir.path(), &metrics, max_bytes, keep);
    Bench { dir, metrics, log }
}

fn log_in(dir: &Path, metrics: &Arc<Metrics>, max_bytes: u64, keep: usize) -> LogFile {
    let config = FileConfig {
        dir: dir.to_owned(),
        max_bytes,
        keep,
    };
    LogFile::new(config, Arc::clone(metrics))
}

impl Bench {
    fn append(&mut self, lines: &str) {
        self.log
            .append(lines.as_bytes(), 0, false)
            .unwrap()
            .sync()
            .unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn happened(&self, incident: &str, times: u64) -> bool {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let line = format!("strongroom_audit_incidents_total{{incident=\"{incident}\"}} {times}");
        text.lines().any(|it| it == line)
    }
}

#[test]
fn a_line_that_a_crash_cut_stays_and_the_next_begins_afresh() {
    let mut bench = bench(1 << 20, 2);
    fs::write(bench.dir.path().join(CURRENT), "{\"a\":1}\n{\"b\":").unwrap();
    bench.append("{\"c\":3}\n");
    assert_eq!(bench.read(CURRENT), "{\"a\":1}\n{\"b\":\n{\"c\":3}\n");
    assert!(bench.happened("torn_line", 1));
    bench.append("{\"d\":4}\n");
    assert_eq!(bench.read(CURRENT), "{\"a\":1}\n{\"b\":\n{\"c\":3}\n{\"d\":4}\n");
}

#[test]
fn a_process_that_comes_back_goes_on_where_it_stopped() {
    let mut bench = bench(1 << 20, 2);
    bench.append("one\n");
    bench.log = log_in(bench.dir.path(), &bench.metrics, 1 << 20, 2);
    bench.append("two\n");
    assert_eq!(bench.read(CURRENT), "one\ntwo\n");
    assert!(bench.happened("torn_line", 0));
}

#[test]
fn a_full_file_is_closed_and_as_many_are_kept_as_was_said() {
    let mut bench = bench(20, 2);
    for line in [
        "first line\n",
        "second line\n",
        "third line\n",
        "fourth line\n",
        "fifth line\n",
    ] {
        bench.append(line);
    }
    assert_eq!(
        bench.names(),
        ["audit-00000003.log", "audit-00000004.log", "audit.log"]
    );
    assert_eq!(bench.read("audit-00000003.log"), "third line\n");
    assert_eq!(bench.read("audit-00000004.log"), "fourth line\n");
    assert_eq!(bench.read(CURRENT), "fifth line\n");
    assert!(bench.happened("rotated", 4) && bench.happened("removed", 2));
    // What is kept is counted by what is there, also by the next process.
    bench.log = log_in(bench.dir.path(), &bench.metrics, 20, 2);
    bench.append("sixth line\n");
    assert_eq!(
        bench.names(),
        ["audit-00000004.log", "audit-00000005.log", "audit.log"]
    );
}

#[test]
fn a_crash_between_the_two_renames_loses_no_line() {
    let mut bench = bench(20, 2);
    bench.append("first line\n");
    bench.append("second line\n");
    fs::rename(
        bench.dir.path().join(CURRENT),
        bench.dir.path().join("audit-00000002.log"),
    )
    .unwrap();
    fs::write(bench.dir.path().join(NEXT), "left over").unwrap();
    bench.log = log_in(bench.dir.path(), &bench.metrics, 20, 2);
    bench.append("third line\n");
    bench.append("fourth line\n");
    assert_eq!(
        bench.names(),
        ["audit-00000002.log", "audit-00000003.log", "audit.log"]
    );
    assert_eq!(bench.read("audit-00000003.log"), "third line\n");
    assert_eq!(bench.read(CURRENT), "fourth line\n");
}

#[test]
fn a_file_that_was_deleted_or_replaced_is_noticed_and_no_line_goes_missing() {
    let mut bench = bench(1 << 20, 2);
    let path = bench.dir.path().join(CURRENT);
    bench.append("one\n");
    fs::remove_file(&path).unwrap();
    bench.append("two\n");
    assert_eq!(bench.read(CURRENT), "two\n");
    assert!(bench.happened("replaced", 1));
    fs::rename(&path, bench.dir.path().join("elsewhere")).unwrap();
    fs::write(&path, "somebody's").unwrap();
    bench.append("three\n");
    assert_eq!(bench.read(CURRENT), "somebody's\nthree\n");
    assert!(bench.happened("replaced", 2));
    // While nobody writes, too.
    fs::remove_file(&path).unwrap();
    bench.append("");
    assert_eq!(bench.read(CURRENT), "");
    assert!(bench.happened("replaced", 3));
}

#[test]
fn a_file_that_somebody_cut_is_noticed_and_no_line_goes_missing() {
    let mut bench = bench(1 << 20, 2);
    bench.append("a first line\n");
    let file = OpenOptions::new()
        .write(true)
        .open(bench.dir.path().join(CURRENT))
        .unwrap();
    file.set_len(3).unwrap();
    bench.append("two\n");
    assert!(
        bench.read(CURRENT).lines().any(|line| line == "two"),
        "{}",
        bench.read(CURRENT)
    );
    assert!(bench.happened("truncated", 1));
    file.set_len(0).unwrap();
    bench.append("three\n");
    assert!(bench.read(CURRENT).ends_with("three\n"));
    assert!(bench.happened("truncated", 2));
}

#[test]
fn a_folder_that_is_gone_comes_back_with_the_log() {
    let mut bench = bench(1 << 20, 2);
    bench.append("one\n");
    fs::remove_dir_all(bench.dir.path()).unwrap();
    assert!(bench.log.append(b"two\n", 0, false).is_ok());
    assert_eq!(bench.read(CURRENT), "two\n");
}

#[test]
fn others_cannot_read_the_log() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bench = bench(1 << 20, 2);
    bench.append("one\n");
    let mode = fs::metadata(bench.dir.path().join(CURRENT))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn room_is_set_aside_before_it_is_needed_and_given_back_when_a_file_is_closed() {
    let mut bench = bench(100_000, 2);
    bench.log.append(b"one\n", 1 << 20, false).unwrap();
    let blocks = |name: &str| fs::metadata(bench.dir.path().join(name)).unwrap().blocks() * 512;
    if !bench.log.sets_room_aside {
        return;
    }
    assert!(blocks(CURRENT) >= 1 << 20, "{}", blocks(CURRENT));
    assert_eq!(bench.read(CURRENT), "one\n");
    bench
        .log
        .append("x".repeat(99_999).as_bytes(), 1 << 20, false)
        .unwrap();
    let blocks = |name: &str| fs::metadata(bench.dir.path().join(name)).unwrap().blocks() * 512;
    assert!(blocks("audit-00000001.log") < 1 << 20);
    assert!(blocks(CURRENT) >= 1 << 20);
}
