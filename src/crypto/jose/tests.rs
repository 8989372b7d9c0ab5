use serde_json::json;

use crate::model::SecretBytes;

use super::*;
use proptest::prelude::*;

const RFC_CLAIMS: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515, appendix A.2 and A.3: header, key, signature.
fn rfc_7515() -> [(&'static str, Value, &'static str); 2] {
    [
        (
            "eyJhbGciOiJSUzI1NiJ9",
            json!({"kty": "RSA", "kid": "a2", "e": "AQAB", "n": concat!(
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SF",
                "d2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo",
                "7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM",
                "Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ")}),
            concat!(
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb",
                "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383",
                "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy",
                "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            json!({"kty": "EC", "kid": "a3", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                   "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ]
}

fn set(keys: &[Value]) -> JwkSet {
    JwkSet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn encode(header: &Value, claims: &Value, signature: &[u8]) -> String {
    [
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string()),
        BASE64.encode(signature),
    ]
    .join(".")
}

fn public(issuer: &IssuerKey) -> Arc<VerificationKey> {
    Arc::clone(JwkSet::parse(&issuer.jwks()).unwrap().key(issuer.kid()).unwrap())
}

fn issuer(algorithm: SigningAlgorithm) -> IssuerKey {
    IssuerKey::generate(algorithm).unwrap()
}

/// The same key under the same id, said to be for another algorithm or without that restriction.
fn relabelled(issuer: &IssuerKey, alg: Option<&str>) -> JwkSet {
    let mut set: Value = serde_json::from_slice(&issuer.jwks()).unwrap();
    let key = set["keys"][0].as_object_mut().unwrap();
    match alg {
        Some(alg) => key.insert("alg".into(), alg.into()),
        None => key.remove("alg"),
    };
    JwkSet::parse(set.to_string().as_bytes()).unwrap()
}

#[test]
fn the_signatures_of_rfc_7515_are_accepted_and_any_other_is_not() {
    for (header, key, signature) in rfc_7515() {
        let set = set(std::slice::from_ref(&key));
        let key = set.key(key["kid"].as_str().unwrap()).unwrap();
        let token = [header, RFC_CLAIMS, signature].join(".");
        let parts = Parts::split(&token).unwrap();
        let algorithm = match key.family {
            Family::Rsa => SigningAlgorithm::RS256,
            Family::P256 | Family::P384 => SigningAlgorithm::ES256,
        };
        assert_eq!(parts.check_signature(algorithm, key), Ok(()));
        assert_eq!(decode_json::<Value>(parts.claims).unwrap()["iss"], "joe");
        // Without a key id it is no token for us, however well it is signed.
        assert_eq!(verify(&token, key), Err(CryptoError::NoKeyId));

        let mut bytes = BASE64.decode(signature).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[at] ^= 1;
            let token = [header, RFC_CLAIMS, &BASE64.encode(&bytes)].join(".");
            let changed = Parts::split(&token).unwrap().check_signature(algorithm, key);
            assert_eq!(changed, Err(CryptoError::BadSignature));
            bytes[at] ^= 1;
        }
    }
}

#[test]
fn a_token_of_every_listed_algorithm_is_accepted() {
    for algorithm in SigningAlgorithm::ALL {
        let issuer = issuer(algorithm);
        let claims = json!({"iss": "https://issuer", "aud": ["strongroom.dev"], "exp": 1});
        let token = issuer.sign(&claims).unwrap();
        assert_eq!(
            header(&token).unwrap(),
            TokenHeader {
                kid: issuer.kid().to_owned(),
                algorithm
            }
        );
        assert_eq!(verify(&token, &public(&issuer)).unwrap(), claims, "{algorithm:?}");
    }
}

#[test]
fn an_issuers_key_survives_its_pem_and_keeps_its_id() {
    for algorithm in [
        SigningAlgorithm::ES256,
        SigningAlgorithm::ES384,
        SigningAlgorithm::RS256,
    ] {
        let issuer = issuer(algorithm);
        let again = IssuerKey::from_pem(&issuer.to_pem().unwrap()).unwrap();
        assert_eq!((again.kid(), again.jwks()), (issuer.kid(), issuer.jwks()));
        let token = again.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(verify(&token, &public(&issuer)).unwrap()["sub"], "a");
    }
    for junk in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "\u{0}",
    ] {
        let refused = IssuerKey::from_pem(&SecretBytes::new(junk.as_bytes().to_vec()));
        assert_eq!(refused.err(), Some(CryptoError::NotAPrivateKey));
    }
}

