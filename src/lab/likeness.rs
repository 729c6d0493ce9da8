//! How alike two pictures look: PSNR and SSIM.
//!
//! SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
//! structural similarity", 2004, <https://doi.org/10.1109/TIP.2003.819861>, section III: Gaussian
//! windows of 11×11 pixels with σ = 1.5, K₁ = 0.01, K₂ = 0.03, the mean over all windows that lie
//! inside the picture and over the three channels.

use image::RgbImage;

/// Pixels from a window's centre to its edge.
const RADIUS: usize = 5;
const SIGMA: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Peak signal-to-noise ratio in decibels; infinite for equal pictures. Both must have one size.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares = a.iter().zip(b.iter()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    let error = squares.sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / error).log10()
}

/// Structural similarity, 1 for equal pictures; `None` where no window fits. Both must have one size.
pub fn ssim(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    let (width, height) = (a.width() as usize, a.height() as usize);
    if width.min(height) < 2 * RADIUS + 1 {
        return None;
    }
    let channels = (0..3).map(|channel| {
        let plane = |image: &RgbImage| image.pixels().map(|p| f64::from(p.0[channel])).collect::<Vec<_>>();
        ssim_of(&plane(a), &plane(b), width)
    });
    Some(channels.sum::<f64>() / 3.0)
}

/// The same for one channel, row by row.
fn ssim_of(a: &[f64], b: &[f64], width: usize) -> f64 {
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<_>>();
    let mean = |values: &[f64]| windows(values, width);
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (square_a, square_b, both) = (mean(&product(a, a)), mean(&product(b, b)), mean(&product(a, b)));
    let each = (0..mean_a.len()).map(|i| {
        let (ma, mb) = (mean_a[i], mean_b[i]);
        let (variance_a, variance_b, covariance) = (square_a[i] - ma * ma, square_b[i] - mb * mb, both[i] - ma * mb);
        ((2.0 * ma * mb + C1) * (2.0 * covariance + C2)) / ((ma * ma + mb * mb + C1) * (variance_a + variance_b + C2))
    });
    each.sum::<f64>() / mean_a.len() as f64
}

/// The Gaussian mean of every window that lies inside the picture.
fn windows(values: &[f64], width: usize) -> Vec<f64> {
    let weight = |i: usize| (-(i as f64 - RADIUS as f64).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let weights: Vec<f64> = (0..2 * RADIUS + 1).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let dot = |cut: &mut dyn Iterator<Item = f64>| cut.zip(&weights).map(|(v, w)| v * w).sum::<f64>() / total;
    let inner = width - 2 * RADIUS;
    let mut rows = Vec::new();
    for row in values.chunks_exact(width) {
        rows.extend(row.windows(weights.len()).map(|cut| dot(&mut cut.iter().copied())));
    }
    let height = values.len() / width - 2 * RADIUS;
    let column = |at: usize| dot(&mut rows[at..].iter().step_by(inner).copied());
    (0..height * inner).map(column).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The pictures of tests/python/likeness_reference.py.
    fn pair(height: u32, width: u32, levels: i32) -> (RgbImage, RgbImage) {
        let at = |x: u32, y: u32, c: u32| ((x * 5 + y * 3 + c * 40 + (x * y) % 17) % 256) as u8;
        let bent = |x: u32, y: u32, c: u32| {
            let sign = if (x * 7 + y * 11 + c * 3) % 5 < 2 { 1 } else { -1 };
            (i32::from(at(x, y, c)) + sign * levels).clamp(0, 255) as u8
        };
        let picture = |f: &dyn Fn(u32, u32, u32) -> u8| {
            RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| f(x, y, c))))
        };
        (picture(&at), picture(&bent))
    }

    #[test]
    fn figures_are_those_of_scikit_image() {
        for (height, width, levels, expected_psnr, expected_ssim) in [
            (24, 31, 1, 48.146397682, 0.996505940),
            (24, 31, 8, 30.133446614, 0.819614602),
            (64, 64, 2, 42.139015221, 0.988257549),
            (64, 64, 51, 14.581862360, 0.225604640),
            (11, 11, 4, 36.089603782, 0.939812717),
        ] {
            let (a, b) = pair(height, width, levels);
            assert!((psnr(&a, &b) - expected_psnr).abs() < 1e-8, "{height} {width} {levels}: {}", psnr(&a, &b));
            let ssim = ssim(&a, &b).unwrap();
            assert!((ssim - expected_ssim).abs() < 1e-8, "{height} {width} {levels}: {ssim}");
        }
    }

    #[test]
    fn a_picture_is_like_itself_and_a_tiny_one_has_no_window() {
        let (a, _) = pair(12, 20, 0);
        assert_eq!((psnr(&a, &a), ssim(&a, &a)), (f64::INFINITY, Some(1.0)));
        let (a, b) = pair(10, 40, 3);
        assert_eq!(ssim(&a, &b), None);
    }
}
