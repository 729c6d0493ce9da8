//! Names of attacks, as in `evaluate.attacks`: `fgsm`, `rs-fgsm`, `n-fgsm`, `pgd20` or `pgd-20`, `pgd10x3`.

use std::fmt;
use std::str::FromStr;

use super::{Attack, N_FGSM_NOISE, RS_FGSM_STEP};
use crate::error::Error;

/// For messages.
pub const KNOWN: &str = "fgsm, rs-fgsm, n-fgsm, pgdN or pgdNxR (N steps, R restarts: pgd20, pgd10x3)";

impl FromStr for Attack {
    type Err = Error;

    /// Reads a name; parameters other than steps and restarts are the published ones.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "fgsm" => return Ok(Self::FGSM),
            "rs-fgsm" => return Ok(Self::RsFgsm { noise: 1.0, step: RS_FGSM_STEP }),
            "n-fgsm" => return Ok(Self::NFgsm { noise: N_FGSM_NOISE, step: 1.0 }),
            _ => {}
        }
        let Some(counts) = name.strip_prefix("pgd") else {
            return Err(Error::usage(format!("there is no attack '{}'; there are {KNOWN}", name.escape_debug())));
        };
        let (steps, restarts) = counts
            .strip_prefix('-')
            .unwrap_or(counts)
            .split_once('x')
            .unwrap_or_else(|| (counts.strip_prefix('-').unwrap_or(counts), "1"));
        let count = |what: &str, text: &str, most: u32| match text.parse() {
            Ok(count @ 1..) if count <= most => Ok(count),
            _ => Err(Error::usage(format!(
                "attack '{}' has {what} '{}'; allowed is a number from 1 to {most}, as in pgd20 or pgd10x3",
                name.escape_debug(),
                text.escape_debug()
            ))),
        };
        Ok(Self::pgd(count("steps", steps, 10_000)?, count("restarts", restarts, 1_000)?))
    }
}

impl fmt::Display for Attack {
    /// The name, which leaves out step sizes and noise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fgsm { .. } => f.write_str("fgsm"),
            Self::RsFgsm { .. } => f.write_str("rs-fgsm"),
            Self::NFgsm { .. } => f.write_str("n-fgsm"),
            Self::Pgd { steps, restarts: 1, .. } => write!(f, "pgd{steps}"),
            Self::Pgd { steps, restarts, .. } => write!(f, "pgd{steps}x{restarts}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["fgsm", "rs-fgsm", "n-fgsm", "pgd20", "pgd10x3"] {
            assert_eq!(name.parse::<Attack>().unwrap().to_string(), name);
        }
        assert_eq!("pgd-20".parse::<Attack>().unwrap(), Attack::pgd(20, 1));
    }

    #[test]
    fn what_is_no_attack_is_refused_with_what_there_is() {
        for bad in ["", "FGSM", "pgd", "pgd0", "pgd-", "pgd10x0", "pgd10x", "pgd5x5x5", "pgd99999999999", "square"] {
            let message = bad.parse::<Attack>().unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("pgd20"), "{message}");
        }
    }
}
