//! What a server costs that does nothing: hyper over rustls, the same answer to everything.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use strongroom::crypto::{InstallationId, RootKey};
use strongroom::model::Namespace;
use strongroom::store::memory::MemoryStore;
use strongroom::telemetry::clock;
use strongroom::tls::{Authority, HostRule, TlsResolver, server_config};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::Answer;

/// An answer, to be given again. Its date and length are the protocol's own.
pub(crate) fn recorded(answer: &Answer) -> String {
    let headers: Vec<(&str, &str)> = answer
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !matches!(*name, "date" | "content-length"))
        .collect();
    json!({"headers": headers, "body": String::from_utf8(answer.body.clone()).unwrap()}).to_string()
}

/// Serves until its parent goes.
pub(crate) async fn serve(folder: &Path) {
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(folder.join("answer.json")).unwrap()).unwrap();
    let body = Bytes::from(recorded["body"].as_str().unwrap().to_owned());
    let mut headers = HeaderMap::new();
    for header in recorded["headers"].as_array().unwrap() {
        let name = HeaderName::from_bytes(header[0].as_str().unwrap().as_bytes()).unwrap();
        headers.insert(name, HeaderValue::from_str(header[1].as_str().unwrap()).unwrap());
    }

    let clock = clock::system();
    let root = RootKey::generate().unwrap();
    let hosts = HostRule::loopback(&Namespace::parse("dev").unwrap());
    let authority = Authority::load_or_create(
        &MemoryStore::new(),
        &root.sealing_key(),
        &InstallationId([1; 16]),
        &hosts.permitted(),
        clock.now().wall,
    )
    .await;
    let authority = Arc::new(authority.unwrap());
    let resolver = Arc::new(TlsResolver::new(Arc::clone(&authority), hosts, clock));
    let acceptor = TlsAcceptor::from(server_config(resolver, &[b"http/1.1"]).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let ready = json!({
        "address": listener.local_addr().unwrap().to_string(),
        "trustBundle": authority.bundle_pem(),
    });
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (acceptor, headers, body) = (acceptor.clone(), headers.clone(), body.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else {
                    return;
                };
                let service = service_fn(move |_| {
                    let mut response = Response::new(Full::new(body.clone()));
                    response.headers_mut().clone_from(&headers);
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    crate::vault::tell(folder, &ready.to_string()).await;
}
