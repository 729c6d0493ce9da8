//! An attack budget.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A perturbation budget on the pixel scale `[0, 1]`, written as a number (`0.01`) or `"4/255"`. At most 1, but for
/// the norm l2, where it is the length of a whole image's change.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Epsilon(f64);

impl Epsilon {
    /// No perturbation.
    pub const ZERO: Self = Self(0.0);

    /// The largest budget in l2: a change of every value of 577x577 pixels from black to white.
    pub const MOST: f64 = 1000.0;

    /// A budget of `value`; `None` unless it lies in `[0, MOST]`.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=Self::MOST).contains(&value).then_some(Self(value))
    }

    /// Whether it can bound the change of a single value, as every norm but l2 asks.
    ///
    /// # Errors
    /// When it is more than 1: says so, and what may have been meant.
    pub fn check_pixel_scale(self) -> Result<(), String> {
        match self.0 {
            ..=1.0 => Ok(()),
            ..=255.0 => Err(format!("{}; did you mean {}/255?", out_of_range(self.0), self.0)),
            _ => Err(out_of_range(self.0)),
        }
    }

    /// The budget as a number.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The largest whole number of 8-bit levels inside the budget, 255 at most.
    pub fn levels(self) -> u8 {
        (self.0 * 255.0 + 1e-6).floor() as u8
    }
}

impl fmt::Display for Epsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = self.0 * 255.0;
        if 0.0 < self.0 && self.0 <= 1.0 && (levels - levels.round()).abs() < 1e-6 {
            write!(f, "{}/255", levels.round())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl FromStr for Epsilon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.trim().parse::<f64>().map_err(|_| format!("epsilon '{text}' is not a number"));
        let value = match text.split_once('/') {
            Some((above, below)) => number(above)? / number(below)?,
            None => number(text)?,
        };
        Self::new(value).ok_or_else(|| out_of_range(text))
    }
}

fn out_of_range(given: impl fmt::Display) -> String {
    format!("epsilon {given} is out of range: allowed is 0 to 1 (pixel scale), in l2 up to {}", Epsilon::MOST)
}

impl Serialize for Epsilon {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Epsilon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number or a fraction such as \"4/255\"")]
        enum Text {
            Number(f64),
            Text(String),
        }
        let text = match Text::deserialize(deserializer)? {
            Text::Number(n) => n.to_string(),
            Text::Text(t) => t,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_fractions() {
        assert_eq!("4/255".parse::<Epsilon>().unwrap().value(), 4.0 / 255.0);
        assert_eq!("0.01".parse::<Epsilon>().unwrap().levels(), 2);
        assert_eq!("4/255".parse::<Epsilon>().unwrap().levels(), 4);
        assert_eq!("8/255".parse::<Epsilon>().unwrap().to_string(), "8/255");
        assert_eq!("0.01".parse::<Epsilon>().unwrap().to_string(), "0.01");
    }

    #[test]
    fn refuses_what_lies_outside_and_asks_back() {
        for bad in ["-0.1", "4/0", "NaN", "four", "1001"] {
            assert!(bad.parse::<Epsilon>().is_err(), "{bad}");
        }
        let checked = |text: &str| text.parse::<Epsilon>().and_then(Epsilon::check_pixel_scale);
        assert!(checked("4").is_err_and(|said| said.contains("did you mean 4/255?")));
        assert!(checked("300").is_err_and(|said| !said.contains("did you mean")));
        assert_eq!((checked("1"), checked("4/255")), (Ok(()), Ok(())));
        assert_eq!("3".parse::<Epsilon>().map(|e| (e.to_string(), e.levels())), Ok(("3".into(), 255)));
    }
}
