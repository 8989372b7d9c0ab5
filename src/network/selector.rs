//! Label selectors, with the semantics of Kubernetes (API conventions, "Label selectors").

use crate::model::Labels;

/// Requirements that all must hold. Without any, every object matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// What one label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label is there and has one of these values.
    In(Box<str>, Box<[Box<str>]>),
    /// The label is not there, or has none of these values.
    NotIn(Box<str>, Box<[Box<str>]>),
    /// The label is there.
    Exists(Box<str>),
    /// The label is not there.
    DoesNotExist(Box<str>),
}

/// Why a requirement is none. It never holds what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// Not `[prefix/]name` of a label.
    #[error("the key is not that of a label")]
    Key,
    /// Not a label's value.
    #[error("a value is not that of a label")]
    Value,
    /// None of Kubernetes' four operators.
    #[error("the operator is not In, NotIn, Exists or DoesNotExist")]
    Operator,
    /// Values where there are to be none, or none where there are to be some.
    #[error("In and NotIn have values, Exists and DoesNotExist have none")]
    Values,
}

impl Requirement {
    /// What an entry of `matchExpressions` says. An entry of `matchLabels` is `In` with one value.
    ///
    /// # Errors
    /// [`InvalidSelector`], by the rules by which the API server checks selectors.
    pub fn new(key: &str, operator: &str, values: &[String]) -> Result<Self, InvalidSelector> {
        if !is_label_key(key) {
            return Err(InvalidSelector::Key);
        }
        if !values.iter().all(|value| is_label_value(value)) {
            return Err(InvalidSelector::Value);
        }
        let key = Box::from(key);
        let listed = || values.iter().map(|value| value.as_str().into()).collect();
        match (operator, values.is_empty()) {
            ("In", false) => Ok(Self::In(key, listed())),
            ("NotIn", false) => Ok(Self::NotIn(key, listed())),
            ("Exists", true) => Ok(Self::Exists(key)),
            ("DoesNotExist", true) => Ok(Self::DoesNotExist(key)),
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => Err(InvalidSelector::Values),
            _ => Err(InvalidSelector::Operator),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let has = |key: &str, values: &[Box<str>]| {
            labels
                .get(key)
                .is_some_and(|value| values.iter().any(|listed| **listed == *value))
        };
        match self {
            Self::In(key, values) => has(key, values),
            Self::NotIn(key, values) => !has(key, values),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
        }
    }
}

impl Selector {
    /// Whether an object with these labels matches.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

/// `[prefix/]name`: the prefix a DNS subdomain, the name as [`is_label_value`] but never empty.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// At most 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or digit; or nothing.
fn is_label_value(value: &str) -> bool {
    let ends = |c: Option<u8>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && ends(value.bytes().next())
        && ends(value.bytes().next_back())
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let ends = |c: Option<u8>| c.is_some_and(|c| c != b'-');
        label
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && ends(label.bytes().next())
            && ends(label.bytes().next_back())
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> Result<Requirement, InvalidSelector> {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        Requirement::new(key, operator, &values)
    }

    fn matches(requirements: &[(&str, &str, &[&str])], labels: &[(&str, &str)]) -> bool {
        let selector: Selector = requirements
            .iter()
            .map(|(key, operator, values)| requirement(key, operator, values).unwrap())
            .collect();
        selector.matches(&labels.iter().copied().collect())
    }

    #[test]
    fn each_operator_is_as_in_kubernetes() {
        let web = [("app", "web"), ("tier", "front")];
        let bare = [("other", "x")];
        for (requirements, of_web, of_bare) in [
            (&[][..], true, true),
            (&[("app", "In", &["web"][..])], true, false),
            (&[("app", "In", &["db", "web"])], true, false),
            (&[("app", "In", &["db"])], false, false),
            (&[("app", "NotIn", &["db"])], true, true),
            (&[("app", "NotIn", &["web"])], false, true),
            (&[("app", "NotIn", &["db", "web"])], false, true),
            (&[("app", "Exists", &[])], true, false),
            (&[("app", "DoesNotExist", &[])], false, true),
            (
                &[("app", "In", &["web"]), ("tier", "In", &["front"])],
                true,
                false,
            ),
            (
                &[("app", "In", &["web"]), ("tier", "In", &["back"])],
                false,
                false,
            ),
            (
                &[("app", "In", &["web"]), ("tier", "DoesNotExist", &[])],
                false,
                false,
            ),
            (&[("App", "In", &["web"])], false, false),
            (&[("app", "In", &["Web"])], false, false),
            (&[("app", "In", &[""])], false, false),
        ] {
            assert_eq!(
                (matches(requirements, &web), matches(requirements, &bare)),
                (of_web, of_bare),
                "{requirements:?}"
            );
        }
        assert!(matches(&[("app", "In", &[""])], &[("app", "")]));
        assert!(!matches(&[("app", "Exists", &[])], &[]));
    }

    #[test]
    fn what_the_api_server_refuses_is_no_requirement() {
        let long = "a".repeat(64);
        for (key, operator, values, why) in [
            ("app", "In", &[][..], InvalidSelector::Values),
            ("app", "NotIn", &[], InvalidSelector::Values),
            ("app", "Exists", &["x"], InvalidSelector::Values),
            ("app", "DoesNotExist", &["x"], InvalidSelector::Values),
            ("app", "Gt", &["1"], InvalidSelector::Operator),
            ("app", "in", &["x"], InvalidSelector::Operator),
            ("app", "", &[], InvalidSelector::Operator),
            ("", "Exists", &[], InvalidSelector::Key),
            ("/app", "Exists", &[], InvalidSelector::Key),
            ("example.com/", "Exists", &[], InvalidSelector::Key),
            ("Example.com/app", "Exists", &[], InvalidSelector::Key),
            ("a..b/app", "Exists", &[], InvalidSelector::Key),
            ("a/b/c", "Exists", &[], InvalidSelector::Key),
            ("-app", "Exists", &[], InvalidSelector::Key),
            ("app-", "Exists", &[], InvalidSelector::Key),
            ("a b", "Exists", &[], InvalidSelector::Key),
            (&long, "Exists", &[], InvalidSelector::Key),
            ("app", "In", &["a b"], InvalidSelector::Value),
            ("app", "In", &["-a"], InvalidSelector::Value),
            ("app", "In", &["a."], InvalidSelector::Value),
            ("app", "In", &["ok", &long], InvalidSelector::Value),
        ] {
            assert_eq!(
                requirement(key, operator, values),
                Err(why),
                "{key} {operator} {values:?}"
            );
        }
        for key in ["app", "a", "A_b.c-d", "kubernetes.io/metadata.name", "1.2/x"] {
            assert!(requirement(key, "Exists", &[]).is_ok(), "{key}");
        }
        for value in ["", "a", "A_b.c-1"] {
            assert!(requirement("app", "In", &[value]).is_ok(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn an_operator_and_its_opposite_never_agree(
            labels in prop::collection::btree_map("[a-c]", "[x-z]", 0..3),
            key in "[a-c]",
            values in prop::collection::vec("[x-z]", 1..3),
        ) {
            let held: Labels = labels.clone().into_iter().collect();
            let holds = |operator: &str, values: &[String]| {
                Requirement::new(&key, operator, values).unwrap().holds(&held)
            };
            prop_assert_ne!(holds("In", &values), holds("NotIn", &values));
            prop_assert_ne!(holds("Exists", &[]), holds("DoesNotExist", &[]));
            prop_assert_eq!(holds("In", &values), labels.get(&key).is_some_and(|value| values.contains(value)));
        }

        #[test]
        fn more_requirements_never_match_more(
            labels in prop::collection::btree_map("[a-c]", "[x-z]", 0..3),
            requirements in prop::collection::vec(("[a-c]", "In|NotIn", prop::collection::vec("[x-z]", 1..3)), 0..4),
        ) {
            let labels: Labels = BTreeMap::into_iter(labels).collect();
            let requirements: Vec<_> = requirements
                .iter()
                .map(|(key, operator, values)| Requirement::new(key, operator, values).unwrap())
                .collect();
            let all: Selector = requirements.iter().cloned().collect();
            let fewer: Selector = requirements.into_iter().skip(1).collect();
            prop_assert!(!all.matches(&labels) || fewer.matches(&labels));
        }

        #[test]
        fn no_text_makes_the_reader_panic(key in "\\PC{0,80}", operator in "\\PC{0,12}", value in "\\PC{0,80}") {
            let _ = Requirement::new(&key, &operator, &[value]);
        }
    }
}
