//! Names of attacks, as in `evaluate.attacks`: `fgsm`, `pgd20` or `pgd-20`, `apgd-ce`, `apgd-ce20x5`.
//! A name alone stands for the published parameters; one or two counts behind it replace them.

use std::fmt;
use std::str::FromStr;

use super::{ApgdLoss, Attack, Norm};
use crate::error::Error;

/// For messages.
pub const KNOWN: &str = "random-sign[N draws], fixed-pixel, fgsm, rs-fgsm, n-fgsm, bim[N], mi-fgsm[N], pgdN[xR], \
                         deepfool[N], cw[NxS searches], apgd-ce[NxR], apgd-dlr[NxR], apgd-t[NxR], fab-t[NxR], \
                         square[N queries], one-pixel[P pixels x G generations], autoattack (N steps, R restarts: \
                         pgd20, pgd10x3)";

/// The word that a name begins with, and what it stands for without counts.
const FAMILIES: [(&str, Attack); 17] = [
    ("random-sign", Attack::RANDOM_SIGN),
    ("fixed-pixel", Attack::FixedPixel),
    ("fgsm", Attack::FGSM),
    ("rs-fgsm", Attack::RS_FGSM),
    ("n-fgsm", Attack::N_FGSM),
    ("bim", Attack::BIM),
    ("mi-fgsm", Attack::MI_FGSM),
    ("pgd", Attack::pgd(0, 1)),
    ("deepfool", Attack::DEEPFOOL),
    ("cw", Attack::CARLINI_WAGNER),
    ("apgd-ce", Attack::APGD_CE),
    ("apgd-dlr", Attack::APGD_DLR),
    ("apgd-t", Attack::APGD_T),
    ("fab-t", Attack::FAB_T),
    ("square", Attack::SQUARE),
    ("one-pixel", Attack::ONE_PIXEL),
    ("autoattack", Attack::AutoAttack),
];

const STEPS: (&str, u32) = ("steps", 10_000);
const RESTARTS: (&str, u32) = ("restarts", 1_000);

impl Attack {
    /// What the counts in a name mean, and the most they may be.
    fn counts(&self) -> [Option<(&'static str, u32)>; 2] {
        match self {
            Self::FixedPixel | Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. } | Self::AutoAttack => {
                [None, None]
            }
            Self::RandomSign { .. } => [Some(("draws", 1_000)), None],
            Self::Bim { .. } | Self::MiFgsm { .. } | Self::DeepFool { .. } => [Some(STEPS), None],
            Self::Pgd { .. } | Self::Apgd { .. } | Self::Fab { .. } => [Some(STEPS), Some(RESTARTS)],
            Self::CarliniWagner { .. } => [Some(STEPS), Some(("searches", 100))],
            Self::Square { .. } => [Some(("queries", 1_000_000)), None],
            Self::OnePixel { .. } => [Some(("pixels", 5)), Some(("generations", 10_000))],
        }
    }

    /// The counts that it has.
    fn counted(&mut self) -> [Option<&mut u32>; 2] {
        match self {
            Self::FixedPixel | Self::Fgsm { .. } | Self::RsFgsm { .. } | Self::NFgsm { .. } | Self::AutoAttack => {
                [None, None]
            }
            Self::RandomSign { draws } => [Some(draws), None],
            Self::Bim { steps } | Self::MiFgsm { steps, .. } | Self::DeepFool { steps, .. } => [Some(steps), None],
            Self::Pgd { steps, restarts, .. } | Self::Apgd { steps, restarts, .. } | Self::Fab { steps, restarts } => {
                [Some(steps), Some(restarts)]
            }
            Self::CarliniWagner { steps, searches } => [Some(steps), Some(searches)],
            Self::Square { queries } => [Some(queries), None],
            Self::OnePixel { pixels, generations, .. } => [Some(pixels), Some(generations)],
        }
    }

    fn family(&self) -> &'static str {
        match self {
            Self::RandomSign { .. } => "random-sign",
            Self::FixedPixel => "fixed-pixel",
            Self::Fgsm { .. } => "fgsm",
            Self::RsFgsm { .. } => "rs-fgsm",
            Self::NFgsm { .. } => "n-fgsm",
            Self::Bim { .. } => "bim",
            Self::MiFgsm { .. } => "mi-fgsm",
            Self::Pgd { .. } => "pgd",
            Self::DeepFool { .. } => "deepfool",
            Self::CarliniWagner { .. } => "cw",
            Self::Apgd { loss: ApgdLoss::CrossEntropy, .. } => "apgd-ce",
            Self::Apgd { loss: ApgdLoss::Dlr, .. } => "apgd-dlr",
            Self::Apgd { loss: ApgdLoss::TargetedDlr, .. } => "apgd-t",
            Self::Fab { .. } => "fab-t",
            Self::Square { .. } => "square",
            Self::OnePixel { .. } => "one-pixel",
            Self::AutoAttack => "autoattack",
        }
    }
}

