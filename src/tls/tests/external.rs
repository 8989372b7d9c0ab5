//! Domains of the platform's own: another authority's certificates, read from files.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const HOST: &str = "demo.vaults.example.com";

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// Puts a certificate of another authority where the platform puts it; hands it back as it is sent to clients.
fn bring(folder: &Path, authority: &CertificateAuthority) -> Vec<u8> {
    let leaf = authority.issue_leaf(HOST, UnixSeconds(NOW)).unwrap();
    fs::create_dir_all(folder).unwrap();
    let chain: String = leaf.chain_der.iter().map(|der| pem("CERTIFICATE", der)).collect();
    fs::write(folder.join("tls.crt"), chain).unwrap();
    fs::write(folder.join("tls.key"), pem("PRIVATE KEY", leaf.key_der.expose())).unwrap();
    leaf.chain_der[0].clone()
}

#[tokio::test]
async fn a_domain_of_the_platforms_is_served_with_what_it_brought_and_with_the_next_one_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let others = CertificateAuthority::generate(UnixSeconds(NOW), &["example.com"]).unwrap();
    let domains =
        ExternalDomain::parse_all(&["vaults.example.com=shop".to_owned()], "cluster.local").unwrap();
    let external = Arc::new(ExternalCertificates::new(
        folder.path().to_owned(),
        domains.clone(),
    ));
    let rule = HostRule::vaults("cluster.local", domains);
    let server = server(rule.clone()).await;
    let resolver = TlsResolver::new(Arc::clone(&server.authority), rule, server.hands.clock())
        .and_external(Arc::clone(&external));
    let served = || resolver.leaf(HOST).map(|key| key.cert[0].to_vec());

    assert!(matches!(served(), Err(TlsError::NoExternal)));
    assert_eq!(external.load().len(), 1, "nothing is there");
    assert!(matches!(served(), Err(TlsError::NoExternal)));
    let own = folder.path().join("vaults.example.com");
    for _ in 0..2 {
        let brought = bring(&own, &others);
        assert!(external.load().is_empty());
        assert_eq!(served().unwrap(), brought);
    }

    // A certificate and a key that do not belong together, and files that hold none: what was there goes on.
    let before = served().unwrap();
    let key = fs::read(own.join("tls.key")).unwrap();
    bring(&own, &others);
    fs::write(own.join("tls.key"), key).unwrap();
    assert!(matches!(&*external.load(), [(_, TlsError::LoadLeaf(_))]));
    for junk in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAA"] {
        fs::write(own.join("tls.crt"), junk).unwrap();
        assert_eq!(external.load().len(), 1, "{junk}");
    }
    assert_eq!(served().unwrap(), before);

    // Names in the cluster are our own authority's all the while.
    assert!(resolver.leaf("demo.shop.svc").is_ok());
    assert!(matches!(
        resolver.leaf("demo.example.com"),
        Err(TlsError::NotServed)
    ));
}
