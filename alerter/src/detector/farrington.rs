//! The outbreak detector of Farrington and Noufaily, for small counts in short windows.

use super::{Anomaly, Detector, Sample};

/// Compares a count with a robust, overdispersed Poisson baseline.
///
/// Farrington, Andrews, Beale, Catchpole: *A statistical algorithm for the early detection of
/// outbreaks of infectious disease*, J. R. Statist. Soc. A 159 (1996) 547–563; with the two
/// changes of Noufaily et al., *An improved algorithm for outbreak detection in multiple
/// surveillance systems*, Statist. Med. 32 (2013) 1206–1222: past windows are weighted down only
/// when their residual exceeds 2.58, and the threshold comes from the negative binomial.
/// Left out are trend and season, for which an hour of minutes is too short.
///
/// 1. Mean μ and dispersion φ (variance = φμ, φ ≥ 1) of the past windows, at first without the
///    greatest two of thirty: an earlier spike that falls into two windows would swell φ so much
///    that step 2 no longer sees it.
/// 2. Windows far above it get weight 1/residual², so that they do not hide the next rise; μ and φ
///    again with these weights. A post that always comes in bursts keeps its large φ.
/// 3. p = P(Y ≥ observed) for a negative binomial Y of mean μ and variance φμ(1 + 1/n): the spread
///    of a new count plus the doubt about μ after n windows. μ = (sum + ½) / n makes this, at
///    φ = 1, exactly the prediction of a Poisson model with the prior of Jeffreys: so a past of
///    nothing but zeros is an answer too.
#[derive(Debug, Clone, Copy)]
pub struct Farrington {
    /// Below this p-value a count is an anomaly …
    pub p_value_max: f64,
    /// … if it is also this many times what was expected: in a busy object a rise of a fifth can be
    /// significant and yet of no interest.
    pub ratio_min: f64,
}

/// The 99.5 % point of the normal distribution: Noufaily's bound for what counts as past outbreak.
const OUTLIER_RESIDUAL: f64 = 2.58;

/// One window of so many may be a spike without being taken for the object's habit.
const TRIMMED_ONE_OF: usize = 15;

#[derive(Debug, Clone, Copy)]
struct Baseline {
    mean: f64,
    dispersion: f64,
    /// Windows it rests on, weighted.
    weight: f64,
}

impl Detector for Farrington {
    fn judge(&self, sample: &Sample<'_>) -> Option<Anomaly> {
        let baseline = Baseline::of(sample.history)?;
        let observed = f64::from(sample.observed);
        if observed < self.ratio_min * baseline.mean {
            return None;
        }
        let score = -log10_upper_tail(sample.observed, baseline.mean, baseline.spread());
        (score >= -self.p_value_max.log10()).then_some(Anomaly { expected: baseline.mean, score })
    }
}

impl Baseline {
    fn of(history: &[u32]) -> Option<Self> {
        let mut calm = history.to_vec();
        calm.sort_unstable();
        calm.truncate(history.len() - history.len() / TRIMMED_ONE_OF);
        let calm = Self::weighted(&calm, |_| 1.0)?;
        Self::weighted(history, |count| {
            let residual = calm.residual(count);
            if residual > OUTLIER_RESIDUAL { residual.powi(-2) } else { 1.0 }
        })
    }

    fn weighted(history: &[u32], weight_of: impl Fn(f64) -> f64) -> Option<Self> {
        let counts = || history.iter().copied().map(f64::from);
        let weight: f64 = counts().map(&weight_of).sum();
        if weight <= 1.0 {
            return None;
        }
        let sum: f64 = counts().map(|it| it * weight_of(it)).sum();
        let mean = (sum + 0.5) / weight;
        let squares: f64 = counts().map(|it| weight_of(it) * (it - mean).powi(2)).sum();
        let dispersion = (squares / mean / (weight - 1.0)).max(1.0);
        Some(Self { mean, dispersion, weight })
    }

    /// Anscombe's residual: about standard normal for counts of this mean and dispersion.
    fn residual(&self, count: f64) -> f64 {
        let third = 2.0 / 3.0;
        1.5 * (count.powf(third) - self.mean.powf(third))
            / (self.mean.powf(1.0 / 6.0) * self.dispersion.sqrt())
    }

    /// Variance of a new count, in units of the mean; always above 1.
    fn spread(&self) -> f64 {
        self.dispersion * (1.0 + 1.0 / self.weight)
    }
}

