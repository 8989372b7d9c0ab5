//! Real handshakes: a rustls client against our configuration, with a clock that is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::{
    ClientConnection, ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, Error, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    ServerConfig, SupportedProtocolVersion,
};

use crate::crypto::{CertificateAuthority, InstallationId, Leaf, RootKey};
use crate::model::{Clock, Moment, Namespace, UnixSeconds};
use crate::store::memory::MemoryStore;

use super::*;

mod external;
mod trust;

const NOW: i64 = 1_790_000_000;
const DAY: i64 = 86_400;

/// A clock that tests set; the server's and the client's.
#[derive(Debug, Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn clock(&self) -> Clock {
        let (hands, monotonic) = (Arc::clone(&self.0), Instant::now());
        Clock::new(move || Moment {
            wall: UnixSeconds(hands.load(Ordering::Relaxed)),
            nanos: 0,
            monotonic,
        })
    }

    fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Hands {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.load(Ordering::Relaxed)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

struct Server {
    hands: Hands,
    authority: Arc<Authority>,
    resolver: Arc<TlsResolver>,
    config: Arc<ServerConfig>,
}

async fn server(rule: HostRule) -> Server {
    let (store, root) = (MemoryStore::new(), RootKey::generate().unwrap());
    let installation = InstallationId([1; 16]);
    let permitted = rule.permitted();
    let loaded = Authority::load_or_create(
        &store,
        &root.sealing_key(),
        &installation,
        &permitted,
        UnixSeconds(NOW),
    )
    .await;
    let authority = Arc::new(loaded.unwrap());
    let hands = Hands(Arc::new(AtomicI64::new(NOW)));
    let resolver = Arc::new(TlsResolver::new(Arc::clone(&authority), rule, hands.clock()));
    let config = server_config(Arc::clone(&resolver), &[b"h2", b"http/1.1"]).unwrap();
    Server {
        hands,
        authority,
        resolver,
        config,
    }
}

async fn vaults() -> Server {
    server(HostRule::vaults("cluster.local", Vec::new())).await
}

impl Server {
    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.bundle_pem().as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(self.hands.clone()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::in_memory_sessions(16);
        Arc::new(config)
    }

    /// The outcome of a handshake of a client that trusts the bundle.
    fn greet(&self, host: &str) -> Result<(ClientConnection, ServerConnection), Error> {
        handshake(&self.client(&[&TLS13, &TLS12]), &self.config, host)
    }
}

fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    host: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    // A few flights each way, then what is left of them: session tickets.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn leaf_of(connection: &ClientConnection) -> Vec<u8> {
    connection.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_client_that_trusts_the_bundle_reaches_every_vault_by_both_its_hosts() {
    let server = vaults().await;
    for host in [
        "demo.team.svc",
        "demo.team.svc.cluster.local",
        "other.elsewhere.svc",
    ] {
        let (client, server) = server.greet(host).unwrap();
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(server.server_name(), Some(host));
        assert_eq!(client.peer_certificates().unwrap().len(), 1);
    }
    assert_eq!(server.resolver.in_memory(), 3);
}

#[tokio::test]
async fn a_host_that_is_not_served_gets_no_certificate_and_takes_no_memory() {
    let server = vaults().await;
    for host in [
        "example.com",
        "demo.team.svc.example.com",
        "demo.vault.localhost",
        "a.b.team.svc",
        "127.0.0.1",
    ] {
        assert!(server.greet(host).is_err(), "{host}");
        assert!(
            matches!(server.resolver.leaf(host), Err(TlsError::NotServed)),
            "{host}"
        );
    }
    assert_eq!(server.resolver.in_memory(), 0);
}

#[tokio::test]
async fn on_a_laptop_localhost_and_its_address_work_too() {
    let server = server(HostRule::loopback(&Namespace::parse("dev").unwrap())).await;
    for host in ["demo.vault.localhost", "localhost", "127.0.0.1"] {
        assert!(server.greet(host).is_ok(), "{host}");
    }
    assert!(server.greet("demo.team.svc").is_err());
}

#[tokio::test]
async fn a_host_in_capitals_is_the_same_host() {
    let server = vaults().await;
    let (client, connection) = server.greet("DEMO.Team.SVC").unwrap();
    assert_eq!(connection.server_name(), Some("demo.team.svc"));
    assert_eq!(
        leaf_of(&client),
        leaf_of(&server.greet("demo.team.svc").unwrap().0)
    );
}

#[tokio::test]
async fn key_exchange_is_post_quantum_and_every_suite_has_forward_secrecy() {
    let server = vaults().await;
    let (client, _) = server.greet("demo.team.svc").unwrap();
    assert_eq!(
        client.negotiated_key_exchange_group().unwrap().name(),
        NamedGroup::X25519MLKEM768
    );

    let (client, _) = handshake(&server.client(&[&TLS12]), &server.config, "demo.team.svc").unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    for suite in &server.config.crypto_provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        let aead = ["_GCM_", "_CHACHA20_POLY1305_"]
            .iter()
            .any(|it| name.contains(it));
        assert!(
            aead && (name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_client_that_comes_again_resumes_its_session() {
    let server = vaults().await;
    for version in [&TLS13, &TLS12] {
        let client = server.client(&[version]);
        let kind = |host| {
            handshake(&client, &server.config, host)
                .unwrap()
                .1
                .handshake_kind()
        };
        assert!(matches!(kind("demo.team.svc"), Some(HandshakeKind::Full)));
        assert!(matches!(kind("demo.team.svc"), Some(HandshakeKind::Resumed)));
    }
}

/// A client that shows the ticket of one host to any other.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

impl Careless {
    fn drawer() -> ServerName<'static> {
        ServerName::try_from("drawer").unwrap()
    }
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::drawer(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::drawer())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::drawer(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::drawer())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::drawer());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::drawer(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::drawer())
    }
}

#[tokio::test]
async fn a_session_of_one_host_is_not_resumed_under_another() {
    let server = vaults().await;
    for version in [&TLS13, &TLS12] {
        let mut client = Arc::unwrap_or_clone(server.client(&[version]));
        client.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(16))));
        let client = Arc::new(client);
        let kind = |host| {
            handshake(&client, &server.config, host)
                .unwrap()
                .1
                .handshake_kind()
        };
        assert!(matches!(kind("demo.team.svc"), Some(HandshakeKind::Full)));
        assert!(matches!(kind("other.team.svc"), Some(HandshakeKind::Full)));
        assert!(matches!(kind("other.team.svc"), Some(HandshakeKind::Resumed)));
    }
}

