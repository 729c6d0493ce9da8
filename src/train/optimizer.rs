//! AdamW: Loshchilov & Hutter, "Decoupled weight decay regularization", 2017,
//! <https://arxiv.org/abs/1711.05101>, algorithm 2. β = (0.9, 0.999), ε = 1e-8, as published.
//!
//! Ours, since tch exposes no optimiser state and replicas must carry theirs through the store. All
//! parameters are one flat tensor, so that an update is a handful of element-wise operations.

use tch::{Device, Kind, Tensor};

use crate::config::TrainSettings;
use crate::error::{Error, Result};
use crate::model::Leaf;
use crate::model::weights::{Array, Weights};

const BETA: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;
/// Elements updated at a time on a CPU: all that an update touches stays in the second-level cache.
const CHUNK: i64 = 1 << 15;

/// The optimiser's state for one network.
#[derive(Debug)]
pub struct AdamW {
    /// First and second moments of the gradient, `[P]`.
    first: Tensor,
    second: Tensor,
    /// Updates so far.
    step: u32,
    /// Of every element `[P]`: its learning rate as a multiple of the body's, and its weight decay.
    rates: Tensor,
    decays: Tensor,
    /// The gradient `[P]`, and views of it that lie as the leaves do in the flat parameters.
    gradient: Tensor,
    views: Vec<Tensor>,
    clip_norm: f64,
    ema: f64,
    /// With `ema`, the weights that training goes on from; the network itself then holds the averaged ones
    /// between rounds.
    raw: Option<Tensor>,
}

impl AdamW {
    /// A fresh optimiser for parameters that `leaves` describe.
    pub fn new(leaves: &[Leaf], settings: &TrainSettings) -> Self {
        let device = leaves.first().map_or(Device::Cpu, |leaf| leaf.tensor.device());
        let size = leaves.iter().map(|leaf| leaf.offset + leaf.tensor.numel() as i64).max().unwrap_or(0);
        let zeros = || Tensor::zeros([size], (Kind::Float, device));
        let (rates, decays, gradient) = (zeros(), zeros(), zeros());
        let mut views = Vec::new();
        for leaf in leaves {
            let length = leaf.tensor.numel() as i64;
            let _ = rates.narrow(0, leaf.offset, length).fill_(if leaf.head { settings.head_rate } else { 1.0 });
            let _ = decays.narrow(0, leaf.offset, length).fill_(if leaf.decay { settings.weight_decay } else { 0.0 });
            views.push(gradient.as_strided(leaf.tensor.size(), leaf.tensor.stride(), leaf.offset));
        }
        let (clip_norm, ema) = (settings.clip_norm, settings.ema);
        Self { first: zeros(), second: zeros(), step: 0, rates, decays, gradient, views, clip_norm, ema, raw: None }
    }

    /// The optimiser that [`state`](Self::state) described.
    pub fn resume(leaves: &[Leaf], settings: &TrainSettings, state: &Weights) -> Result<Self> {
        let mut optimizer = Self::new(leaves, settings);
        let size = optimizer.first.numel();
        let read = |name: &str| {
            let array =
                state.get(name).ok_or_else(|| Error::model(format!("optimiser state has no tensor '{name}'")))?;
            if array.shape != [size] {
                let found = &array.shape;
                return Err(Error::model(format!("optimiser tensor '{name}' has shape {found:?}, expected [{size}]")));
            }
            Ok(Tensor::from_slice(&array.values).to_device(optimizer.first.device()))
        };
        let (first, second) = (read("m")?, read("v")?);
        let raw = if settings.ema > 0.0 { Some(read("raw")?) } else { None };
        let step = state.get("step").and_then(|array| array.values.first());
        optimizer.step = *step.ok_or_else(|| Error::model("optimiser state has no tensor 'step'"))? as u32;
        (optimizer.first, optimizer.second, optimizer.raw) = (first, second, raw);
        Ok(optimizer)
    }

    /// Its state: `m` and `v` `[P]`, in the order of the flat parameters; `step` `[1]`; with `ema`, `raw` `[P]`.
    /// The mean of several states is a state.
    pub fn state(&self) -> Weights {
        let flat = [("m", Some(&self.first)), ("v", Some(&self.second)), ("raw", self.raw.as_ref())];
        let mut state: Weights = flat.into_iter().filter_map(|(name, t)| Some((name.to_string(), array(t?)))).collect();
        state.insert("step".into(), Array { shape: vec![1], values: vec![self.step as f32] });
        state
    }

