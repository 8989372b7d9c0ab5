//! What the kubelet asks, and what it is told.

use super::*;

#[tokio::test]
async fn the_first_call_tells_why_and_the_next_waits_until_it_is_healed() {
    if !can_mount("the_first_call_tells_why_and_the_next_waits_until_it_is_healed") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let begun = Instant::now();
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    stream.refuse(
        Kind::Denied,
        "The service account 'app' does not have secrets get permission on key vault 'demo'.",
    );
    let error = call.await.unwrap().unwrap_err();
    assert!(begun.elapsed() >= quick().first_call && begun.elapsed() < Duration::from_secs(2));
    assert_eq!(
        error.to_string(),
        "The service account 'app' does not have secrets get permission on key vault 'demo'."
    );
    assert_eq!(
        error.kind(),
        Kind::Unavailable,
        "the kubelet must try again, and unmount in the end"
    );

    let call = bench.publish(&volume, "token-2");
    tokio::time::sleep(quick().first_call * 2).await;
    assert!(!call.is_finished(), "held");
    let begun = Instant::now();
    stream.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "at once: {:?}",
        begun.elapsed()
    );
    assert_eq!(bench.read(&volume, "a"), "1");
}

#[tokio::test]
async fn what_can_never_work_is_told_at_once_and_for_good() {
    if !can_mount("what_can_never_work_is_told_at_once_and_for_good") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    stream.refuse(Kind::Invalid, "item 1 of objects: a mode is an octal number");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.to_string(), "item 1 of objects: a mode is an octal number");
    assert!(
        stream.say.is_closed(),
        "and no stream stays behind, since the kubelet will not unmount it"
    );
}

#[tokio::test]
async fn a_call_that_waits_returns_when_its_pod_is_being_deleted() {
    if !can_mount("a_call_that_waits_returns_when_its_pod_is_being_deleted") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert_eq!(call.await.unwrap(), Err(PublishError::Unanswered));
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = stream.say.send(Ok(ServeFrame::PodEnding));
    assert_eq!(
        timeout(Duration::from_secs(1), call).await.unwrap().unwrap(),
        Err(PublishError::PodEnding)
    );
}

#[tokio::test]
async fn a_republish_swaps_the_token_and_always_succeeds() {
    if !can_mount("a_republish_swaps_the_token_and_always_succeeds") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, mut stream) = bench.mounted("one", "1").await;
    bench.publish(&volume, "token-1").await.unwrap().unwrap();
    bench.publish(&volume, "token-2").await.unwrap().unwrap();
    assert_eq!(
        stream.tokens.recv().await.unwrap().expose(),
        b"token-2",
        "the same one is not sent again"
    );
    stream.refuse(Kind::Denied, "no more");
    bench.publish(&volume, "token-3").await.unwrap().unwrap();
    assert_eq!(stream.tokens.recv().await.unwrap().expose(), b"token-3");
    bench.fake.down.store(true, Ordering::SeqCst);
    drop(stream);
    bench.publish(&volume, "token-4").await.unwrap().unwrap();
    assert_eq!(bench.read(&volume, "a"), "1");
    bench.fake.down.store(false, Ordering::SeqCst);
    assert_eq!(
        bench.stream().await.open.token.expose(),
        b"token-4",
        "the next stream begins with the youngest"
    );
}

