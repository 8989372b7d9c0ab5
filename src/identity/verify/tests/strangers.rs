//! Whatever strangers send.

use proptest::prelude::*;

use super::*;

fn shown(bench: &Bench, token: &str) -> Result<Arc<Caller>, Rejection> {
    futures::executor::block_on(bench.show(token, &world([web()])))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_is_a_token_by_chance_and_none_makes_us_panic(text in "\\PC{0,300}") {
        prop_assert!(shown(&bench(), &text).is_err());
    }

    #[test]
    fn no_three_parts_make_us_panic(header in "\\PC{0,60}", claims in "\\PC{0,200}", signature: Vec<u8>) {
        let token = [BASE64.encode(header), BASE64.encode(claims), BASE64.encode(signature)].join(".");
        prop_assert!(shown(&bench(), &token).is_err());
    }

    #[test]
    fn no_single_change_of_a_good_token_is_good(place: prop::sample::Index, with in "[A-Za-z0-9_.=-]") {
        let bench = bench();
        let good = bench.key.sign(&claims()).unwrap();
        let place = place.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(place..=place, &with);
        // The last character of the signature carries four bits that mean nothing; strict decoding refuses them.
        if changed != good {
            prop_assert!(shown(&bench, &changed).is_err(), "{place} {with}");
        }
    }

    #[test]
    fn no_signed_claims_make_us_panic(claims in json_value()) {
        let bench = bench();
        let token = bench.key.sign(&claims).unwrap();
        prop_assert!(shown(&bench, &token).is_err());
    }
}

/// Any JSON, with the names that are looked for.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!("shop")),
        Just(json!("system:serviceaccount:shop:shopper")),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "iss",
                "aud",
                "sub",
                "exp",
                "nbf",
                "kubernetes.io",
                "namespace",
                "serviceaccount",
                "pod",
                "node",
                "secret",
                "name",
                "uid",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
