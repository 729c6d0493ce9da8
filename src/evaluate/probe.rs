//! What is tried for the checks' sake once everything is measured.

use tch::Kind;

use super::audit::count;
use super::pool::{Part, Pool};
use super::{Audit, HALF, Request};
use crate::attack::{Attack, Attempt, Goal, Model};
use crate::task::{Condition, Probe};

/// Asks for scores alone; short, since a sound evaluation has left it next to nothing to find.
const BLACK_BOX: Attack = Attack::Square { queries: 100 };

/// A model and what was measured of it.
pub(super) struct Prober<'a> {
    pub model: &'a Model<'a>,
    pub pool: &'a Pool,
    pub request: &'a Request<'a>,
    pub probe: Probe,
    /// Those of the request's conditions but the first.
    pub attacks: &'a [Attack],
    /// What the model predicted under each condition.
    pub columns: &'a [Vec<i64>],
}

impl Prober<'_> {
    /// Tries noise, twice the steps and a black-box attack on images that no attack of at most the probe's budget
    /// broke: a sound evaluation has left them next to nothing to find.
    pub fn survivors(&self, audit: &mut Audit) {
        let epsilon = self.probe.epsilon;
        let within = |c: &Condition| c.epsilon.value() <= epsilon.value() + 1e-9;
        let of_budget = self.request.conditions[1..].iter().zip(self.attacks).filter(|(c, _)| c.epsilon == epsilon);
        let Some(twice) = of_budget.filter_map(|(_, attack)| attack.with_twice_the_steps()).next_back() else { return };
        let conditions = self.request.conditions.iter().zip(self.columns);
        let counted: Vec<&Vec<i64>> = conditions.filter(|(c, _)| within(c)).map(|(_, column)| column).collect();
        let stands = |&place: &i64| {
            let row = self.pool.rows[place as usize];
            counted.iter().all(|column| column[row] == counted[0][row])
        };
        let standing: Vec<i64> = self.pool.all().into_iter().filter(stands).collect();
        audit.stood += standing.len() as u64;
        for part in self.pool.parts(&standing[..standing.len().min(self.probe.images)]) {
            let fell = |attack: Attack| part.outcome(&self.attempt(attack, &part, epsilon.value())).0.len() as u64;
            audit.probed += part.rows.len() as u64;
            audit.fell_to_noise += fell(Attack::RANDOM_SIGN);
            audit.fell_to_steps += fell(twice);
            audit.fell_to_queries += fell(BLACK_BOX);
        }
    }

    /// Tries both ends of the scale on a few of all images: every attack without a budget, which must change nothing,
    /// and one with half the pixel range, which must break what can be broken.
    pub fn ends(&self, audit: &mut Audit) {
        let places = self.pool.all();
        for part in self.pool.parts(&places[..places.len().min(self.probe.images)]) {
            let mut changed = part.labels.zeros_like().to_kind(Kind::Bool);
            for attack in self.different() {
                let Attempt { adversarial, predicted } = self.attempt(*attack, &part, 0.0);
                let moved = adversarial.ne_tensor(&part.images).flatten(1, -1).any_dim(1, false);
                changed = changed.logical_or(&moved).logical_or(&predicted.ne_tensor(&part.labels));
            }
            audit.tried += part.rows.len() as u64;
            audit.changed_by_nothing += count(&changed);
            audit.stood_half += part.outcome(&self.attempt(HALF.0, &part, HALF.1)).1.len() as u64;
        }
    }

    /// The attacks of all conditions, each once.
    fn different(&self) -> impl Iterator<Item = &Attack> {
        self.attacks.iter().enumerate().filter(|(i, attack)| !self.attacks[..*i].contains(attack)).map(|(_, a)| a)
    }

    fn attempt(&self, attack: Attack, part: &Part, epsilon: f64) -> Attempt {
        let (goal, noise) = (Goal::Away(&part.labels), part.noise(self.request.seed));
        attack.attempt(self.model, &part.images, &goal, epsilon, &noise)
    }
}
