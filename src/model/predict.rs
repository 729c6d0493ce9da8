//! What a model says of pictures.

use image::RgbImage;
use tch::Kind;

use super::{Classifier, images};

/// The confidence (softmax) of every class for each picture; every picture has the model's input size.
pub fn predict(model: &Classifier, pictures: &[RgbImage]) -> Vec<Vec<f32>> {
    if pictures.is_empty() {
        return vec![];
    }
    let images = images::tensor(pictures).to_device(model.device());
    let confidence = tch::no_grad(|| model.logits(&images).softmax(1, Kind::Float));
    let mut values = vec![0.0; confidence.numel()];
    confidence.to_device(tch::Device::Cpu).copy_data(&mut values, confidence.numel());
    values.chunks_exact(values.len() / pictures.len()).map(<[f32]>::to_vec).collect()
}

/// The `count` most confident classes, best first; of equals the first.
pub fn top(confidence: &[f32], count: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..confidence.len()).collect();
    classes.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]));
    classes.truncate(count);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_confident_come_first() {
        assert_eq!(top(&[0.1, 0.5, 0.2, 0.2], 3), [1, 2, 3]);
        assert_eq!(top(&[0.1, 0.9], 7), [1, 0]);
    }
}