/// log₁₀ P(Y ≥ count) for a negative binomial of this mean and variance = spread × mean.
///
/// The tail is summed upwards from its greatest term, in logarithms: one minus the distribution
/// function would be lost below 1e-16.
fn log10_upper_tail(count: u32, mean: f64, spread: f64) -> f64 {
    let count = f64::from(count);
    if count <= mean {
        return 0.0;
    }
    let size = mean / (spread - 1.0);
    let ln_first =
        ln_gamma(count + size) - ln_gamma(size) - ln_gamma(count + 1.0) - size * spread.ln()
            + count * ((spread - 1.0) / spread).ln();
    let (mut term, mut sum, mut at) = (1.0, 1.0, count);
    while term > 1e-12 * sum {
        term *= (at + size) / (at + 1.0) * (spread - 1.0) / spread;
        sum += term;
        at += 1.0;
    }
    (ln_first + sum.ln()) / std::f64::consts::LN_10
}

/// ln Γ(x) for x > 0: Stirling's series, after stepping x up to where four terms give 1e-12.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 16.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECTOR: Farrington = Farrington { p_value_max: 1e-6, ratio_min: 3.0 };

    fn judge(observed: u32, history: &[u32]) -> Option<Anomaly> {
        DETECTOR.judge(&Sample { observed, history })
    }

    /// A generator of its own, so that the numbers stay the same for ever.
    fn poisson(mean: f64, seed: &mut u64) -> u32 {
        let (limit, mut product, mut count) = ((-mean).exp(), 1.0, 0);
        loop {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            product *= (*seed >> 11) as f64 / (1_u64 << 53) as f64;
            if product < limit {
                return count;
            }
            count += 1;
        }
    }

    #[test]
    fn a_quiet_post_that_suddenly_gets_sixty_is_an_anomaly() {
        let history = [0, 1, 3, 2, 0, 1, 3, 3, 2, 1, 0, 2, 3, 1, 1, 0, 2, 3, 1, 2];
        let anomaly = judge(60, &history).unwrap();
        assert!((1.0..2.0).contains(&anomaly.expected), "{anomaly:?}");
        assert!(anomaly.score > 20.0, "{anomaly:?}");
    }

    #[test]
    fn a_past_of_zeros_is_an_answer() {
        assert!(judge(20, &[0; 20]).is_some());
        assert!(judge(2, &[0; 20]).is_none());
    }

    #[test]
    fn without_a_past_nothing_is_judged() {
        assert!(judge(1_000, &[]).is_none());
        assert!(judge(1_000, &[3]).is_none());
    }

    #[test]
    fn an_earlier_spike_does_not_hide_the_next() {
        for usual in [0, 2, 10] {
            let mut history = [usual; 30];
            history[10] = 60;
            history[11] = 75;
            assert!(judge(60, &history).is_some(), "{usual}");
        }
    }

    #[test]
    fn a_post_that_always_comes_in_bursts_is_not_surprising() {
        let history: Vec<_> = (0..30).map(|it| if it % 3 == 0 { 60 } else { 0 }).collect();
        assert!(judge(62, &history).is_none());
    }

    #[test]
    fn a_steady_post_is_left_alone_for_a_year_of_minutes() {
        let mut seed = 0x2545_f491_4f6c_dd1d;
        for mean in [0.3, 2.0, 15.0, 120.0] {
            let counts: Vec<_> = (0..130_000).map(|_| poisson(mean, &mut seed)).collect();
            let fired = counts.windows(31).filter(|it| judge(it[30], &it[..30]).is_some()).count();
            assert_eq!(fired, 0, "mean {mean}");
        }
    }

    #[test]
    fn the_tail_is_that_of_the_books() {
        // Geometric distribution (size 1): P(Y ≥ k) = q^k with q = (spread − 1) / spread.
        let (mean, spread) = (4.0, 5.0);
        let expected = 40.0 * 0.8_f64.log10();
        assert!((log10_upper_tail(40, mean, spread) - expected).abs() < 1e-9);
        // Poisson as the limit: P(Y ≥ 10 | 2) = 4.6498e-5.
        assert!((10_f64.powf(log10_upper_tail(10, 2.0, 1.0 + 1e-9)) - 4.6498e-5).abs() < 1e-8);
    }

    #[test]
    fn the_gamma_function_agrees_with_factorials() {
        let ln_factorial: f64 = (1..=20).map(|it| f64::from(it).ln()).sum();
        assert!((ln_gamma(21.0) - ln_factorial).abs() < 1e-10);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-10);
    }
}
