//! The whole driver, over its sockets.

use super::*;

/// One call of a unary method, as the kubelet makes it. The answer, or the code and text of the refusal.
async fn call<Answer: prost::Message + Default>(
    socket: &Path,
    method: &str,
    question: &impl prost::Message,
) -> Result<Answer, (String, String)> {
    use http_body_util::BodyExt;
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let message = question.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    // The kubelet asks a driver as `localhost`, but for the registration: that socket's client sends the socket's path.
    let authority = if method.starts_with("pluginregistration") {
        socket.to_str().unwrap().replace('/', "%2F")
    } else {
        "localhost".to_owned()
    };
    let request = http::Request::post(format!("http://{authority}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let text = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let refused = text(response.headers(), "grpc-status")
        .zip(text(response.headers(), "grpc-message"))
        .filter(|(code, _)| code != "0");
    if let Some(refused) = refused {
        return Err(refused);
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok(Answer::decode(&body[5..]).unwrap())
}

#[tokio::test]
async fn the_kubelet_finds_the_driver_registers_it_and_mounts_through_it() {
    if !can_mount("the_kubelet_finds_the_driver_registers_it_and_mounts_through_it") {
        return;
    }
    use super::proto::csi::{self, VolumeCapability, volume_capability};
    use super::proto::registration::{
        InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    };

    let mut bench = Bench::new();
    bench.host.state.close().unwrap();
    let (kubelet_dir, readiness, shutdown) = (
        bench.kubelet.path().to_owned(),
        Readiness::new(),
        CancellationToken::new(),
    );
    let upstream: Arc<dyn Upstream> = Arc::<Fake>::clone(&bench.fake);
    let node = Node {
        kubelet_dir: kubelet_dir.clone(),
        node_name: "node-1".to_owned(),
        upstream,
        clock: clock(),
        metrics: Arc::clone(&bench.metrics),
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
        times: quick(),
    };
    let served = tokio::spawn(serve(node));
    let registration = kubelet_dir.join("plugins_registry/csi.strongroom.dev@reg.sock");
    until("the kubelet's watch finds the socket", || registration.exists()).await;
    assert_eq!(
        readiness.missing()[0].0,
        "kubelet",
        "not ready before the kubelet knows it"
    );

    let info: PluginInfo = call(
        &registration,
        "pluginregistration.Registration/GetInfo",
        &InfoRequest {},
    )
    .await
    .unwrap();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str()),
        ("CSIPlugin", "csi.strongroom.dev")
    );
    assert_eq!(info.supported_versions, ["1.0.0"]);
    let socket = PathBuf::from(info.endpoint);
    for path in [&socket, &registration] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }
    let about: csi::NodeGetInfoResponse =
        call(&socket, "csi.v1.Node/NodeGetInfo", &csi::NodeGetInfoRequest {})
            .await
            .unwrap();
    assert_eq!(about.node_id, "node-1");
    let status = RegistrationStatus {
        plugin_registered: true,
        error: String::new(),
    };
    let _: RegistrationStatusResponse = call(
        &registration,
        "pluginregistration.Registration/NotifyRegistrationStatus",
        &status,
    )
    .await
    .unwrap();
    assert!(readiness.missing().is_empty());
    let driver: csi::GetPluginInfoResponse = call(
        &socket,
        "csi.v1.Identity/GetPluginInfo",
        &csi::GetPluginInfoRequest {},
    )
    .await
    .unwrap();
    assert_eq!(driver.name, "csi.strongroom.dev");
    let _: csi::ProbeResponse = call(&socket, "csi.v1.Identity/Probe", &csi::ProbeRequest {})
        .await
        .unwrap();
    let can: csi::NodeGetCapabilitiesResponse = call(
        &socket,
        "csi.v1.Node/NodeGetCapabilities",
        &csi::NodeGetCapabilitiesRequest {},
    )
    .await
    .unwrap();
    assert_eq!(can.capabilities.len(), 1);

    let volume = bench.volume("one");
    let target_path = bench.path(&volume).to_str().unwrap().to_owned();
    let mount = volume_capability::MountVolume {
        volume_mount_group: "2000".to_owned(),
    };
    let tokens = r#"{"strongroom.dev":{"token":"token-1","expirationTimestamp":"2026-11-23T00:00:00Z"}}"#;
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/serviceAccount.tokens", tokens),
        ("vault", "demo"),
        ("objects", "- secret: a"),
    ];
    let mut publish = csi::NodePublishVolumeRequest {
        volume_id: "csi-one".to_owned(),
        target_path: target_path.clone(),
        volume_capability: Some(VolumeCapability {
            access_type: Some(volume_capability::AccessType::Mount(mount)),
        }),
        readonly: false,
        secrets: BTreeMap::new(),
        volume_context: context
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    let method = "csi.v1.Node/NodePublishVolume";
    let refused = call::<csi::NodePublishVolumeResponse>(&socket, method, &publish)
        .await
        .unwrap_err();
    assert_eq!(refused.0, "3", "InvalidArgument: {}", refused.1);
    publish.readonly = true;
    let (asked, question) = (socket.clone(), publish.clone());
    let waiting =
        tokio::spawn(async move { call::<csi::NodePublishVolumeResponse>(&asked, method, &question).await });
    let stream = bench.stream().await;
    stream.refuse(Kind::Denied, "not allowed");
    assert_eq!(
        waiting.await.unwrap().unwrap_err(),
        ("14".to_owned(), "not%20allowed".to_owned())
    );
    stream.files(&[("a", "1")]);
    call::<csi::NodePublishVolumeResponse>(&socket, method, &publish)
        .await
        .unwrap();
    assert_eq!(bench.read(&volume, "a"), "1");

    let unpublish = csi::NodeUnpublishVolumeRequest {
        volume_id: "csi-one".to_owned(),
        target_path,
    };
    let method = "csi.v1.Node/NodeUnpublishVolume";
    for _ in 0..2 {
        let _: csi::NodeUnpublishVolumeResponse = call(&socket, method, &unpublish).await.unwrap();
    }
    assert_eq!(bench.mounts(), 0);
    assert_eq!(
        bench.metric("strongroom_publishes_total{outcome=\"success\"}"),
        "1"
    );

    shutdown.cancel();
    timeout(Duration::from_secs(2), served)
        .await
        .expect("ends within 2 s")
        .unwrap()
        .unwrap();
    assert!(!socket.exists() && !registration.exists());
    assert!(!kubelet_dir.join("plugins/csi.strongroom.dev/state").exists());
}
