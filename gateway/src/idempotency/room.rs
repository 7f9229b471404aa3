//! How many bytes of answers this instance has in Redis, by the hour they were stored (pure).

/// An answer is kept for so many hours.
pub const HOURS: u64 = 24;

/// One more than the hours an answer is kept: the oldest goes when all of it has expired.
const SLOTS: usize = HOURS as usize + 1;

#[derive(Debug)]
pub struct Room {
    bytes_max: u64,
    by_hour: [(u64, u64); SLOTS],
}

impl Room {
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, by_hour: [(0, 0); SLOTS] }
    }

    /// Takes room for an answer that is stored in this hour, if there is any.
    pub fn take(&mut self, hour: u64, bytes: u64) -> bool {
        let kept = self.by_hour.iter().filter(|(stored_in, _)| stored_in + HOURS >= hour);
        if kept.map(|(_, bytes)| bytes).sum::<u64>() + bytes > self.bytes_max {
            return false;
        }
        let slot = &mut self.by_hour[hour as usize % SLOTS];
        if slot.0 != hour {
            *slot = (hour, 0);
        }
        slot.1 += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_when_answers_have_expired() {
        let mut room = Room::new(100);
        let hour = 500_000;
        assert!(room.take(hour, 60) && room.take(hour + 1, 40));
        assert!(!room.take(hour + 1, 1) && !room.take(hour + HOURS, 1));
        assert!(room.take(hour + HOURS + 1, 60));
        assert!(!room.take(hour + HOURS + 1, 1));
        assert!(room.take(hour + HOURS + 2, 40));
    }
}
