//! Detectors: whether a count is out of the ordinary, given what came before. One file per method.

pub mod farrington;

/// One window's count and the past it is held against.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub observed: u32,
    /// Counts of the windows before, oldest first.
    pub history: &'a [u32],
}

/// A count that its past does not explain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anomaly {
    pub expected: f64,
    /// How surprising it is: minus the decimal logarithm of the p-value.
    pub score: f64,
}

/// A method that judges counts. Pure: no clock, no memory of its own.
pub trait Detector: Send + Sync {
    fn judge(&self, sample: &Sample<'_>) -> Option<Anomaly>;
}
