//! Transfer: images made on one model, tried on another. Papernot, McDaniel, Goodfellow, "Transferability
//! in machine learning", 2016, <https://arxiv.org/abs/1605.07277>. Norm and ε are those of the attack.

use tch::Tensor;

use super::{Attack, Attempt, Goal, Model, Noise, predict};

impl Attack {
    /// Crafts on `surrogate` and asks `victim`, of which nothing but the predicted class is used. All steps are taken,
    /// so that the images go well beyond the surrogate's boundary; attacks that look for the nearest image or for any
    /// end at that boundary (see [`craft`](Self::craft)).
    pub fn transfer(
        &self,
        surrogate: &Model,
        victim: &Model,
        images: &Tensor,
        goal: &Goal,
        epsilon: f64,
        noise: &Noise,
    ) -> Attempt {
        let adversarial = self.craft(surrogate, images, &goal.objective(), epsilon, noise);
        let predicted = predict(victim, &adversarial);
        Attempt { adversarial, predicted }
    }
}
