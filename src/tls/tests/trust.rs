//! What a client that trusts the bundle accepts, and what not: servers that present a chosen leaf.

use super::*;

/// Presents the same leaf for every host.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn always(leaf: Leaf) -> Arc<ServerConfig> {
    let chain = leaf.chain_der.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key_der.expose().to_vec()));
    let provider = default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(key))));
    Arc::new(config)
}

#[tokio::test]
async fn whoever_steals_the_authority_can_not_pose_as_hosts_outside_its_constraints() {
    let server = vaults().await;
    let stolen = server.authority.issuer();
    for (host, trusted) in [
        ("demo.team.svc", true),
        ("demo.team.svc.cluster.local", true),
        ("login.microsoftonline.com", false),
        ("demo.team.svc.example.com", false),
        ("notsvc", false),
        ("kubernetes.default", false),
        ("10.96.0.1", false),
        ("127.0.0.1", false),
        ("::1", false),
    ] {
        let config = always(stolen.issue_any_leaf(host, UnixSeconds(NOW)).unwrap());
        let outcome = handshake(&server.client(&[&TLS13]), &config, host).map(|_| ());
        let refused = matches!(outcome, Err(Error::InvalidCertificate(_)));
        assert_eq!(
            (outcome.is_ok(), refused),
            (trusted, !trusted),
            "{host}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_laptops_authority_is_good_for_localhost_alone() {
    let server = server(HostRule::loopback(&Namespace::parse("dev").unwrap())).await;
    for host in ["demo.team.svc", "example.com", "127.0.0.2", "10.0.0.1", "::1"] {
        let leaf = server
            .authority
            .issuer()
            .issue_any_leaf(host, UnixSeconds(NOW))
            .unwrap();
        let refused = handshake(&server.client(&[&TLS13]), &always(leaf), host).err();
        assert!(
            matches!(refused, Some(Error::InvalidCertificate(_))),
            "{host}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn an_authority_for_addresses_alone_is_good_for_no_name() {
    let server = vaults().await;
    let authority = CertificateAuthority::generate(UnixSeconds(NOW), &["10.0.0.1"]).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap())
        .unwrap();
    let client =
        ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(server.hands.clone()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let client = Arc::new(client);
    for (host, trusted) in [
        ("10.0.0.1", true),
        ("10.0.0.2", false),
        ("::1", false),
        ("example.com", false),
    ] {
        let leaf = authority.issue_any_leaf(host, UnixSeconds(NOW)).unwrap();
        assert_eq!(handshake(&client, &always(leaf), host).is_ok(), trusted, "{host}");
    }
}

#[tokio::test]
async fn a_client_whose_clock_is_some_minutes_off_is_served() {
    let server = vaults().await;
    let leaf = server.resolver.leaf("demo.team.svc").unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(leaf)));
    let config = Arc::new(config);
    for (off, served) in [
        (-299, true),
        (0, true),
        (DAY - 1, true),
        (-301, false),
        (DAY + 1, false),
    ] {
        server.hands.set(NOW + off);
        let outcome = handshake(&server.client(&[&TLS13]), &config, "demo.team.svc");
        assert_eq!(outcome.is_ok(), served, "{off}");
    }
}

#[tokio::test]
async fn a_wrong_name_is_noticed_by_the_client() {
    let server = vaults().await;
    let leaf = server
        .authority
        .issuer()
        .issue_any_leaf("demo.team.svc", UnixSeconds(NOW))
        .unwrap();
    let refused = handshake(&server.client(&[&TLS13]), &always(leaf), "demo.other.svc").err();
    let wrong_name = matches!(
        refused,
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName
        ))
    );
    assert!(wrong_name, "{refused:?}");
}