#[tokio::test]
async fn a_client_without_the_bundle_refuses_us() {
    let (ours, theirs) = (vaults().await, vaults().await);
    let refused = handshake(&theirs.client(&[&TLS13]), &ours.config, "demo.team.svc").err();
    assert!(
        matches!(refused, Some(Error::InvalidCertificate(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_leaf_is_kept_for_half_its_life_and_replaced_long_before_it_ends() {
    let server = vaults().await;
    let leaf_at = |seconds| {
        server.hands.set(seconds);
        leaf_of(&server.greet("demo.team.svc").unwrap().0)
    };
    let first = leaf_at(NOW);
    assert_eq!(first, leaf_at(NOW + DAY / 2 - 1));
    let second = leaf_at(NOW + DAY / 2);
    assert_ne!(first, second);
    assert_eq!(second, leaf_at(NOW + DAY - 1));
    // Nobody came for days.
    let third = leaf_at(NOW + 9 * DAY);
    assert_ne!(second, third);
    assert_eq!(server.resolver.in_memory(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_gets_a_leaf_that_is_valid_then() {
    let server = vaults().await;
    server.hands.set(NOW + 3 * DAY);
    let ahead = leaf_of(&server.greet("demo.team.svc").unwrap().0);
    server.hands.set(NOW);
    assert_ne!(leaf_of(&server.greet("demo.team.svc").unwrap().0), ahead);
}

#[tokio::test]
async fn when_the_authority_has_ended_nothing_is_served_any_more() {
    let server = vaults().await;
    let end = server.authority.issuer().not_after().0;
    server.hands.set(end - 10);
    assert!(server.greet("demo.team.svc").is_ok());
    server.hands.set(end + 1);
    assert!(matches!(
        server.resolver.leaf("demo.team.svc"),
        Err(TlsError::IssueLeaf(_))
    ));
    assert!(matches!(
        server.greet("demo.team.svc"),
        Err(Error::General(_) | Error::AlertReceived(_))
    ));
}

#[tokio::test]
async fn strangers_who_ask_for_ever_new_hosts_do_not_fill_the_memory() {
    let server = vaults().await;
    for number in 0..MOST_LEAVES + 50 {
        server.hands.set(NOW + i64::try_from(number).unwrap());
        server.resolver.leaf(&format!("vault-{number}.team.svc")).unwrap();
        assert!(server.resolver.in_memory() <= MOST_LEAVES);
    }
    assert_eq!(server.resolver.in_memory(), MOST_LEAVES);
    // The oldest went, the newest are there.
    let kept = |number| {
        let key = server.resolver.leaf(&format!("vault-{number}.team.svc")).unwrap();
        Arc::strong_count(&key) > 1 && server.resolver.in_memory() == MOST_LEAVES
    };
    assert!(kept(MOST_LEAVES + 49) && kept(50));
}

#[tokio::test]
async fn threads_that_ask_at_once_are_all_served() {
    let server = vaults().await;
    let ask = |thread: usize| {
        for number in 0..200 {
            let host = format!("vault-{}.team.svc", (number * (thread + 1)) % 20);
            server.resolver.leaf(&host).unwrap();
            server.hands.set(NOW + i64::try_from(number).unwrap() * 400);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || ask(thread)))));
    assert_eq!(server.resolver.in_memory(), 20);
}

#[test]
fn the_provider_may_be_installed_again_and_again() {
    install_crypto_provider();
    install_crypto_provider();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}
