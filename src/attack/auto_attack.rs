//! Attacks in a row, each over what the earlier left: Croce, Hein, "Reliable evaluation of adversarial
//! robustness with an ensemble of diverse parameter-free attacks", 2020,
//! <https://arxiv.org/abs/2003.01690>, section 5. Its standard version is [`Attack::AUTO_ATTACK`].

use tch::Tensor;

use super::{Attack, Attempt, Goal, Model, Noise, Standing, integers, select};

/// Tries `attacks` in their order: how it ended, and for each image the index of the attack that broke
/// it. Of an image that stands, `adversarial` is what the last attack came to.
pub fn series(
    attacks: &[Attack],
    model: &Model,
    images: &Tensor,
    goal: &Goal,
    epsilon: f64,
    noise: &Noise,
) -> (Attempt, Vec<Option<usize>>) {
    let mut standing = Standing::all(images, goal, noise);
    let mut by = vec![None; noise.keys.len()];
    for (index, attack) in attacks.iter().enumerate() {
        if standing.is_empty() {
            break;
        }
        let found = attack.attempt(model, &standing.images, &standing.goal(), epsilon, &standing.noise(0));
        let before = integers(standing.rows());
        let left = standing.settle(&found.adversarial, &found.predicted);
        standing.note(&select(&found.adversarial, &left), &found.predicted.index_select(0, &left));
        let after = integers(standing.rows());
        for row in before.into_iter().filter(|row| after.binary_search(row).is_err()) {
            by[row as usize] = Some(index);
        }
    }
    (standing.end(), by)
}
