//! Settings as an earlier release wrote them down: keys that it did not know have their present defaults.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{DEFAULT, Settings};

/// For `#[serde(deserialize_with)]`.
pub fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Settings, D::Error> {
    let mut settings: Value = toml::from_str(DEFAULT).map_err(D::Error::custom)?;
    lay(Value::deserialize(deserializer)?, &mut settings);
    serde_json::from_value(settings).map_err(D::Error::custom)
}

fn lay(above: Value, below: &mut Value) {
    match (above, below) {
        (Value::Object(above), Value::Object(below)) => {
            for (key, value) in above {
                lay(value, below.entry(key).or_insert(Value::Null));
            }
        }
        (above, below) => *below = above,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_release_did_not_know_has_its_default() {
        let settings: Settings = toml::from_str(DEFAULT).unwrap();
        let mut earlier = serde_json::to_value(&settings).unwrap();
        earlier["evaluate"].as_object_mut().unwrap().remove("probes");
        earlier.as_object_mut().unwrap().remove("gate");
        earlier["train"]["rounds"] = 3.into();
        let read = stored(earlier.clone()).unwrap();
        assert_eq!((read.evaluate.probes, &read.gate), (settings.evaluate.probes, &settings.gate));
        assert_eq!(read.train.rounds, 3);
        earlier["train"]["of_a_later_release"] = 1.into();
        assert!(stored(earlier).unwrap_err().to_string().contains("of_a_later_release"));
    }
}
