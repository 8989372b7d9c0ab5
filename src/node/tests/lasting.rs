//! What stays when the process, a mount or a pod goes.

use super::*;

#[tokio::test]
async fn a_restarted_node_goes_on_with_live_mounts_and_forgets_the_others() {
    if !can_mount("a_restarted_node_goes_on_with_live_mounts_and_forgets_the_others") {
        return;
    }
    let mut bench = Bench::new();
    let (live, first) = bench.mounted("live", "1").await;
    let (gone, second) = bench.mounted("gone", "1").await;
    bench.publish(&live, "token-2").await.unwrap().unwrap();
    let mut first = first;
    first.tokens.recv().await.unwrap();
    let inode = std::fs::metadata(bench.path(&live)).unwrap().ino();
    drop((first, second));
    rustix::mount::unmount(bench.path(&gone), rustix::mount::UnmountFlags::empty()).unwrap();
    while bench.streams.try_recv().is_ok() {}

    let begun = Instant::now();
    bench.restart().await;
    let stream = loop {
        let stream = bench.stream().await;
        if !stream.say.is_closed() {
            break stream;
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(stream.open.token.expose(), b"token-2", "with the last token");
    assert_eq!(stream.open.volume, "csi-live");
    assert_eq!(bench.read(&live, "a"), "1", "the mount has stayed");
    stream.files(&[("a", "2")]);
    until("updates go on", || bench.read(&live, "a") == "2").await;
    assert_eq!(
        std::fs::metadata(bench.path(&live)).unwrap().ino(),
        inode,
        "the same file system"
    );
    let known: Vec<_> = bench
        .host
        .state
        .load()
        .unwrap()
        .into_iter()
        .map(|record| record.volume.id)
        .collect();
    assert_eq!(
        known.as_slice(),
        std::slice::from_ref(&live.id),
        "what is no longer mounted is forgotten"
    );
    bench.publish(&live, "token-3").await.unwrap().unwrap();
    assert_eq!(bench.mounts(), 1);
    assert_eq!(bench.unpublish(&live).await, Ok(()));
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn a_mounted_volume_without_a_record_is_taken_on_as_it_is() {
    if !can_mount("a_mounted_volume_without_a_record_is_taken_on_as_it_is") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    drop(stream);
    bench.volumes.stop().await;
    bench.host.state.remove(&volume.id).unwrap();
    bench.restart().await;
    bench.publish(&volume, "token-2").await.unwrap().unwrap();
    assert_eq!((bench.mounts(), bench.read(&volume, "a")), (1, "1".into()));
    assert_eq!(bench.host.state.load().unwrap().len(), 0);
    until("and remembered again", || {
        bench.host.state.load().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_volume_whose_mount_has_vanished_is_mounted_anew_when_asked_and_else_forgotten() {
    if !can_mount("a_volume_whose_mount_has_vanished_is_mounted_anew_when_asked_and_else_forgotten") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    rustix::mount::unmount(bench.path(&volume), rustix::mount::UnmountFlags::empty()).unwrap();
    let call = bench.publish(&volume, "token-2");
    let again = bench.stream().await;
    assert!(stream.say.is_closed());
    again.files(&[("a", "2")]);
    call.await.unwrap().unwrap();
    assert_eq!(bench.read(&volume, "a"), "2");

    rustix::mount::unmount(bench.path(&volume), rustix::mount::UnmountFlags::empty()).unwrap();
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    until("its stream ends", || again.say.is_closed()).await;
    until("its record goes", || bench.host.state.load().unwrap().is_empty()).await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn a_volume_that_nobody_asks_for_any_more_is_forgotten() {
    if !can_mount("a_volume_that_nobody_asks_for_any_more_is_forgotten") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert!(call.await.unwrap().is_err());
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    until("its stream ends", || stream.say.is_closed()).await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn records_are_in_memory_alone_and_broken_ones_are_dropped() {
    if !can_mount("records_are_in_memory_alone_and_broken_ones_are_dropped") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, _stream) = bench.mounted("one", "1").await;
    let state = bench.kubelet.path().join("plugins").join(DRIVER).join("state");
    let record = state.join(volume.id.as_str());
    assert_eq!(std::fs::metadata(&record).unwrap().mode() & 0o7777, 0o600);
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(state.join("csi-broken"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(state.join(".csi-half"), &whole).unwrap();
    std::fs::write(state.join("csi-empty"), "").unwrap();
    let records = bench.host.state.load().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].volume, volume);
    assert_eq!(records[0].token.expose(), b"token-1");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);

    bench.host.state.close().unwrap();
    assert!(
        state.join(volume.id.as_str()).exists(),
        "kept while something is mounted"
    );
    bench.unpublish(&volume).await.unwrap();
    bench.host.state.close().unwrap();
    assert!(!state.exists(), "nothing is left behind");
}
