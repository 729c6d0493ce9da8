//! What attacks that only ask for scores find beside those that follow the gradient: next to nothing, unless the
//! gradient misleads.

use serde::{Deserialize, Serialize};

use crate::config::Epsilon;

/// Counts at one budget at which attacks of both kinds were measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlackBox {
    /// Every attack of at most this counts.
    pub epsilon: Epsilon,
    /// Images that no attack broke that follows the gradient.
    pub stood: u64,
    /// Of these, images that another attack broke.
    pub fell: u64,
}

impl BlackBox {
    /// Adds up two shards, budget by budget.
    pub(super) fn add(all: &mut Vec<Self>, others: &[Self]) {
        for other in others {
            match all.iter_mut().find(|known| known.epsilon == other.epsilon) {
                Some(known) => {
                    known.stood += other.stood;
                    known.fell += other.fell;
                }
                None => all.push(*other),
            }
        }
    }
}

#[cfg(feature = "compute")]
pub(super) use noting::Finds;

#[cfg(feature = "compute")]
mod noting {
    use super::BlackBox;
    use crate::attack::Attack;
    use crate::config::Epsilon;

    /// Which attacks broke which images of a pool.
    pub(in crate::evaluate) struct Finds {
        /// The smallest budget at which each image fell to an attack that follows the gradient; infinite where to none.
        followed: Vec<f64>,
        /// The same of attacks that only ask for scores.
        asked: Vec<f64>,
        /// The budgets at which such attacks were measured.
        budgets: Vec<Epsilon>,
        /// Those at which one took many steps along the gradient: less proves nothing of the gradient.
        walked: Vec<Epsilon>,
    }

    impl Finds {
        /// Of so many images.
        pub fn new(images: usize) -> Self {
            let never = vec![f64::INFINITY; images];
            Self { followed: never.clone(), asked: never, budgets: Vec::new(), walked: Vec::new() }
        }

        /// An attack broke the images at these places.
        pub fn note(&mut self, attack: &Attack, epsilon: Epsilon, fallen: &[i64]) {
            let follows = attack.follows_gradient();
            let smallest = if follows { &mut self.followed } else { &mut self.asked };
            for &place in fallen {
                let known = &mut smallest[place as usize];
                *known = known.min(epsilon.value());
            }
            if !follows {
                self.budgets.push(epsilon);
            } else if attack.walks() {
                self.walked.push(epsilon);
            }
        }

        /// One entry for each budget at which both kinds were measured.
        pub fn counts(&self) -> Vec<BlackBox> {
            let mut counts: Vec<BlackBox> = Vec::new();
            for &epsilon in self.budgets.iter().filter(|epsilon| self.walked.contains(epsilon)) {
                if counts.iter().all(|count| count.epsilon != epsilon) {
                    let stood = |budget: &f64| *budget > epsilon.value();
                    let standing = self.followed.iter().zip(&self.asked).filter(|(followed, _)| stood(followed));
                    let fell = standing.clone().filter(|(_, asked)| !stood(asked)).count() as u64;
                    counts.push(BlackBox { epsilon, stood: standing.count() as u64, fell });
                }
            }
            counts
        }
    }
}
