//! Adversarial images as 8-bit pixels, which is what can be saved, sent and measured again.

use tch::Tensor;

use super::{Norm, each};
use crate::config::Epsilon;

/// The 8-bit image nearest to `adversarial` that is at most `levels` away, in every value, from the
/// 8-bit image nearest to `images`. All `[N, 3, H, W]`, f32 in `[0, 1]`; the values returned are
/// whole 255ths, as if decoded from a file, so that pictures made of them lose nothing. What is not
/// a number becomes the original value.
pub fn quantise(adversarial: &Tensor, images: &Tensor, levels: u8) -> Tensor {
    let original = (images * 255.0).round().clamp_(0.0, 255.0);
    let wanted = (adversarial * 255.0).round();
    let wanted = original.where_self(&wanted.isnan(), &wanted);
    let (low, high) = (&original - f64::from(levels), original + f64::from(levels));
    wanted.clamp_tensor(Some(low), Some(high)).clamp_(0.0, 255.0) / 255.0
}

/// The same within `epsilon` in `norm`. In L2 an image that rounding leads beyond ε is rounded towards the original
/// instead, which shortens every change. In L0 rounding changes no pixel that the attack left alone.
pub fn quantise_in(adversarial: &Tensor, images: &Tensor, norm: Norm, epsilon: Epsilon) -> Tensor {
    let nearest = |levels| quantise(adversarial, images, levels);
    match norm {
        Norm::LInf => nearest(epsilon.levels()),
        Norm::L0 => nearest(u8::MAX),
        Norm::L2 => {
            let (rounded, original) = (nearest(u8::MAX), quantise(images, images, 0));
            let change = ((adversarial - &original) * 255.0).nan_to_num_(0.0, None::<f64>, None::<f64>).trunc();
            let shorter = quantise(&(&original + change / 255.0), images, u8::MAX);
            let far = norm.distance(&rounded, &original).gt(epsilon.value());
            shorter.where_self(&each(&far), &rounded)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::images::{pictures, tensor};
    use image::RgbImage;
    use proptest::prelude::*;

    fn picture(bytes: &[u8]) -> RgbImage {
        RgbImage::from_raw(bytes.len() as u32 / 3, 1, bytes.to_vec()).unwrap()
    }

    fn bytes(images: &Tensor) -> Vec<u8> {
        pictures(images).remove(0).into_raw()
    }

    proptest! {
        #[test]
        fn pixels_stay_in_the_ball_whatever_the_attack_returns(
            original in prop::collection::vec(any::<u8>(), 12), levels in 0u8..=255,
            shift in prop::collection::vec(
                prop_oneof![-2f32..2.0, -0.05f32..0.05, Just(f32::NAN), Just(f32::INFINITY)], 12),
        ) {
            let clean = tensor([&picture(&original)]);
            let adversarial = &clean + Tensor::from_slice(&shift).view([1, 3, 1, 4]);
            let quantised = quantise(&adversarial, &clean, levels);
            for (after, before) in bytes(&quantised).iter().zip(&original) {
                prop_assert!(after.abs_diff(*before) <= levels);
            }
            prop_assert!(tensor(&pictures(&quantised)).equal(&quantised), "pictures lose nothing");
        }

        #[test]
        fn pictures_stay_within_epsilon_in_l2(
            original in prop::collection::vec(any::<u8>(), 12), shift in prop::collection::vec(-0.3f32..0.3, 12),
        ) {
            let clean = tensor([&picture(&original)]);
            let adversarial = (&clean + Tensor::from_slice(&shift).view([1, 3, 1, 4])).clamp(0.0, 1.0);
            let length = |image: &Tensor| Norm::L2.distance(image, &clean).double_value(&[0]);
            let epsilon = Epsilon::new((length(&adversarial) + 1e-6).min(1.0)).unwrap();
            let saved = quantise_in(&adversarial, &clean, Norm::L2, epsilon);
            if length(&adversarial) <= 1.0 {
                prop_assert!(length(&saved) <= epsilon.value() + 1e-6);
            }
            prop_assert!(tensor(&pictures(&saved)).equal(&saved), "pictures lose nothing");
        }

        #[test]
        fn without_a_budget_or_a_change_nothing_changes(
            original in prop::collection::vec(any::<u8>(), 12), levels in any::<u8>(),
        ) {
            let clean = tensor([&picture(&original)]);
            prop_assert!(quantise(&clean, &clean, levels).equal(&clean));
            prop_assert!(quantise(&(&clean * 0.5), &clean, 0).equal(&clean));
        }
    }

    #[test]
    fn values_are_rounded_and_not_truncated() {
        let clean = tensor([&picture(&[100; 3])]);
        assert_eq!(bytes(&quantise(&(&clean + 1.6 / 255.0), &clean, 8)), [102; 3]);
        // A full step of 0.01 is 2.55 levels; 2 whole levels fit into it.
        assert_eq!(bytes(&quantise(&(&clean + 0.01), &clean, 2)), [102; 3]);
    }
}
