//! What pods see of their files.

use super::*;

#[tokio::test]
async fn a_volume_appears_with_all_its_files_and_follows_its_secret() {
    if !can_mount("a_volume_appears_with_all_its_files_and_follows_its_secret") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert_eq!(
        (stream.open.vault.as_str(), stream.open.objects.as_str()),
        ("demo", "- secret: a")
    );
    assert_eq!(stream.open.token.expose(), b"token-1");
    assert!(
        !bench.path(&volume).exists(),
        "nothing is to be seen before there is content"
    );
    stream.files(&[("a", "1"), ("keys/b", "2")]);
    call.await.unwrap().unwrap();
    assert_eq!(
        (bench.read(&volume, "a"), bench.read(&volume, "keys/b")),
        ("1".into(), "2".into())
    );
    assert_eq!(bench.read(&volume, "ca.crt"), "bundle");

    let mut took = Vec::new();
    for n in 0..20 {
        tokio::time::sleep(quick().between_changes).await;
        let content = format!("value {n}");
        stream.files(&[("a", &content), ("keys/b", "2")]);
        took.push(until("the new value", || bench.read(&volume, "a") == content).await);
    }
    took.sort();
    eprintln!(
        "an update is in the file after {:?} (median), {:?} (worst of 20)",
        took[10], took[19]
    );
    assert!(
        took[10] < Duration::from_millis(100),
        "milliseconds: {:?}",
        took[10]
    );

    let path = bench.path(&volume);
    let folders = || {
        std::fs::read_dir(&path)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("..2")
            })
            .count()
    };
    until("replaced files are removed", || folders() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ever_sees_a_mounted_volume_without_its_files() {
    if !can_mount("nobody_ever_sees_a_mounted_volume_without_its_files") {
        return;
    }
    let mut bench = Bench::new();
    let volumes: Vec<_> = (0..20).map(|n| bench.volume(&format!("pod-{n}"))).collect();
    let paths: Vec<_> = volumes.iter().map(|volume| bench.path(volume)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&done);
    let watcher = tokio::task::spawn_blocking(move || {
        let mut seen = 0u64;
        while !watching.load(Ordering::SeqCst) {
            // A breath for the others on this machine.
            std::thread::park_timeout(Duration::from_micros(50));
            for path in &paths {
                let Ok(folder) = std::fs::File::open(path) else {
                    continue;
                };
                let outer = std::fs::metadata(path.parent().unwrap()).unwrap().dev();
                if folder.metadata().unwrap().dev() != outer {
                    let content =
                        std::fs::read_to_string(path.join("a")).expect("a mounted volume has its files");
                    assert_eq!(content, "whole");
                    seen += 1;
                }
            }
        }
        seen
    });
    let (mut published, mut streams) = (Vec::new(), Vec::new());
    for volume in &volumes {
        let call = bench.publish(volume, "token-1");
        let stream = bench.stream().await;
        stream.files(&[("a", "whole")]);
        streams.push(stream);
        // As the kubelet does: once more, if this machine took longer than the first call waits.
        published.push(match call.await.unwrap() {
            Ok(()) => Ok(()),
            Err(_) => bench.publish(volume, "token-1").await.unwrap(),
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    done.store(true, Ordering::SeqCst);
    assert!(watcher.await.unwrap() > 20);
    assert!(published.iter().all(Result::is_ok));
}

#[tokio::test]
async fn the_file_system_is_memory_of_its_own_without_execution() {
    if !can_mount("the_file_system_is_memory_of_its_own_without_execution") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, _stream) = bench.mounted("one", "1").await;
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = bench.path(&volume);
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == path.to_str())
        .unwrap();
    for option in ["noexec", "nosuid", "nodev", " - tmpfs strongroom ", "size=12288k"] {
        assert!(line.contains(option), "{option}: {line}");
    }
    let state = table
        .lines()
        .find(|line| line.contains("csi.strongroom.dev/state"))
        .unwrap();
    assert!(state.contains("mode=700") && state.contains("noexec"), "{state}");
}

#[tokio::test]
async fn after_a_revocation_a_mounted_file_keeps_its_last_value_and_is_counted() {
    if !can_mount("after_a_revocation_a_mounted_file_keeps_its_last_value_and_is_counted") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    stream.refuse(Kind::Denied, "no more");
    until("the refusal is measured", || {
        bench.metric("strongroom_oldest_refusal_seconds") != "0"
    })
    .await;
    assert_eq!(bench.metric("strongroom_mounts"), "1");
    assert_eq!(
        bench.metric("strongroom_file_updates_total{outcome=\"denied\"}"),
        "1"
    );
    assert_eq!(bench.read(&volume, "a"), "1");
    stream.refuse(Kind::Unauthenticated, "its pod is gone");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ends = bench.metric("strongroom_file_updates_total{outcome=\"unauthenticated\"}");
    assert_eq!(ends, "0", "that a pod ends is no revocation");
    stream.files(&[("a", "2")]);
    until("access is given again", || bench.read(&volume, "a") == "2").await;
    until("and measured", || {
        bench.metric("strongroom_oldest_refusal_seconds") == "0"
    })
    .await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn what_was_said_just_before_a_stream_ended_counts() {
    if !can_mount("what_was_said_just_before_a_stream_ended_counts") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    bench.stream().await.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
    // Twice at once: the second is too young when the stream ends.
    let stream = bench.stream().await;
    stream.files(&[("a", "2")]);
    stream.files(&[("a", "3")]);
    drop(stream);
    until("the last value", || bench.read(&volume, "a") == "3").await;
    let ours = || {
        let entries = std::fs::read_dir(bench.path(&volume)).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("..2")
            })
            .count()
    };
    until("replaced files go without a stream too", || ours() == 1).await;
}

#[tokio::test]
async fn with_a_group_the_group_may_read_what_the_owner_may() {
    if !can_mount("with_a_group_the_group_may_read_what_the_owner_may") {
        return;
    }
    let mut bench = Bench::new();
    let volume = Volume {
        group: Some(2000),
        ..bench.volume("one")
    };
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    let file = |path: &str, mode: u16| PlannedFile {
        path: FilePath::parse(path).unwrap(),
        mode: FileMode::new(mode).unwrap(),
        content: token("x"),
    };
    let files = vec![file("a", 0o400), file("b", 0o644), file("c/d", 0o200)];
    let _ = stream
        .say
        .send(Ok(ServeFrame::Files(FilePlan::new(files, "").unwrap())));
    call.await.unwrap().unwrap();
    for (name, mode) in [
        ("a", 0o440),
        ("b", 0o644),
        ("c/d", 0o200),
        ("ca.crt", 0o644),
        (".", 0o755),
        ("c", 0o755),
    ] {
        let there = std::fs::metadata(bench.path(&volume).join(name)).unwrap();
        assert_eq!((there.gid(), there.mode() & 0o7777), (2000, mode), "{name}");
    }
}
