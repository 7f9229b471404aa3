//! Whether the cheap way, which fails where something is stored already, is worth trying.

/// After a conflict the next attempts go the exact way, each further conflict doubling their number:
/// what is stored already comes in swarms.
#[derive(Debug, Default)]
pub struct Optimism {
    exact_left: u32,
    penalty: u32,
}

impl Optimism {
    const PENALTY_MAX: u32 = 64;

    pub fn is_justified(&self) -> bool {
        self.exact_left == 0
    }

    /// A conflict was met.
    pub fn disappoint(&mut self) {
        self.penalty = (self.penalty * 2).clamp(4, Self::PENALTY_MAX);
        self.exact_left = self.penalty;
    }

    /// The cheap way was gone to its end.
    pub fn confirm(&mut self) {
        self.penalty /= 2;
    }

    /// The exact way was gone instead.
    pub fn wait(&mut self) {
        self.exact_left = self.exact_left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_sends_the_next_attempts_the_exact_way() {
        let mut optimism = Optimism::default();
        assert!(optimism.is_justified());
        for waits in [4, 8] {
            optimism.disappoint();
            for _ in 0..waits {
                assert!(!optimism.is_justified());
                optimism.wait();
            }
            assert!(optimism.is_justified());
        }
        optimism.confirm();
        optimism.disappoint();
        assert_eq!(optimism.exact_left, 8, "a success halves what follows the next conflict");
    }
}
