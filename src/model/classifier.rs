//! Whatever gives logits: what attacks and evaluations need of a model, and no more.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tch::{Device, Tensor};

use super::brought::Described;
use super::script::Script;
use super::{Network, checkpoint};
use crate::error::Result;

/// A model whose parameters need no gradient.
#[derive(Debug)]
pub enum Classifier {
    /// One of Hardy's networks.
    Network(Network),
    /// A TorchScript file.
    Script(Script),
}

impl From<Network> for Classifier {
    fn from(network: Network) -> Self {
        Self::Network(network.frozen())
    }
}

impl Classifier {
    /// The model that `spec` describes from its bytes (see [`Brought`](super::Brought)), on `device`.
    ///
    /// # Errors
    /// When the bytes are damaged or do not fit the description.
    pub fn load(spec: &Described, bytes: &[u8], device: Device) -> Result<Self> {
        Ok(match spec {
            Described::Network(spec) => Network::load(spec, &checkpoint::read(bytes)?, device)?.into(),
            Described::Script(spec) => Self::Script(Script::load(spec, bytes, device)?),
        })
    }

    /// The same model counting in `looks` how often it is shown images, so that others can see that work goes on.
    pub fn counted(self, looks: Arc<AtomicU64>) -> Self {
        match self {
            Self::Network(network) => Self::Network(network.counted(looks)),
            Self::Script(script) => Self::Script(script.counted(looks)),
        }
    }

    /// Logits `[N, K]` of `images`: `[N, 3, H, W]`, f32 in `[0, 1]`. Normalises by itself. Differentiable
    /// in `images` where [`is_differentiable`](Self::is_differentiable).
    pub fn logits(&self, images: &Tensor) -> Tensor {
        match self {
            Self::Network(network) => network.logits(images),
            Self::Script(script) => script.logits(images),
        }
    }

    /// Features `[N, F]` of the same images, f32, from which the logits follow; a TorchScript file does not show any.
    pub fn features(&self, images: &Tensor) -> Option<Tensor> {
        match self {
            Self::Network(network) => Some(network.features(images)),
            Self::Script(_) => None,
        }
    }

