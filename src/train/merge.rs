//! Replicas become one checkpoint: plain arithmetic in a fixed order, without libtorch, so that the
//! result is the same on every machine.

use crate::error::{Error, Result};
use crate::model::weights::{Array, Weights};

/// The mean of all replicas, tensor by tensor: summed in f64 in the order given, divided, rounded once.
/// For weights and for optimiser states. All must hold the same tensors of the same shapes.
pub fn average(replicas: &[Weights]) -> Result<Weights> {
    let (first, others) = replicas.split_first().ok_or_else(|| Error::internal("there are no replicas to merge"))?;
    for (number, other) in others.iter().enumerate() {
        matching(first, other, &format!("replica {}", number + 1))?;
    }
    let mean = |name: &String, array: &Array| {
        let mut sums: Vec<f64> = array.values.iter().map(|&v| f64::from(v)).collect();
        for other in others {
            for (sum, &value) in sums.iter_mut().zip(&other[name].values) {
                *sum += f64::from(value);
            }
        }
        let count = replicas.len() as f64;
        Array { shape: array.shape.clone(), values: sums.iter().map(|sum| (sum / count) as f32).collect() }
    };
    Ok(first.iter().map(|(name, array)| (name.clone(), mean(name, array))).collect())
}

/// Outer Nesterov momentum (DiLoCo, <https://arxiv.org/abs/2311.08105>, algorithm 1, line 14): the way
/// from `start` to the replicas' `mean` is a gradient to be followed with momentum. Returns the new
/// weights and the new momentum; `momentum` is `None` in the first round. The paper takes
/// rate 0.7 and momentum 0.9; rate 1 and momentum 0 give the mean itself.
pub fn nesterov(
    start: &Weights,
    mean: &Weights,
    momentum: Option<&Weights>,
    rate: f64,
    decay: f64,
) -> Result<(Weights, Weights)> {
    matching(start, mean, "the replicas' mean")?;
    if let Some(momentum) = momentum {
        matching(start, momentum, "the outer momentum")?;
    }
    let (mut weights, mut velocities) = (start.clone(), start.clone());
    for (name, array) in &mut weights {
        let velocity = &mut velocities.get_mut(name).ok_or_else(|| Error::internal("names differ"))?.values;
        let before = momentum.map(|m| &m[name].values);
        for (i, weight) in array.values.iter_mut().enumerate() {
            let gradient = f64::from(*weight) - f64::from(mean[name].values[i]);
            let speed = decay * before.map_or(0.0, |b| f64::from(b[i])) + gradient;
            velocity[i] = speed as f32;
            *weight = (f64::from(*weight) - rate * (gradient + decay * speed)) as f32;
        }
    }
    Ok((weights, velocities))
}

/// Fails unless `other` holds the same tensors as `one`.
fn matching(one: &Weights, other: &Weights, what: &str) -> Result<()> {
    for (name, array) in one {
        match other.get(name) {
            Some(found) if found.shape == array.shape => {}
            Some(found) => {
                return Err(Error::model(format!(
                    "{what} cannot be merged: tensor {name} has shape {:?}, expected {:?}",
                    found.shape, array.shape
                )));
            }
            None => return Err(Error::model(format!("{what} cannot be merged: tensor {name} is missing"))),
        }
    }
    match other.keys().find(|name| !one.contains_key(*name)) {
        Some(name) => Err(Error::model(format!("{what} cannot be merged: tensor {name} is not expected"))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(values: &[f32]) -> Weights {
        [("w".to_string(), Array { shape: vec![values.len()], values: values.to_vec() })].into()
    }

    proptest! {
        #[test]
        fn equal_replicas_are_their_own_mean(values in prop::collection::vec(-1e6f32..1e6, 0..20), copies in 1usize..9) {
            let one = weights(&values);
            prop_assert_eq!(average(&vec![one.clone(); copies]).unwrap(), one);
        }

        #[test]
        fn the_mean_lies_between_the_replicas(a in -1e3f32..1e3, b in -1e3f32..1e3, c in -1e3f32..1e3) {
            let mean = average(&[weights(&[a]), weights(&[b]), weights(&[c])]).unwrap()["w"].values[0];
            prop_assert!(a.min(b).min(c) <= mean && mean <= a.max(b).max(c));
        }

        #[test]
        fn nesterov_without_momentum_at_rate_one_is_the_mean(a in -1e3f32..1e3, b in -1e3f32..1e3) {
            let (merged, _) = nesterov(&weights(&[a]), &weights(&[b]), None, 1.0, 0.0).unwrap();
            prop_assert_eq!(merged, weights(&[b]));
        }
    }

    #[test]
    fn nesterov_follows_sgd() {
        // torch.optim.SGD(lr=0.7, momentum=0.9, nesterov=True) from 1.0 with gradients 0.5 and 0.25:
        // see tests/python/optimizer_reference.py.
        let (first, momentum) = nesterov(&weights(&[1.0]), &weights(&[0.5]), None, 0.7, 0.9).unwrap();
        let mean = weights(&[first["w"].values[0] - 0.25]);
        let (second, _) = nesterov(&first, &mean, Some(&momentum), 0.7, 0.9).unwrap();
        assert!((first["w"].values[0] - 0.335).abs() < 1e-6);
        assert!((second["w"].values[0] + 0.281).abs() < 1e-6, "{second:?}");
    }

    #[test]
    fn replicas_that_do_not_match_are_refused_by_name() {
        let message = average(&[weights(&[1.0]), weights(&[1.0, 2.0])]).unwrap_err().to_string();
        assert!(message.contains("replica 1") && message.contains("tensor w") && message.contains("[2]"), "{message}");
        assert!(average(&[weights(&[1.0]), Weights::new()]).unwrap_err().to_string().contains("missing"));
        assert!(average(&[Weights::new(), weights(&[1.0])]).unwrap_err().to_string().contains("not expected"));
        assert!(average(&[]).is_err());
    }
}
