//! PEM (RFC 7468), written only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Label of a certificate.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a PKCS#8 private key.
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// One block with lines of 64 characters and a newline at its end. Allocated once, so that no copy of a key stays behind.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut rest = body.as_str();
    let mut text = Zeroizing::new(String::with_capacity(
        body.len() + body.len() / 64 + 2 * label.len() + 40,
    ));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.extend([line, "\n"]);
        rest = after;
    }
    if !rest.is_empty() {
        text.extend([rest, "\n"]);
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_lines_of_64_characters_and_is_allocated_once() {
        for (bytes, lines) in [
            (0, 0),
            (1, 1),
            (47, 1),
            (48, 1),
            (49, 2),
            (96, 2),
            (97, 3),
            (1000, 21),
        ] {
            let text = encode(PRIVATE_KEY, &vec![7; bytes]);
            assert!(
                text.starts_with("-----BEGIN PRIVATE KEY-----\n")
                    && text.ends_with("\n-----END PRIVATE KEY-----\n")
            );
            assert_eq!(text.lines().count(), lines + 2, "{bytes}");
            assert!(text.lines().all(|line| !line.is_empty() && line.len() <= 64));
            let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            assert_eq!(STANDARD.decode(body).unwrap(), vec![7; bytes]);
            assert!(
                text.len() <= STANDARD.encode(vec![7; bytes]).len() * 65 / 64 + 2 * PRIVATE_KEY.len() + 40
            );
        }
    }
}
