//! McNemar's paired test (1947), in its exact form: two models on the same images.

/// Beyond so many discordant images the exact sum says nothing that the normal approximation does not.
const EXACT: u64 = 100_000;

/// The two-sided probability of a split at least as uneven as `gained` to `lost` when both were equally
/// likely for each image on which the models differ. 1 where they never differ.
///
/// The sum of binomial terms up to 100,000 images; beyond, the normal approximation with a continuity
/// correction (Edwards 1948).
pub fn p_value(gained: u64, lost: u64) -> f64 {
    let n = gained + lost;
    if n == 0 {
        return 1.0;
    }
    let fewer = gained.min(lost);
    if n > EXACT {
        let z = ((gained.abs_diff(lost) as f64 - 1.0).max(0.0)) / (n as f64).sqrt();
        return (2.0 * upper_tail(z)).min(1.0);
    }
    // Terms in logarithms: 2^-n alone leaves the range of f64 at n = 1075.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for k in 1..=fewer {
        term += ((n - k + 1) as f64).ln() - (k as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// The upper tail of the normal distribution (Abramowitz and Stegun 1964, 7.1.26; error below 2e-7).
fn upper_tail(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    0.5 * poly * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From tests/python/mcnemar_reference.py, in exact rational arithmetic.
    const REFERENCE: &[(u64, u64, f64)] = include!("mcnemar_reference.in");

    #[test]
    fn agrees_with_exact_rational_arithmetic() {
        for &(gained, lost, expected) in REFERENCE {
            let found = p_value(gained, lost);
            assert!((found - expected).abs() <= 1e-9 * expected.max(1e-12), "{gained} {lost}: {found} {expected}");
        }
    }

    #[test]
    fn the_approximation_takes_over_without_a_step() {
        let (exact, beyond) = (p_value(50_300, 49_700), p_value(50_301, 49_700));
        assert!((exact - beyond).abs() < 2e-3, "{exact} {beyond}");
    }

    proptest! {
        #[test]
        fn is_a_probability_symmetric_and_falls_as_the_split_grows_uneven(a in 0u64..400, b in 0u64..400) {
            let p = p_value(a, b);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert_eq!(p, p_value(b, a));
            if a >= b && b > 0 {
                prop_assert!(p_value(a + 1, b - 1) <= p + 1e-12);
            }
        }
    }
}
