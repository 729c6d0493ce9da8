//! What training minimises.

use tch::{Reduction, Tensor};

use crate::attack::NO_INDEX_IGNORED;
use crate::config::{Loss, TrainSettings};

/// The loss of a batch, and the logits that its accuracy is counted on.
#[derive(Debug)]
pub struct Scored {
    /// A scalar that can be differentiated in the network's parameters.
    pub loss: Tensor,
    /// `[N, K]`, of the adversarial images where there are any.
    pub logits: Tensor,
}

/// Scores `clean` and, where there is an adversary, `adversarial` images with their `labels`:
///
/// - `adversarial`: cross-entropy on the adversarial images (Madry 2017).
/// - `mix`: `clean_weight` times that on the clean ones plus the rest on the adversarial ones
///   (Goodfellow 2014, equation in section 6).
/// - `trades`: cross-entropy on the clean ones plus `trades_beta` times KL(clean ‖ adversarial)
///   (Zhang et al. 2019, <https://arxiv.org/abs/1901.08573>, equation 5).
///
/// Without an adversary all three are cross-entropy on the clean images. Cross-entropy has the settings'
/// label smoothing and is the mean over the batch, as is the divergence.
pub fn score(
    model: &dyn Fn(&Tensor) -> Tensor,
    clean: &Tensor,
    adversarial: Option<&Tensor>,
    labels: &Tensor,
    settings: &TrainSettings,
) -> Scored {
    let entropy = |logits: &Tensor| {
        logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, NO_INDEX_IGNORED, settings.label_smoothing)
    };
    let Some(adversarial) = adversarial else {
        let logits = model(clean);
        return Scored { loss: entropy(&logits), logits };
    };
    let both = || {
        let count = clean.size()[0];
        let logits = model(&Tensor::cat(&[clean, adversarial], 0));
        (logits.narrow(0, 0, count), logits.narrow(0, count, count))
    };
    match settings.loss {
        Loss::Adversarial => {
            let logits = model(adversarial);
            Scored { loss: entropy(&logits), logits }
        }
        Loss::Mix => {
            let (clean, logits) = both();
            let weight = settings.clean_weight;
            Scored { loss: entropy(&clean) * weight + entropy(&logits) * (1.0 - weight), logits }
        }
        Loss::Trades => {
            let (clean, logits) = both();
            let divergence = divergence(&clean, &logits) / logits.size()[0] as f64;
            Scored { loss: entropy(&clean) + divergence * settings.trades_beta, logits }
        }
    }
}

/// KL(`clean` ‖ `adversarial`) of the two distributions, from logits, summed over the batch.
fn divergence(clean: &Tensor, adversarial: &Tensor) -> Tensor {
    let clean = clean.log_softmax(-1, clean.kind());
    adversarial.log_softmax(-1, adversarial.kind()).kl_div(&clean, Reduction::Sum, true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::tests::settings;

    /// Logits are the first K values of the image: every loss can be worked out by hand.
    fn identity(images: &Tensor) -> Tensor {
        images.flatten(1, -1).narrow(1, 0, 2)
    }

    fn scored(loss: Loss, smoothing: f64, adversarial: bool) -> f64 {
        let (mut settings, _) = settings();
        (settings.loss, settings.label_smoothing, settings.clean_weight, settings.trades_beta) =
            (loss, smoothing, 0.25, 6.0);
        // Probabilities: clean (0.8, 0.2), adversarial (0.4, 0.6); the label is 0.
        let image = |p: f32| Tensor::from_slice(&[p.ln(), (1.0 - p).ln()]).view([1, 2, 1, 1]);
        let bent = adversarial.then(|| image(0.4));
        score(&identity, &image(0.8), bent.as_ref(), &Tensor::from_slice(&[0i64]), &settings).loss.double_value(&[])
    }

    #[test]
    fn losses_have_the_values_of_their_formulas() {
        let (clean, bent) = (-0.8f64.ln(), -0.4f64.ln());
        let kl = 0.8 * (0.8f64 / 0.4).ln() + 0.2 * (0.2f64 / 0.6).ln();
        for (loss, expected) in
            [(Loss::Adversarial, bent), (Loss::Mix, 0.25 * clean + 0.75 * bent), (Loss::Trades, clean + 6.0 * kl)]
        {
            assert!((scored(loss, 0.0, true) - expected).abs() < 1e-6, "{loss}");
            assert!((scored(loss, 0.0, false) - clean).abs() < 1e-6, "{loss} without an adversary");
        }
        let smooth = 0.9 * bent + 0.1 * (bent - 0.6f64.ln()) / 2.0;
        assert!((scored(Loss::Adversarial, 0.1, true) - smooth).abs() < 1e-6);
    }
}
