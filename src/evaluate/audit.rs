//! Whether attacks and network behaved as they must, counted while they were measured.

use serde::{Deserialize, Serialize};

/// Counts over the images of a shard; those of several shards add up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Audit {
    /// Adversarial images looked at: attacked images times attacks.
    pub attacked: u64,
    /// Of these, images with a value that is not a number or lies outside `[0, 1]`.
    pub invalid: u64,
    /// The most by which a perturbation exceeded its budget, pixel scale; a few 1e-8 are rounding.
    pub excess: f64,
    /// Clean images whose gradient was taken.
    pub gradients: u64,
    /// Of these, images without any gradient: an attack that follows it cannot move them.
    pub flat: u64,
    /// Of these, images whose logits came out otherwise when computed again.
    pub unsteady: u64,
    /// Images that no attack of at most some budget broke.
    pub stood: u64,
    /// Of these, images that were attacked with that budget once more.
    pub probed: u64,
    /// Of these, images that noise broke.
    pub fell_to_noise: u64,
    /// Of these, images that the strongest attack broke with twice the steps.
    pub fell_to_steps: u64,
    /// Of these, images that an attack broke that only asks for scores.
    pub fell_to_queries: u64,
}

impl Audit {
    /// Takes in another shard.
    pub fn add(&mut self, other: &Audit) {
        self.attacked += other.attacked;
        self.invalid += other.invalid;
        self.excess = self.excess.max(other.excess);
        self.gradients += other.gradients;
        self.flat += other.flat;
        self.unsteady += other.unsteady;
        self.stood += other.stood;
        self.probed += other.probed;
        self.fell_to_noise += other.fell_to_noise;
        self.fell_to_steps += other.fell_to_steps;
        self.fell_to_queries += other.fell_to_queries;
    }
}

#[cfg(feature = "compute")]
mod looking {
    use tch::{Kind, Tensor};

    use super::Audit;
    use crate::attack::{Model, Objective, gradient};

    impl Audit {
        /// Looks at adversarial images.
        pub(in crate::evaluate) fn images(&mut self, adversarial: &Tensor, images: &Tensor, epsilon: f64) {
            let sound = adversarial.ge(0.0).logical_and(&adversarial.le(1.0)).flatten(1, -1).all_dim(1, false);
            self.attacked += images.size()[0] as u64;
            self.invalid += count(&sound.logical_not());
            let distance =
                (adversarial - images).abs_().nan_to_num(0.0, None::<f64>, None::<f64>).max().double_value(&[]);
            self.excess = self.excess.max(distance - epsilon);
        }

        /// Takes the gradient at clean images and compares their logits with the ones known, of another batch size.
        pub(in crate::evaluate) fn gradients(
            &mut self,
            model: &Model,
            images: &Tensor,
            labels: &Tensor,
            known: &Tensor,
        ) {
            let (gradient, logits) = gradient(model, images, &Objective::CrossEntropy(labels));
            let moved = gradient.flatten(1, -1).ne(0.0).any_dim(1, false);
            let steady = (logits - known).abs_().amax([1].as_slice(), false).le(1e-3);
            self.gradients += images.size()[0] as u64;
            self.flat += count(&moved.logical_not());
            self.unsteady += count(&steady.logical_not());
        }
    }

    fn count(mask: &Tensor) -> u64 {
        mask.sum(Kind::Int64).int64_value(&[]) as u64
    }
}
