//! From timm's form of a model (convolutions and BatchNorms) to the folded form that Hardy computes with
//! (convolutions with a bias), and back.

use rand::RngExt;

use super::architecture::{Conv, Design, Shortcut};
use super::weights::{Array, Weights, check};
use crate::config::Architecture;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

/// Folds the BatchNorms of `timm` (timm's names) into its convolutions.
///
/// # Errors
/// When a tensor is missing, misshapen, not part of `architecture`, or holds values that are not finite.
pub fn fold(architecture: Architecture, timm: &Weights) -> Result<Weights> {
    let design = Design::of(architecture);
    let checked = classes(&design, timm, architecture).and_then(|classes| {
        let mut shapes = design.timm_shapes(classes);
        // PyTorch counts batches since 0.4.1; older files do without, and folding does too.
        shapes.retain(|(name, _)| !name.ends_with(".num_batches_tracked") || timm.contains_key(name));
        check(timm, &shapes, &architecture.to_string())
    });
    checked.map_err(|error| match resembles(timm) {
        Some(other) if other != architecture => {
            Error::model(format!("these are {other}'s weights, not {architecture}'s: {error}"))
        }
        _ => error,
    })?;
    let mut folded = Weights::new();
    for conv in design.convs() {
        let (weight, bias) = fold_conv(conv, timm, design.norm_epsilon);
        folded.insert(conv.weight(), weight);
        folded.insert(conv.bias(), bias);
    }
    for name in [design.head_weight(), design.head_bias()] {
        folded.insert(name.clone(), timm[&name].clone());
    }
    match folded.iter().find(|(_, array)| array.values.iter().any(|value| !value.is_finite())) {
        Some((name, _)) => Err(Error::model(format!("tensor '{name}' holds values that are not finite"))),
        None => Ok(folded),
    }
}

/// The architecture whose body these are the weights of, whatever the classifier.
pub(super) fn resembles(timm: &Weights) -> Option<Architecture> {
    use Architecture::{HardySmall, Resnet18, Resnet50, TfEfficientnetLite0};
    [TfEfficientnetLite0, Resnet18, Resnet50, HardySmall].into_iter().find(|&architecture| {
        let design = Design::of(architecture);
        let same = |conv: &Conv| timm.get(&conv.weight()).is_some_and(|array| array.shape == conv.shape());
        design.convs().all(same) && design.convs().count() == timm.values().filter(|a| a.shape.len() == 4).count()
    })
}

fn fold_conv(conv: &Conv, timm: &Weights, epsilon: f64) -> (Array, Array) {
    let mut weight = timm[&conv.weight()].clone();
    let Some(norm) = &conv.norm else {
        return (weight, timm[&conv.bias()].clone());
    };
    let part = |part: &str| &timm[&format!("{norm}.{part}")].values;
    let (gain, shift, mean, variance) = (part("weight"), part("bias"), part("running_mean"), part("running_var"));
    let mut bias = Array::filled(vec![conv.output], 0.0);
    let inputs: usize = weight.shape[1..].iter().product();
    for (i, filter) in weight.values.chunks_exact_mut(inputs).enumerate() {
        let scale = f64::from(gain[i]) / (f64::from(variance[i]) + epsilon).sqrt();
        for value in filter {
            *value = (f64::from(*value) * scale) as f32;
        }
        bias.values[i] = (f64::from(shift[i]) - f64::from(mean[i]) * scale) as f32;
    }
    (weight, bias)
}

/// The number of classes that `weights` tell apart.
fn classes(design: &Design, weights: &Weights, architecture: Architecture) -> Result<usize> {
    let name = design.head_weight();
    match weights.get(&name).map(|array| array.shape.as_slice()) {
        Some([classes, _]) => Ok(*classes),
        Some(shape) => Err(Error::model(format!(
            "tensor '{name}' has shape {shape:?}, but {architecture} needs [classes, {}]",
            design.features
        ))),
        None => Err(Error::model(format!(
            "tensor '{name}' is missing: {architecture} needs it with shape [classes, {}]",
            design.features
        ))),
    }
}

/// The form that timm loads with `strict=True`: each BatchNorm only adds the bias, as long as the model is
/// in eval mode.
///
/// # Errors
/// When `folded` is not the folded form of `architecture`.
pub fn export(architecture: Architecture, folded: &Weights) -> Result<Weights> {
    let design = Design::of(architecture);
    let classes = classes(&design, folded, architecture)?;
    check(folded, &design.folded_shapes(classes), &architecture.to_string())?;
    let mut timm = folded.clone();
    for conv in design.convs() {
        let Some(norm) = &conv.norm else { continue };
        let Some(bias) = timm.remove(&conv.bias()) else { continue };
        let filled = |value: f64| Array::filled(vec![conv.output], value as f32);
        timm.insert(format!("{norm}.weight"), filled((1.0 + design.norm_epsilon).sqrt()));
        timm.insert(format!("{norm}.bias"), bias);
        timm.insert(format!("{norm}.running_mean"), filled(0.0));
        timm.insert(format!("{norm}.running_var"), filled(1.0));
        timm.insert(format!("{norm}.num_batches_tracked"), Array::filled(vec![], 0.0));
    }
    Ok(timm)
}

/// `weights` (either form) with a fresh classifier for `classes` classes.
pub fn new_head(weights: &Weights, architecture: Architecture, classes: usize, seed: u64) -> Weights {
    let design = Design::of(architecture);
    let mut weights = weights.clone();
    let bound = 1.0 / (design.features as f64).sqrt();
    weights.insert(design.head_weight(), uniform(vec![classes, design.features], bound, seed, &design.head_weight()));
    weights.insert(design.head_bias(), Array::filled(vec![classes], 0.0));
    weights
}

/// A folded model with random weights: He's uniform initialisation, <https://arxiv.org/abs/1502.01852>.
/// The last convolution beside a shortcut starts at zero, which stands in for normalisation (Zhang et al.,
/// "Fixup initialization", <https://arxiv.org/abs/1901.09321>).
pub fn fresh(architecture: Architecture, classes: usize, seed: u64) -> Weights {
    let design = Design::of(architecture);
    let mut weights = Weights::new();
    for block in &design.blocks {
        for (index, conv) in block.all_convs().enumerate() {
            let last = index + 1 == block.convs.len();
            let beside_shortcut = last && !matches!(block.shortcut, Shortcut::None);
            let inputs: usize = conv.shape()[1..].iter().product();
            let bound = if beside_shortcut { 0.0 } else { (6.0 / inputs as f64).sqrt() };
            weights.insert(conv.weight(), uniform(conv.shape(), bound, seed, &conv.weight()));
            weights.insert(conv.bias(), Array::filled(vec![conv.output], 0.0));
        }
    }
    new_head(&weights, architecture, classes, seed)
}

/// Values in `[-bound, bound)` from the stream of `name`.
fn uniform(shape: Vec<usize>, bound: f64, seed: u64, name: &str) -> Array {
    let mut stream = stream(seed, Purpose::Weights, 0, name);
    let mut array = Array::filled(shape, 0.0);
    for value in &mut array.values {
        *value = ((stream.random::<f64>() * 2.0 - 1.0) * bound) as f32;
    }
    array
}