#[test]
fn tokens_without_a_signature_or_with_a_shared_secret_are_refused() {
    let issuer = issuer(SigningAlgorithm::RS256);
    let key = public(&issuer);
    let kid = issuer.kid();
    let claims = json!({"sub": "system:serviceaccount:team:app"});
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "EdDSA", "ES512", "ES256K", "rs256", "RS1",
        "RSA-OAEP",
    ] {
        let token = encode(&json!({"alg": alg, "kid": kid}), &claims, b"");
        assert_eq!(header(&token), Err(CryptoError::AlgorithmNotAccepted), "{alg}");
        assert_eq!(
            verify(&token, &key),
            Err(CryptoError::AlgorithmNotAccepted),
            "{alg}"
        );
    }
    for header in [
        json!({"kid": kid}),
        json!({"alg": null, "kid": kid}),
        json!({"alg": 1, "kid": kid}),
        json!([]),
        json!(7),
    ] {
        assert_eq!(
            verify(&encode(&header, &claims, b""), &key),
            Err(CryptoError::NotAToken),
            "{header}"
        );
    }
    // An accepted algorithm with no signature.
    let token = encode(&json!({"alg": "RS256", "kid": kid}), &claims, b"");
    assert_eq!(verify(&token, &key), Err(CryptoError::BadSignature));
}

#[test]
fn a_public_key_can_not_be_used_as_a_shared_secret() {
    let issuer = issuer(SigningAlgorithm::RS256);
    let set: Value = serde_json::from_slice(&issuer.jwks()).unwrap();
    let modulus = set["keys"][0]["n"].as_str().unwrap();
    let secrets = [
        modulus.as_bytes().to_vec(),
        BASE64.decode(modulus).unwrap(),
        issuer.jwks(),
        set["keys"][0].to_string().into(),
    ];
    for secret in secrets {
        for alg in ["HS256", "RS256"] {
            let mut token = encode(
                &json!({"alg": alg, "kid": issuer.kid()}),
                &json!({"sub": "a"}),
                b"",
            );
            token.pop();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let forged = [
                &token,
                &*BASE64.encode(aws_lc_rs::hmac::sign(&key, token.as_bytes())),
            ]
            .join(".");
            assert!(verify(&forged, &public(&issuer)).is_err(), "{alg}");
        }
    }
    let symmetric = json!({"kty": "oct", "kid": "k", "k": "AAAA", "alg": "HS256"});
    assert_eq!(self::set(&[symmetric]).kids().count(), 0);
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    use SigningAlgorithm::{ES256, ES384, PS256, RS256, RS512};
    for (of_key, of_token) in [
        (RS256, ES256),
        (ES256, RS256),
        (ES256, ES384),
        (ES384, ES256),
        (RS256, PS256),
        (PS256, RS256),
        (RS256, RS512),
    ] {
        let (holder, signer) = (issuer(of_key), issuer(of_token));
        let header = json!({"alg": of_token.as_str(), "kid": holder.kid()});
        let signature = BASE64
            .decode(signer.sign(&json!({})).unwrap().rsplit_once('.').unwrap().1)
            .unwrap();
        let token = encode(&header, &json!({}), &signature);
        let said = verify(&token, &public(&holder));
        assert_eq!(said, Err(CryptoError::KeyMismatch), "{of_key:?} {of_token:?}");
        // Where the key set leaves the algorithm open, the kind of key still decides.
        let open = relabelled(&holder, None);
        let said = verify(&token, open.key(holder.kid()).unwrap());
        let same_kind = of_key.family() == of_token.family();
        let expected = if same_kind {
            CryptoError::BadSignature
        } else {
            CryptoError::KeyMismatch
        };
        assert_eq!(said, Err(expected), "{of_key:?} {of_token:?}");
    }
}