impl FromStr for Attack {
    type Err = Error;

    /// Reads a name; parameters without a count in it are the published ones.
    fn from_str(name: &str) -> Result<Self, Error> {
        let begun = |&&(family, _): &&(&str, Attack)| name.starts_with(family);
        let family = FAMILIES.iter().filter(begun).max_by_key(|(family, _)| family.len());
        let unknown = || Error::usage(format!("there is no attack '{}'; there are {KNOWN}", name.escape_debug()));
        let &(family, mut attack) = family.ok_or_else(unknown)?;
        let rest = &name[family.len()..];
        if rest.is_empty() && family != "pgd" {
            return Ok(attack);
        }
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(unknown());
        }
        let (first, second) = match rest.split_once('x') {
            Some((first, second)) => (first, Some(second)),
            None => (rest, None),
        };
        let meanings = attack.counts();
        for ((text, count), meaning) in [Some(first), second].into_iter().zip(attack.counted()).zip(meanings) {
            let Some(text) = text else { continue };
            let (Some(count), Some((what, most))) = (count, meaning) else { return Err(unknown()) };
            *count = match text.parse() {
                Ok(number @ 1..) if number <= most => number,
                _ => {
                    return Err(Error::usage(format!(
                        "attack '{}' has {what} '{}'; allowed is a number from 1 to {most}, as in pgd20 or pgd10x3",
                        name.escape_debug(),
                        text.escape_debug()
                    )));
                }
            };
        }
        Ok(attack)
    }
}

impl fmt::Display for Attack {
    /// The name, which leaves out step sizes and noise, and counts that are the published ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family();
        f.write_str(family)?;
        let (mut attack, published) = (*self, FAMILIES.iter().find(|(name, _)| *name == family));
        let mut published = published.map_or(*self, |(_, attack)| *attack);
        let shown = |counts: [Option<&mut u32>; 2]| counts.map(|count| count.map(|count| *count));
        let ([first, second], [usual, other]) = (shown(attack.counted()), shown(published.counted()));
        match (first, second) {
            (Some(first), Some(second)) if Some(second) != other => write!(f, "{first}x{second}"),
            (Some(first), _) if Some(first) != usual => write!(f, "{first}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LInf => "linf",
            Self::L2 => "l2",
            Self::L0 => "l0",
        })
    }
}

impl FromStr for Norm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "linf" => Ok(Self::LInf),
            "l2" => Ok(Self::L2),
            "l0" => Ok(Self::L0),
            _ => Err(Error::usage(format!("there is no norm '{}'; there are linf, l2, l0", name.escape_debug()))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (family, attack) in FAMILIES.iter().filter(|(family, _)| *family != "pgd") {
            assert_eq!(family.parse::<Attack>().unwrap(), *attack);
            assert_eq!(attack.to_string(), *family);
        }
        for name in ["pgd20", "pgd10x3", "apgd-ce20x5", "apgd-t50", "square300", "one-pixel3", "one-pixel1x10", "bim7"]
        {
            assert_eq!(name.parse::<Attack>().unwrap().to_string(), name);
        }
        assert_eq!("pgd-20".parse::<Attack>().unwrap(), Attack::pgd(20, 1));
        assert_eq!("apgd-ce100x1".parse::<Attack>().unwrap(), Attack::APGD_CE);
        for norm in [Norm::LInf, Norm::L2, Norm::L0] {
            assert_eq!(norm.to_string().parse::<Norm>().unwrap(), norm);
        }
    }

    #[test]
    fn what_is_no_attack_is_refused_with_what_there_is() {
        for bad in [
            "",
            "FGSM",
            "pgd",
            "pgd0",
            "pgd-",
            "pgd10x0",
            "pgd10x",
            "pgd5x5x5",
            "pgd99999999999",
            "squares",
            "fgsm3",
            "bim3x3",
            "one-pixel6",
            "autoattack2",
            "autoattackx2",
            "apgd-",
            "cwx",
        ] {
            let message = bad.parse::<Attack>().unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("pgd20"), "{message}");
        }
    }
}