    /// Whether gradients reach the images: of a TorchScript file that rounds or detaches they do not.
    pub fn is_differentiable(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Script(script) => script.is_differentiable(),
        }
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        match self {
            Self::Network(network) => network.device(),
            Self::Script(script) => script.device(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::attack::{Objective, gradient};
    use crate::error::Kind;
    use crate::model::tests::formula_images;
    use crate::model::{Brought, bring, caught};
    use std::path::Path;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/script").join(name)
    }

    fn brought(name: &str) -> Brought {
        let known = bring(&fixture("traced.pt"), None).unwrap();
        Brought { bytes: std::fs::read(fixture(name)).unwrap(), ..known }
    }

    fn load(brought: &Brought) -> Result<Classifier> {
        Classifier::load(&brought.spec, &brought.bytes, Device::Cpu)
    }

    #[test]
    fn logits_and_gradients_are_those_of_python() {
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
        let numbers =
            |name: &str| expected[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<f64>>();
        for name in ["traced.pt", "scripted.pt"] {
            let model = load(&brought(name)).unwrap();
            assert!(model.is_differentiable());
            let images = formula_images(32, 32);
            let labels = Tensor::from_slice(&[0i64]);
            let (gradient, logits) =
                gradient(&|x: &Tensor| model.logits(x), &images, &Objective::CrossEntropy(&labels));
            for (i, expected) in numbers("logits").into_iter().enumerate() {
                let found = logits.double_value(&[0, i as i64]);
                assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{name}: {found} {expected}");
            }
            let total = gradient.abs().sum(tch::Kind::Double).double_value(&[]);
            let expected = expected["gradient_l1"].as_f64().unwrap();
            assert!((total / expected - 1.0).abs() < 1e-4, "{name}: {total} {expected}");
            let flat = gradient.reshape([-1]);
            for (i, expected) in numbers("gradient_first").into_iter().enumerate() {
                let found = flat.double_value(&[i as i64]);
                assert!((found - expected).abs() < 1e-3 * expected.abs().max(1e-3), "{name}: {found} {expected}");
            }
        }
    }

    #[test]
    fn every_look_at_images_is_counted() {
        let looks = Arc::new(AtomicU64::new(0));
        let model = load(&brought("traced.pt")).unwrap().counted(looks.clone());
        for _ in 0..3 {
            let _ = model.logits(&formula_images(32, 32));
        }
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 3);
    }

    #[test]
    fn an_image_has_the_same_logits_alone_and_in_a_batch_and_every_time() {
        let model = load(&brought("scripted.pt")).unwrap();
        let images = Tensor::cat(&[formula_images(32, 32), 1.0 - formula_images(32, 32)], 0);
        let first = model.logits(&images);
        for _ in 0..3 {
            assert!(model.logits(&images).equal(&first));
        }
        let alone = model.logits(&images.narrow(0, 1, 1));
        assert!((alone - first.narrow(0, 1, 1)).abs().max().double_value(&[]) < 1e-3);
    }

    #[test]
    fn a_script_that_is_damaged_or_does_not_fit_is_refused() {
        let sound = brought("traced.pt");
        let refused = |brought: &Brought| {
            let error = load(brought).unwrap_err();
            assert_eq!(error.kind(), Kind::Model);
            error.chain()
        };
        let cut = Brought { bytes: sound.bytes[..sound.bytes.len() / 2].to_vec(), ..sound.clone() };
        assert!(refused(&cut).contains("damaged"));
        let Described::Script(spec) = sound.spec.clone() else { panic!("a script was brought") };
        let mut more = spec.clone();
        more.classes.push("a fourth".into());
        let more = Brought { spec: Described::Script(more), ..sound.clone() };
        assert!(refused(&more).contains("needed is [1, 4]"), "{}", refused(&more));
    }

    /// A file whose logits are `score` of a picture.
    fn traced(score: impl Fn(&Tensor) -> Tensor) -> Brought {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made.pt");
        let input = Tensor::zeros([1, 3, 32, 32], (tch::Kind::Float, Device::Cpu));
        let mut forward = |inputs: &[Tensor]| vec![score(&inputs[0])];
        tch::CModule::create_by_tracing("Made", "forward", &[input], &mut forward).unwrap().save(&path).unwrap();
        let known = bring(&fixture("traced.pt"), None).unwrap();
        Brought { bytes: std::fs::read(&path).unwrap(), ..known }
    }

    /// Overwrites what the sigmoid needs for its gradient.
    fn no_way_back(x: &Tensor) -> Tensor {
        let mut scores = x.mean_dim([2, 3].as_slice(), false, None).sigmoid();
        scores.g_add_scalar_(1.0)
    }

    #[test]
    fn a_gradient_that_cannot_be_computed_is_an_error_and_no_panic() {
        let (images, labels) = (formula_images(32, 32), Tensor::from_slice(&[0i64]));
        let objective = crate::attack::Objective::CrossEntropy(&labels);
        let error = caught(|| Ok(crate::attack::gradient(&no_way_back, &images, &objective))).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.chain().contains("modified by an inplace operation"), "{}", error.chain());
    }

    #[test]
    fn a_script_that_hides_its_gradient_or_takes_one_picture_only_is_found_out() {
        let hidden = traced(|x| x.detach().mean_dim([2, 3].as_slice(), false, None));
        assert!(!load(&hidden).unwrap().is_differentiable());
        assert!(load(&traced(|x| x.mean_dim([2, 3].as_slice(), false, None))).unwrap().is_differentiable());
        assert!(!load(&traced(no_way_back)).unwrap().is_differentiable());
        let single = traced(|x| x.mean_dim([2, 3].as_slice(), false, None).reshape([1, 3]));
        let said = load(&single).unwrap_err().chain();
        assert!(said.contains("traced.pt does not take these 3 pictures of 32x32"), "{said}");
    }

    #[test]
    fn a_script_that_fails_on_pictures_unlike_those_it_was_tried_on_is_an_error_and_no_panic() {
        // An index that is 0 for pictures of one grey, and out of range for all others.
        let picky = traced(|x| {
            let mean = x.mean_dim([2, 3].as_slice(), true, None);
            let spread = (x - &mean).abs().max() * 1e6;
            let only = Tensor::zeros([1], (tch::Kind::Float, Device::Cpu));
            mean.flatten(1, -1) + only.index_select(0, &spread.to_kind(tch::Kind::Int64).view([1]))
        });
        let model = load(&picky).unwrap();
        let images = formula_images(32, 32);
        let error = caught(|| Ok(tch::no_grad(|| model.logits(&images)))).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.chain().contains("traced.pt does not take these 1 pictures"), "{}", error.chain());
        assert!((images.set_requires_grad(true) * 2.0).requires_grad(), "gradients are on again");
        let other = std::panic::catch_unwind(|| caught::<()>(|| std::panic::resume_unwind(Box::new("a fault"))));
        assert!(other.is_err(), "faults of Hardy's own are no fault of the file");
    }
}