    /// Moves the flat parameters `[P]` against the gradients of the leaves, clipped to the global
    /// norm, at `rate` for the body. Returns the norm before clipping; when it is not finite, nothing moves.
    pub fn update(&mut self, parameters: &Tensor, gradients: &[Tensor], rate: f64) -> f64 {
        let _guard = tch::no_grad_guard();
        for (view, gradient) in self.views.iter_mut().zip(gradients) {
            view.copy_(gradient);
        }
        let norm = self.gradient.norm().double_value(&[]);
        if !norm.is_finite() {
            return norm;
        }
        if self.clip_norm > 0.0 && norm > self.clip_norm {
            let _ = self.gradient.g_mul_scalar_(self.clip_norm / (norm + 1e-6));
        }
        self.step += 1;
        let size = self.gradient.size()[0];
        let chunk = if self.gradient.device() == Device::Cpu { CHUNK } else { size.max(1) };
        for start in (0..size).step_by(chunk as usize) {
            let length = chunk.min(size - start);
            self.update_part(&|flat| flat.narrow(0, start, length), parameters, rate);
        }
        norm
    }

    fn update_part(&self, part: &dyn Fn(&Tensor) -> Tensor, parameters: &Tensor, rate: f64) {
        let (mut first, mut second, mut parameters) = (part(&self.first), part(&self.second), part(parameters));
        let gradient = part(&self.gradient);
        let correction = |beta: f64| 1.0 - beta.powf(f64::from(self.step));
        let _ = first.lerp_(&gradient, 1.0 - BETA.0);
        let _ = second.lerp_(&gradient.square(), 1.0 - BETA.1);
        let mut scale = second.sqrt();
        let _ = scale.g_mul_scalar_(1.0 / correction(BETA.1).sqrt()).g_add_scalar_(EPSILON);
        let mut change = &first / scale;
        let _ = change.g_mul_scalar_(1.0 / correction(BETA.0));
        let _ = change.addcmul_(&part(&self.decays), &parameters);
        let _ = change.g_mul_(&part(&self.rates)).g_mul_scalar_(rate);
        let _ = parameters.g_sub_(&change);
    }

    /// Begins a round: with `ema`, puts the weights that training goes on from into `parameters` and
    /// returns the averaged ones that lay there.
    pub(super) fn begin(&mut self, parameters: &Tensor) -> Option<Tensor> {
        let averaged = (self.ema > 0.0).then(|| parameters.detach().copy());
        if let Some(raw) = self.raw.take() {
            tch::no_grad(|| parameters.shallow_clone().copy_(&raw));
        }
        averaged
    }

    /// After an update: moves the averaged weights towards `parameters`.
    pub(super) fn follow(&self, averaged: &mut Option<Tensor>, parameters: &Tensor) {
        if let Some(averaged) = averaged {
            let _ = tch::no_grad(|| averaged.lerp_(&parameters.detach(), 1.0 - self.ema));
        }
    }

    /// Ends a round: with `ema`, keeps the weights as they are in its state, and leaves the averaged ones in `parameters`.
    pub(super) fn end(&mut self, averaged: Option<Tensor>, parameters: &Tensor) {
        if let Some(averaged) = averaged {
            self.raw = Some(parameters.detach().copy());
            tch::no_grad(|| parameters.shallow_clone().copy_(&averaged));
        }
    }
}