#[test]
fn a_key_set_may_leave_the_algorithm_open_but_not_give_a_key_one_that_does_not_fit() {
    let rsa = issuer(SigningAlgorithm::PS384);
    let token = rsa.sign(&json!({})).unwrap();
    assert!(verify(&token, relabelled(&rsa, None).key(rsa.kid()).unwrap()).is_ok());
    let other = verify(&token, relabelled(&rsa, Some("RS384")).key(rsa.kid()).unwrap());
    assert_eq!(other, Err(CryptoError::KeyMismatch));
    for alg in ["ES256", "HS256", "none", "RSA-OAEP"] {
        assert_eq!(relabelled(&rsa, Some(alg)).kids().count(), 0, "{alg}");
    }
}

#[test]
fn a_token_must_name_the_key_that_signed_it() {
    let (one, two) = (issuer(SigningAlgorithm::ES256), issuer(SigningAlgorithm::ES256));
    let token = one.sign(&json!({})).unwrap();
    assert_eq!(verify(&token, &public(&two)), Err(CryptoError::KeyMismatch));
    for kid in [json!(null), json!(""), json!("a".repeat(257))] {
        let token = encode(&json!({"alg": "ES256", "kid": kid}), &json!({}), &[0; 64]);
        assert_eq!(header(&token), Err(CryptoError::NoKeyId));
    }
    let without = encode(&json!({"alg": "ES256"}), &json!({}), &[0; 64]);
    assert_eq!(header(&without), Err(CryptoError::NoKeyId));
    let another = encode(&json!({"alg": "ES256", "kid": two.kid()}), &json!({}), &[0; 64]);
    assert_eq!(verify(&another, &public(&two)), Err(CryptoError::BadSignature));
}

#[test]
fn a_header_that_demands_to_be_understood_is_refused() {
    let issuer = issuer(SigningAlgorithm::ES256);
    for crit in [json!(["b64"]), json!([]), json!("exp")] {
        let token = encode(
            &json!({"alg": "ES256", "kid": issuer.kid(), "crit": crit}),
            &json!({}),
            &[0; 64],
        );
        assert_eq!(verify(&token, &public(&issuer)), Err(CryptoError::NotAToken));
    }
}

#[test]
fn keys_that_travel_inside_a_token_are_ignored() {
    let (trusted, attacker) = (issuer(SigningAlgorithm::ES256), issuer(SigningAlgorithm::ES256));
    let jwk: Value = serde_json::from_slice(&attacker.jwks()).unwrap();
    let header =
        json!({"alg": "ES256", "kid": trusted.kid(), "jwk": jwk["keys"][0], "jku": "https://attacker/keys"});
    let signature = BASE64
        .decode(attacker.sign(&json!({})).unwrap().rsplit_once('.').unwrap().1)
        .unwrap();
    assert_eq!(
        verify(&encode(&header, &json!({}), &signature), &public(&trusted)),
        Err(CryptoError::BadSignature)
    );
}

#[test]
fn a_change_anywhere_in_a_token_is_noticed() {
    let issuer = issuer(SigningAlgorithm::ES256);
    let key = public(&issuer);
    let token = issuer
        .sign(&json!({"sub": "system:serviceaccount:team:app", "exp": 2_000_000_000}))
        .unwrap();
    for at in 0..token.len() {
        for replacement in ["A", "B", ".", "=", "", "AA"] {
            let changed = [&token[..at], replacement, &token[at + 1..]].concat();
            assert!(
                changed == token || verify(&changed, &key).is_err(),
                "{at} {replacement:?}"
            );
        }
    }
    for (changed, why) in [
        (format!("{token}."), "a fourth part"),
        (format!("{token}.{token}"), "six parts"),
        (format!("{token}="), "padding"),
        (format!(" {token}"), "a space"),
        (token.replace('.', ""), "no parts"),
        ("a".repeat(LONGEST_TOKEN + 1), "too long"),
        (String::new(), "nothing"),
    ] {
        assert_eq!(
            verify(&changed, &key).err(),
            header(&changed).err().or(Some(CryptoError::BadSignature)),
            "{why}"
        );
    }
}

#[test]
fn a_token_has_three_parts() {
    let token = issuer(SigningAlgorithm::ES256).sign(&json!({})).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    for count in [1, 2, 4, 5] {
        let text: Vec<&str> = parts.iter().copied().cycle().take(count).collect();
        assert_eq!(header(&text.join(".")), Err(CryptoError::NotAToken), "{count}");
    }
}

