//! What is to be done to every photo: the settings of section `attack`, checked against a model's classes.

use crate::attack::{Attack, Norm};
use crate::config::{AttackSettings, Epsilon};
use crate::error::{Error, Result};
use crate::model::find_class;

/// An attack on photos, ready to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The attack.
    pub attack: Attack,
    /// How far it may go.
    pub budgets: Budgets,
    /// The true class of every photo, where one was given for all.
    pub label: Option<usize>,
    /// The class to reach; none: any but the true one.
    pub target: Option<usize>,
}

/// How far an attack may go.
#[derive(Debug, Clone, PartialEq)]
pub enum Budgets {
    /// Each of these.
    Each(Vec<Epsilon>),
    /// The smallest whole level that works.
    Smallest,
}

impl Plan {
    /// What `settings` ask for, against a model that tells `classes` apart.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for an attack that does not exist or leaves its ball,
    /// classes that the model does not know, and a target that is the true class.
    pub fn new(settings: &AttackSettings, classes: &[String]) -> Result<Self> {
        let attack: Attack = settings.method.parse()?;
        if attack.reach() > 1.0 {
            return Err(Error::usage(format!(
                "attack.method = '{attack}' leaves the epsilon ball (by up to {} epsilon): it is for training",
                attack.reach()
            )));
        }
        settings.epsilons.iter().try_for_each(|&epsilon| check(epsilon, &attack))?;
        let class = |text: &str, what: &str| match text {
            "" => Ok(None),
            text => find_class(classes, text, what).map(Some),
        };
        let (label, target) = (class(&settings.label, "the label")?, class(&settings.target, "the target")?);
        if let (Some(label), Some(target)) = (label, target)
            && label == target
        {
            return Err(Error::usage(format!("the target is the label, '{}': there is nothing to do", classes[label])));
        }
        let budgets = match (settings.smallest, &settings.epsilons[..]) {
            (true, _) if attack.norm() != Norm::LInf => {
                return Err(Error::usage(format!(
                    "the smallest epsilon is sought in whole levels, in the norm linf; {attack} is an attack in {}",
                    norm_name(attack.norm())
                )));
            }
            (true, _) => Budgets::Smallest,
            (false, []) => Budgets::Each(vec![default_epsilon(attack.norm())]),
            (false, given) => Budgets::Each(given.to_vec()),
        };
        Ok(Self { attack, budgets, label, target })
    }
}

/// Whether an attack can be given so much.
fn check(epsilon: Epsilon, attack: &Attack) -> Result<()> {
    let what = format!("attack.epsilons for {attack}, in {}", norm_name(attack.norm()));
    match attack.norm() {
        Norm::L2 => Ok(()),
        Norm::LInf => epsilon.check_pixel_scale().map_err(|why| Error::usage(format!("{what}: {why}"))),
        Norm::L0 if epsilon.value() <= 1.0 => Ok(()),
        Norm::L0 => Err(Error::usage(format!(
            "{what}: epsilon {} is out of range: it says how far a value of a changed pixel may move, 0 to 1; how many \
             pixels change belongs to the method, as in one-pixel3",
            epsilon.value()
        ))),
    }
}

/// As in `attack.epsilons` of `configs/default.toml`.
fn default_epsilon(norm: Norm) -> Epsilon {
    let value = match norm {
        Norm::LInf => 0.01,
        Norm::L2 | Norm::L0 => 1.0,
    };
    Epsilon::new(value).unwrap_or(Epsilon::ZERO)
}

/// A budget as people write it: in levels where they mean any, `4/255`, else as a number.
pub fn shown(epsilon: Epsilon, norm: &str) -> String {
    if norm == "linf" { epsilon.to_string() } else { epsilon.value().to_string() }
}

/// `linf`, `l2` or `l0`.
pub fn norm_name(norm: Norm) -> &'static str {
    match norm {
        Norm::LInf => "linf",
        Norm::L2 => "l2",
        Norm::L0 => "l0",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings() -> AttackSettings {
        crate::config::Layers::new().unwrap().resolve().unwrap().settings.attack
    }

    fn plan(settings: &AttackSettings) -> Result<Plan> {
        Plan::new(settings, &["daisy", "rose", "tulip"].map(String::from))
    }

    #[test]
    fn the_default_is_fgsm_at_one_hundredth_away_from_the_label() {
        let found = plan(&settings()).unwrap();
        let budgets = Budgets::Each(vec![Epsilon::new(0.01).unwrap()]);
        assert_eq!(found, Plan { attack: Attack::FGSM, budgets, label: None, target: None });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let refused = |change: fn(&mut AttackSettings)| {
            let mut settings = settings();
            change(&mut settings);
            plan(&settings).unwrap_err().to_string()
        };
        assert!(refused(|s| s.method = "fsgm".into()).contains("no attack 'fsgm'"));
        assert!(refused(|s| s.method = "n-fgsm".into()).contains("for training"));
        assert!(refused(|s| s.label = "rosa".into()).contains("did you mean 'rose' (1)?"));
        assert!(refused(|s| s.target = "3".into()).contains("the target 3 is out of range"));
        let same = refused(|s| (s.label, s.target) = ("1".into(), "rose".into()));
        assert!(same.contains("the target is the label"), "{same}");
        for method in ["cw", "one-pixel"] {
            let mut settings = AttackSettings { method: method.into(), smallest: true, ..settings() };
            let said = plan(&settings).unwrap_err().to_string();
            assert!(said.contains("is sought in whole levels, in the norm linf"), "{said}");
            settings.smallest = false;
            assert!(plan(&settings).is_ok(), "{method}");
        }
    }

    #[test]
    fn an_epsilon_above_1_is_for_l2_alone() {
        let with = |method: &str| {
            let epsilons = vec![Epsilon::new(0.5).unwrap(), Epsilon::new(3.0).unwrap()];
            plan(&AttackSettings { method: method.into(), epsilons, ..settings() })
        };
        assert!(with("deepfool").is_ok());
        let said = |method| with(method).unwrap_err().to_string();
        assert!(said("pgd20").contains("did you mean 3/255?"), "{}", said("pgd20"));
        assert!(said("one-pixel").contains("as in one-pixel3"), "{}", said("one-pixel"));
    }
}