fn array(flat: &Tensor) -> Array {
    let mut values = vec![0f32; flat.numel()];
    flat.to_device(Device::Cpu).copy_data(&mut values, flat.numel());
    Array { shape: vec![values.len()], values }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::tests::settings;

    /// A body's weights and bias and a head's weights, as views of one flat tensor.
    fn leaves(flat: &Tensor) -> Vec<Leaf> {
        [("body.weight", 0, 3, false, true), ("body.bias", 3, 1, false, false), ("head.weight", 4, 2, true, true)]
            .map(|(name, offset, length, head, decay)| Leaf {
                name: name.into(),
                tensor: flat.narrow(0, offset, length).detach(),
                offset,
                head,
                decay,
            })
            .into()
    }

    fn start() -> Tensor {
        Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.1, 1.5, -0.25])
    }

    fn gradients(step: i32) -> Vec<Tensor> {
        [3, 1, 2]
            .iter()
            .enumerate()
            .map(|(number, &length)| {
                let values: Vec<f32> =
                    (0..length).map(|i| (1.0 + i as f32 + 3.0 * number as f32 + 0.7 * step as f32).sin()).collect();
                Tensor::from_slice(&values)
            })
            .collect()
    }

    fn values(flat: &Tensor) -> Vec<f32> {
        array(flat).values
    }

    #[test]
    fn five_updates_agree_with_pytorch() {
        let (mut train, _) = settings();
        (train.clip_norm, train.weight_decay, train.head_rate) = (0.5, 0.01, 5.0);
        let flat = start();
        let mut adamw = AdamW::new(&leaves(&flat), &train);
        for step in 0..5 {
            adamw.update(&flat, &gradients(step), 1e-3);
        }
        // torch.optim.AdamW: see tests/python/optimizer_reference.py.
        let reference = [0.495730883, -1.001822609, 2.001886138, 0.104432474, 1.476764949, -0.263426226];
        for (ours, reference) in values(&flat).iter().zip(reference) {
            assert!((f64::from(*ours) - reference).abs() < 5e-7, "{ours} {reference}");
        }
    }

    #[test]
    fn a_resumed_optimiser_goes_on_with_the_same_bits() {
        let (train, _) = settings();
        let (straight, halted) = (start(), start());
        let mut one = AdamW::new(&leaves(&straight), &train);
        let mut two = AdamW::new(&leaves(&halted), &train);
        for step in 0..6 {
            one.update(&straight, &gradients(step), 1e-2);
            if step == 3 {
                two = AdamW::resume(&leaves(&halted), &train, &two.state()).unwrap();
            }
            two.update(&halted, &gradients(step), 1e-2);
        }
        assert_eq!(values(&straight), values(&halted));
        assert_eq!(one.state(), two.state());
    }

    #[test]
    fn a_gradient_that_is_no_number_moves_nothing() {
        let flat = start();
        let mut adamw = AdamW::new(&leaves(&flat), &settings().0);
        let mut bad = gradients(0);
        bad[1] = Tensor::from_slice(&[f32::NAN]);
        assert!(!adamw.update(&flat, &bad, 1e-3).is_finite());
        assert!(flat.equal(&start()));
        assert_eq!(adamw.state()["step"].values, [0.0]);
    }

    #[test]
    fn a_channels_last_leaf_gets_its_own_gradient() {
        let (mut train, _) = settings();
        train.weight_decay = 0.0;
        let flat = Tensor::zeros([24], (Kind::Float, Device::Cpu));
        let tensor = flat.view([2, 2, 2, 3]).permute([0, 3, 1, 2]);
        let leaf =
            Leaf { name: "conv.weight".into(), tensor: tensor.shallow_clone(), offset: 0, head: false, decay: true };
        let gradient = Tensor::zeros([2, 3, 2, 2], (Kind::Float, Device::Cpu));
        let _ = gradient.narrow(0, 1, 1).narrow(1, 2, 1).narrow(2, 0, 1).narrow(3, 1, 1).fill_(1.0);
        AdamW::new(&[leaf], &train).update(&flat, &[gradient], 0.1);
        assert!((tensor.double_value(&[1, 2, 0, 1]) + 0.1).abs() < 1e-6);
        assert_eq!(values(&flat).iter().filter(|v| **v != 0.0).count(), 1);
    }

    #[test]
    fn a_state_of_another_network_is_refused_by_name() {
        let train = settings().0;
        let refused = |state: &Weights| AdamW::resume(&leaves(&start()), &train, state).unwrap_err().to_string();
        assert!(refused(&Weights::new()).contains("'m'"));
        let mut state = AdamW::new(&leaves(&start()), &train).state();
        state.insert("v".into(), Array { shape: vec![2], values: vec![0.0; 2] });
        let message = refused(&state);
        assert!(message.contains("'v'") && message.contains("[2]") && message.contains("[6]"), "{message}");
    }

    #[test]
    fn averaged_weights_lie_in_the_network_between_rounds() {
        let (mut train, _) = settings();
        train.ema = 0.9;
        let (flat, raw, mut expected) = (start(), start(), start());
        let mut adamw = AdamW::new(&leaves(&flat), &train);
        let mut plain = AdamW::new(&leaves(&raw), &train);
        let distance = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for round in 0..2 {
            let mut averaged = adamw.begin(&flat);
            for step in 2 * round..2 * round + 2 {
                adamw.update(&flat, &gradients(step), 1e-2);
                adamw.follow(&mut averaged, &flat);
                plain.update(&raw, &gradients(step), 1e-2);
                expected = expected * 0.9 + &raw * 0.1;
            }
            adamw.end(averaged, &flat);
            assert!(distance(&flat, &expected) < 1e-6);
            assert!(distance(&Tensor::from_slice(&adamw.state()["raw"].values), &raw) < 1e-6);
            adamw = AdamW::resume(&leaves(&flat), &train, &adamw.state()).unwrap();
        }
    }
}
