//! Labels of Kubernetes objects.

use std::sync::Arc;

/// The labels of one object. A clone shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label, if the object has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    /// Of a key that comes twice, which an object cannot have, one value is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        labels.sort_unstable();
        labels.dedup_by(|a, b| a.0 == b.0);
        Self(labels.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_by_its_key_whatever_the_order() {
        let labels: Labels = [("tier", "web"), ("app", "shop"), ("empty", "")]
            .into_iter()
            .collect();
        let same: Labels = [("empty", ""), ("app", "shop"), ("tier", "web")]
            .into_iter()
            .collect();
        assert_eq!(labels, same);
        for (key, value) in [
            ("app", Some("shop")),
            ("empty", Some("")),
            ("App", None),
            ("", None),
            ("tie", None),
        ] {
            assert_eq!(labels.get(key), value, "{key}");
        }
        assert_eq!(Labels::default().get("app"), None);
    }
}
