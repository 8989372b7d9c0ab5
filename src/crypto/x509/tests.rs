use super::*;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

fn authority() -> CertificateAuthority {
    CertificateAuthority::generate(NOW, &["svc", "svc.cluster.local", "127.0.0.1"]).unwrap()
}

#[test]
fn an_authority_signs_the_hosts_that_it_may_and_no_others() {
    let authority = authority();
    for host in [
        "demo.team.svc",
        "svc",
        "demo.team.svc.cluster.local",
        "127.0.0.1",
        &["a"; 64].join(".").add_svc(),
    ] {
        assert!(authority.issue_leaf(host, NOW).is_ok(), "{host}");
    }
    let long = "a".repeat(64);
    for host in [
        "",
        ".svc",
        "demo..svc",
        "demo.team.svc.",
        "-demo.svc",
        "demo-.svc",
        "demo.team.SVC",
        "*.svc",
        "dem o.svc",
        "demo.svc\0",
        "demö.svc",
        &format!("{long}.svc"),
        &["a"; 127].join(".").add_svc(),
        "notsvc",
        "svc.example.com",
        "example.com",
        "cluster.local",
        "127.0.0.2",
        "::1",
        "0.0.0.0",
        "demo.127.0.0.1",
    ] {
        assert_eq!(
            authority.issue_leaf(host, NOW).err(),
            Some(CryptoError::NotAHost),
            "{host}"
        );
    }
}

trait AddSvc {
    fn add_svc(&self) -> String;
}
impl AddSvc for String {
    fn add_svc(&self) -> String {
        format!("{self}.svc")
    }
}

#[test]
fn an_authority_without_constraints_signs_every_host_and_a_wrong_constraint_makes_none() {
    let authority = CertificateAuthority::generate(NOW, &[]).unwrap();
    for host in ["example.com", "10.0.0.1", "::1"] {
        assert!(authority.issue_leaf(host, NOW).is_ok(), "{host}");
    }
    for wrong in ["", ".svc", "*.svc", "a/b", "10.0.0.0/8"] {
        let refused = CertificateAuthority::generate(NOW, &["svc", wrong]);
        assert_eq!(refused.err(), Some(CryptoError::NotAHost), "{wrong}");
    }
}

#[test]
fn a_leaf_lives_a_day_and_never_longer_than_its_authority() {
    let authority = authority();
    let leaf_at = |now| authority.issue_leaf("demo.team.svc", now);
    assert_eq!(leaf_at(NOW).unwrap().not_after, NOW.plus(86_400));
    let end = authority.not_after();
    assert_eq!(end, NOW.plus_days(3653));
    assert_eq!(leaf_at(end.plus(-60)).unwrap().not_after, end);
    assert_eq!(leaf_at(end.plus(1)).err(), Some(CryptoError::AuthorityNotValid));
    assert_eq!(
        leaf_at(NOW.plus(-301)).err(),
        Some(CryptoError::AuthorityNotValid)
    );
    assert!(leaf_at(NOW.plus(-300)).is_ok());
}

#[test]
fn a_clock_that_is_far_off_makes_an_error_and_no_certificate() {
    for now in [i64::MIN, -1, 0, 299, LAST_SECOND, LAST_SECOND + 1, i64::MAX] {
        let made = CertificateAuthority::generate(UnixSeconds(now), &["svc"]);
        assert_eq!(made.err(), Some(CryptoError::IssueCertificate), "{now}");
    }
    assert!(CertificateAuthority::generate(UnixSeconds(300), &["svc"]).is_ok());
}

#[test]
fn an_authority_survives_its_record() {
    let authority = authority();
    let bytes = authority.to_bytes().unwrap();
    let again = CertificateAuthority::from_bytes(&bytes).unwrap();
    assert_eq!(again.certificate_pem(), authority.certificate_pem());
    assert_eq!(
        (again.not_before, again.not_after),
        (authority.not_before, authority.not_after)
    );
    assert_eq!(again.permitted, authority.permitted);
    assert_eq!(again.to_bytes().unwrap().expose(), bytes.expose());
    assert!(again.issue_leaf("demo.team.svc", NOW).is_ok());
    assert_eq!(
        again.issue_leaf("example.com", NOW).err(),
        Some(CryptoError::NotAHost)
    );
}

#[test]
fn each_leaf_has_a_key_of_its_own() {
    let authority = authority();
    let (one, two) = (
        authority.issue_leaf("a.b.svc", NOW).unwrap(),
        authority.issue_leaf("a.b.svc", NOW).unwrap(),
    );
    assert_ne!(one.key_der.expose(), two.key_der.expose());
    assert_ne!(one.chain_der, two.chain_der);
}

#[test]
fn debug_shows_no_key() {
    let authority = authority();
    let leaf = authority.issue_leaf("a.b.svc", NOW).unwrap();
    assert!(!format!("{authority:?} {leaf:?}").contains(&format!("{:?}", leaf.key_der.expose())));
    assert_eq!(
        format!("{authority:?}"),
        "CertificateAuthority { not_after: UnixSeconds(2105619200), .. }"
    );
}

proptest! {
    #[test]
    fn no_bytes_and_no_host_make_an_authority_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), host in "\\PC{0,80}") {
        prop_assert!(CertificateAuthority::from_bytes(&SecretBytes::new(bytes)).is_err());
        let _ = is_host(&host);
    }
}
