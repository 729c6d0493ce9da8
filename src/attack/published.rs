//! The parameters that an attack's name alone stands for, with their source.

use super::{ApgdLoss, Attack};

/// PGD's step as a multiple of ε / steps.
pub(crate) const PGD_STEP: f64 = 2.5;

impl Attack {
    /// One draw.
    pub const RANDOM_SIGN: Self = Self::RandomSign { draws: 1 };

    /// FGSM as published.
    pub const FGSM: Self = Self::Fgsm { step: 1.0 };

    /// Start U(−ε, ε) and a step of 1.25 ε: Wong et al., 2020, section 4.2.
    pub const RS_FGSM: Self = Self::RsFgsm { noise: 1.0, step: 1.25 };

    /// Noise U(−2ε, 2ε) and a step of ε: de Jorge et al., 2022, section 5.
    pub const N_FGSM: Self = Self::NFgsm { noise: 2.0, step: 1.0 };

    /// Steps of 1/255, their number from ε: Kurakin et al., 2016, section 2.
    pub const BIM: Self = Self::Bim { steps: 0 };

    /// 10 steps, decay 1: Dong et al., 2018, section 4.
    pub const MI_FGSM: Self = Self::MiFgsm { steps: 10, decay: 1.0 };

    /// 50 steps at most, overshoot 0.02: the authors' program.
    pub const DEEPFOOL: Self = Self::DeepFool { steps: 50, overshoot: 0.02 };

    /// 9 searches, as in the authors' program, of 1,000 steps at most; they allow 10,000, and like them a
    /// search ends when its loss no longer falls.
    pub const CARLINI_WAGNER: Self = Self::CarliniWagner { steps: 1000, searches: 9 };

    /// 100 steps, one start: the standard version of AutoAttack; as the next two.
    pub const APGD_CE: Self = Self::Apgd { loss: ApgdLoss::CrossEntropy, steps: 100, restarts: 1 };

    /// See [`APGD_CE`](Self::APGD_CE).
    pub const APGD_DLR: Self = Self::Apgd { loss: ApgdLoss::Dlr, steps: 100, restarts: 1 };

    /// See [`APGD_CE`](Self::APGD_CE). Up to 9 targets.
    pub const APGD_T: Self = Self::Apgd { loss: ApgdLoss::TargetedDlr, steps: 100, restarts: 1 };

    /// 100 steps, one start, up to 9 targets: the standard version of AutoAttack.
    pub const FAB_T: Self = Self::Fab { steps: 100, restarts: 1 };

    /// 5,000 queries, halvings as for 10,000: the standard version of AutoAttack.
    pub const SQUARE: Self = Self::Square { queries: 5000 };

    /// One pixel, 400 candidates, 100 generations: Su et al., 2019, section 3.3.
    pub const ONE_PIXEL: Self = Self::OnePixel { pixels: 1, population: 400, generations: 100 };

    /// The attacks of AutoAttack's standard version, in its order.
    pub const AUTO_ATTACK: [Self; 4] = [Self::APGD_CE, Self::APGD_T, Self::FAB_T, Self::SQUARE];

    /// PGD with steps of 2.5 ε / steps: Madry et al., 2017 (see `pgd.rs`).
    pub const fn pgd(steps: u32, restarts: u32) -> Self {
        Self::Pgd { steps, restarts, step: PGD_STEP }
    }
}