#[test]
fn claims_are_a_json_object() {
    let issuer = issuer(SigningAlgorithm::ES256);
    for claims in [json!([]), json!("a"), json!(null), json!(1)] {
        assert_eq!(
            verify(&issuer.sign(&claims).unwrap(), &public(&issuer)),
            Err(CryptoError::NotAToken)
        );
    }
}

#[test]
fn keys_that_can_not_verify_are_left_out_and_the_others_stay() {
    let [(_, rsa, _), (_, ec, _)] = rfc_7515();
    let with = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key["kid"] = json!("left-out");
        key
    };
    let mut no_id = ec.clone();
    no_id.as_object_mut().unwrap().remove("kid");
    let mut keys = vec![
        with(&rsa, "use", json!("enc")),
        with(&rsa, "key_ops", json!(["encrypt"])),
        with(&rsa, "n", json!("AQAB")),
        with(&rsa, "n", json!("not base64!")),
        with(&rsa, "n", json!(1)),
        with(&rsa, "n", json!(BASE64.encode(vec![255_u8; 1025]))),
        with(&ec, "crv", json!("P-521")),
        with(&ec, "crv", json!("secp256k1")),
        with(&ec, "crv", json!("P-384")),
        with(&ec, "x", json!("AQAB")),
        with(&ec, "kty", json!("OKP")),
        with(&ec, "kty", json!("unknown")),
        with(&ec, "alg", json!("ES384")),
        with(&ec, "alg", json!(7)),
        json!({}),
        json!(null),
        json!("key"),
        no_id,
    ];
    keys.extend([rsa, ec]);
    assert_eq!(set(&keys).kids().collect::<Vec<_>>(), ["a2", "a3"]);
}

#[test]
fn of_two_keys_with_one_id_the_first_stays() {
    let [(_, rsa, _), (_, mut ec, _)] = rfc_7515();
    ec["kid"] = rsa["kid"].clone();
    let set = set(&[rsa, ec]);
    assert_eq!(set.kids().collect::<Vec<_>>(), ["a2"]);
    assert_eq!(set.key("a2").unwrap().family, Family::Rsa);
}

#[test]
fn what_is_no_key_set_is_refused() {
    let huge = format!("{{\"keys\":[]}}{}", " ".repeat(LARGEST_SET));
    for junk in ["", "{}", "[]", "null", "{\"keys\":{}}", "{\"keys\":[}", &huge] {
        assert_eq!(
            JwkSet::parse(junk.as_bytes()).err(),
            Some(CryptoError::NotAKeySet)
        );
    }
    assert_eq!(JwkSet::parse(b"{\"keys\":[]}").unwrap().kids().count(), 0);
}

proptest! {
    #[test]
    fn no_text_makes_header_or_verify_panic(text in "\\PC{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let [(_, rsa, _), (_, ec, _)] = rfc_7515();
        let set = set(&[rsa, ec]);
        for token in [text, parts.join(".")] {
            prop_assert!(header(&token).is_err());
            for kid in ["a2", "a3"] {
                prop_assert!(verify(&token, set.key(kid).unwrap()).is_err());
            }
        }
    }

    #[test]
    fn no_header_claims_or_signature_make_verify_panic(alg in "RS256|PS512|ES256|ES384|none|HS256", claims in ".{0,60}",
                                                       signature in proptest::collection::vec(any::<u8>(), 0..300)) {
        let [(_, rsa, _), (_, ec, _)] = rfc_7515();
        let set = set(&[rsa, ec]);
        for kid in ["a2", "a3"] {
            let token = [BASE64.encode(json!({"alg": alg, "kid": kid}).to_string()), BASE64.encode(&claims), BASE64.encode(&signature)].join(".");
            prop_assert!(verify(&token, set.key(kid).unwrap()).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_key_set_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in ".{0,20}", x in ".{0,50}") {
        let _ = JwkSet::parse(&bytes);
        let keys = json!({"keys": [{"kty": "RSA", "kid": "a", "n": n, "e": x}, {"kty": "EC", "crv": "P-256", "kid": "b", "x": x, "y": n}]});
        prop_assert!(JwkSet::parse(keys.to_string().as_bytes()).is_ok());
    }
}
