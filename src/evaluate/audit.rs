//! Whether attacks and network behaved as they must, counted while they were measured.

use serde::{Deserialize, Serialize};

use super::BlackBox;

/// Counts over the images of a shard; those of several shards add up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    /// Adversarial images looked at: attacked images times attacks.
    pub attacked: u64,
    /// Of these, images with a value that is not a number or lies outside `[0, 1]`.
    pub invalid: u64,
    /// The most by which a perturbation exceeded its budget, in the norm of its attack: pixel scale, of L0 also the
    /// pixels too many. A few 1e-8 are rounding.
    pub excess: f64,
    /// Clean images whose gradient was taken.
    pub gradients: u64,
    /// Of these, images without any gradient: an attack that follows it cannot move them.
    pub flat: u64,
    /// Of these, images whose logits came out otherwise when computed again.
    pub unsteady: u64,
    /// What attacks found that only ask for scores.
    pub black_box: Vec<BlackBox>,
    /// Images that every attack was tried on without a budget, and one with half the pixel range.
    pub tried: u64,
    /// Of these, images that an attack without a budget changed, or that were then seen otherwise.
    pub changed_by_nothing: u64,
    /// Of these, images that stood against half the pixel range.
    pub stood_half: u64,
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
        BlackBox::add(&mut self.black_box, &other.black_box);
        self.tried += other.tried;
        self.changed_by_nothing += other.changed_by_nothing;
        self.stood_half += other.stood_half;
        self.stood += other.stood;
        self.probed += other.probed;
        self.fell_to_noise += other.fell_to_noise;
        self.fell_to_steps += other.fell_to_steps;
        self.fell_to_queries += other.fell_to_queries;
    }
}

#[cfg(feature = "compute")]
pub(super) use looking::count;

#[cfg(feature = "compute")]
mod looking {
    use tch::{Kind, Tensor};

    use super::Audit;
    use crate::attack::{Attack, Model, Norm, Objective, gradient};

    impl Audit {
        /// Looks at the adversarial images of an attack.
        pub(in crate::evaluate) fn images(
            &mut self,
            adversarial: &Tensor,
            images: &Tensor,
            attack: &Attack,
            epsilon: f64,
        ) {
            let sound = adversarial.ge(0.0).logical_and(&adversarial.le(1.0)).flatten(1, -1).all_dim(1, false);
            self.attacked += images.size()[0] as u64;
            self.invalid += count(&sound.logical_not());
            let size = |norm: Norm| {
                let distances = norm.distance(adversarial, images).nan_to_num(0.0, None::<f64>, None::<f64>);
                distances.max().double_value(&[])
            };
            let pixels = if let Attack::OnePixel { pixels, .. } = attack { *pixels } else { 1 };
            let excess = match attack.norm() {
                Norm::L0 => (size(Norm::L0) - f64::from(pixels)).max(size(Norm::LInf) - epsilon),
                norm => size(norm) - epsilon,
            };
            self.excess = self.excess.max(excess);
        }

        /// Takes the gradient at clean images and compares their logits with the ones known, of another batch size.
        /// GPUs convolve in TF32, of 10 bits, and by another algorithm for each size.
        pub(in crate::evaluate) fn gradients(
            &mut self,
            model: &Model,
            images: &Tensor,
            labels: &Tensor,
            known: &Tensor,
        ) {
            let (gradient, logits) = gradient(model, images, &Objective::CrossEntropy(labels));
            let moved = gradient.flatten(1, -1).ne(0.0).any_dim(1, false);
            let moved_by = (logits - known).abs_().amax([1].as_slice(), false);
            let steady = if images.device().is_cuda() {
                moved_by.le_tensor(&(known.abs().amax([1].as_slice(), false).clamp_min(1.0) * 2e-2))
            } else {
                moved_by.le(1e-3)
            };
            self.gradients += images.size()[0] as u64;
            self.flat += count(&moved.logical_not());
            self.unsteady += count(&steady.logical_not());
        }
    }

    /// How many of a mask are true.
    pub(in crate::evaluate) fn count(mask: &Tensor) -> u64 {
        mask.sum(Kind::Int64).int64_value(&[]) as u64
    }
}

#[cfg(all(test, feature = "compute"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::attack::Attack;
    use tch::{Device, Kind, Tensor};

    fn excess(attack: &str, epsilon: f64, change: impl Fn(&Tensor)) -> f64 {
        let images = Tensor::full([2, 3, 8, 8], 0.5, (Kind::Float, Device::Cpu));
        let adversarial = images.copy();
        change(&adversarial);
        let mut audit = Audit::default();
        audit.images(&adversarial, &images, &attack.parse::<Attack>().unwrap(), epsilon);
        assert_eq!((audit.attacked, audit.invalid), (2, 0));
        audit.excess
    }

    #[test]
    fn a_perturbation_is_measured_in_the_norm_of_its_attack() {
        // 192 values moved by 0.01 each have a length of 0.139.
        let slight = |images: &Tensor| drop(images.get(1).g_add_scalar_(0.01));
        assert_eq!(excess("pgd5", 0.1, slight), 0.0);
        for attack in ["cw", "deepfool"] {
            assert!((excess(attack, 0.1, slight) - 0.0386).abs() < 1e-4);
            assert_eq!(excess(attack, 0.14, slight), 0.0);
        }
    }

    #[test]
    fn pixels_are_counted_and_their_values_held() {
        let row = |pixels| move |images: &Tensor| drop(images.get(1).select(1, 4).narrow(1, 0, pixels).fill_(0.9));
        assert_eq!(excess("one-pixel", 1.0, row(1)), 0.0);
        assert_eq!(excess("one-pixel3", 1.0, row(3)), 0.0);
        assert_eq!(excess("one-pixel3", 1.0, row(5)), 2.0);
        assert_eq!(excess("fixed-pixel", 1.0, row(2)), 1.0);
        assert!((excess("one-pixel", 0.3, row(1)) - 0.1).abs() < 1e-6);
    }
}