#[tokio::test]
async fn while_nobody_answers_the_pod_is_told_and_the_volume_comes_when_somebody_does() {
    if !can_mount("while_nobody_answers_the_pod_is_told_and_the_volume_comes_when_somebody_does") {
        return;
    }
    let mut bench = Bench::new();
    bench.fake.down.store(true, Ordering::SeqCst);
    let volume = bench.volume("one");
    let error = bench.publish(&volume, "token-1").await.unwrap().unwrap_err();
    assert!(
        error.to_string().ends_with("as soon as it can: nobody there"),
        "{error}"
    );
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.fake.down.store(false, Ordering::SeqCst);
    let stream = bench.stream().await;
    let unavailable = Unavailable {
        message: "the vault is starting".to_owned(),
        retry_after_seconds: 0,
    };
    let _ = stream.say.send(Ok(ServeFrame::Unavailable(unavailable)));
    drop(stream);
    let stream = bench.stream().await;
    stream.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn unmounting_needs_nobody_and_may_be_asked_again() {
    if !can_mount("unmounting_needs_nobody_and_may_be_asked_again") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    bench.fake.down.store(true, Ordering::SeqCst);
    drop(stream);
    // Somebody on the node has a file open: it must not keep the pod from ending.
    let _open = std::fs::File::open(bench.path(&volume).join("a")).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.unpublish(&volume).await, Ok(()));
        assert!(!bench.path(&volume).exists());
    }
    assert_eq!(bench.mounts(), 0);
    assert!(bench.host.state.load().unwrap().is_empty());

    // After a reboot: a plain folder, and nothing known.
    std::fs::create_dir(bench.path(&volume)).unwrap();
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
    // The kubelet has cleaned up already.
    std::fs::remove_dir_all(bench.kubelet.path().join("pods")).unwrap();
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
}

#[tokio::test]
async fn a_folder_with_files_that_are_not_ours_is_not_emptied() {
    if !can_mount("a_folder_with_files_that_are_not_ours_is_not_emptied") {
        return;
    }
    let bench = Bench::new();
    let volume = bench.volume("one");
    std::fs::create_dir(bench.path(&volume)).unwrap();
    std::fs::write(bench.path(&volume).join("precious"), "x").unwrap();
    assert!(matches!(
        bench.unpublish(&volume).await,
        Err(FilesError::Unmount(_))
    ));
    assert_eq!(bench.read(&volume, "precious"), "x");
}

#[tokio::test]
async fn unmounting_ends_a_call_that_waits() {
    if !can_mount("unmounting_ends_a_call_that_waits") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert!(call.await.unwrap().is_err());
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
    assert_eq!(
        timeout(Duration::from_secs(1), call).await.unwrap().unwrap(),
        Err(PublishError::Ended)
    );
    assert!(stream.say.is_closed());
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn three_hundred_pods_that_start_at_once_all_get_their_files() {
    if !can_mount("three_hundred_pods_that_start_at_once_all_get_their_files") {
        return;
    }
    let mut bench = Bench::new();
    let volumes: Vec<_> = (0..300).map(|n| bench.volume(&format!("pod-{n}"))).collect();
    let mut calls: Vec<_> = volumes
        .iter()
        .map(|volume| bench.publish(volume, volume.id.as_str()))
        .collect();
    let mut streams = Vec::new();
    for _ in &volumes {
        let stream = bench.stream().await;
        stream.files(&[("a", &stream.open.volume)]);
        streams.push(stream);
    }
    for (volume, call) in volumes.iter().zip(&mut calls) {
        // One that took longer than the first call's time is asked for again, as the kubelet does.
        if call.await.unwrap().is_err() {
            bench.publish(volume, volume.id.as_str()).await.unwrap().unwrap();
        }
        assert_eq!(bench.read(volume, "a"), volume.id.as_str());
    }
    assert_eq!(bench.mounts(), 300);
    let ends: Vec<_> = volumes.iter().map(|volume| bench.unpublish(volume)).collect();
    assert!(futures::future::join_all(ends).await.iter().all(Result::is_ok));
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn links_on_the_way_to_a_target_are_not_followed() {
    if !can_mount("links_on_the_way_to_a_target_are_not_followed") {
        return;
    }
    let mut bench = Bench::new();
    let elsewhere = TempDir::new().unwrap();
    let volume = bench.volume("one");
    let folder = bench.kubelet.path().join(volume.target.folder());
    std::fs::remove_dir(&folder).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    let call = bench.publish(&volume, "token-1");
    assert!(matches!(
        call.await.unwrap(),
        Err(PublishError::Files(FilesError::Open(_)))
    ));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(bench.streams.try_recv().is_err());
}
