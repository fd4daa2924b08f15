//! Azure's documents with `null` in them, which says the same as nothing.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What is read as if no `null` were in it: one in a machine of somebody else's must not make the whole
/// list of machines one that can't be read. Of lists each entry is one of these, so that no more than
/// an entry is held twice.
#[derive(Debug)]
pub(super) struct WithoutNulls<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WithoutNulls<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        drop_nulls(&mut value);
        T::deserialize(value)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(entries) => {
            entries.retain(|entry| !entry.is_null());
            entries.iter_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Thing {
        name: String,
        tags: BTreeMap<String, String>,
        zones: Vec<String>,
        inner: Option<Box<Thing>>,
    }

    fn read(json: &str) -> Thing {
        serde_json::from_str::<WithoutNulls<Thing>>(json).unwrap().0
    }

    #[test]
    fn null_is_nothing() {
        assert_eq!(
            read(r#"{"name":null,"tags":null,"zones":null,"inner":null}"#),
            Thing::default()
        );
        let deep = read(
            r#"{"name":"x","tags":{"a":null,"b":"c"},"zones":[null,"1"],"inner":{"name":null}}"#,
        );
        assert_eq!(deep.name, "x");
        assert_eq!(deep.tags, BTreeMap::from([("b".into(), "c".into())]));
        assert_eq!(deep.zones, ["1"]);
        assert_eq!(deep.inner, Some(Box::default()));
        assert!(serde_json::from_str::<WithoutNulls<Thing>>(r#"{"name":1}"#).is_err());
    }
}
