//! Numbers in as few bytes as they need (LEB128).

use super::BrokenCell;

pub fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front.
pub fn take(body: &mut &[u8]) -> Result<u64, BrokenCell> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = body.split_first().ok_or(BrokenCell)?;
        *body = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(BrokenCell)
}

/// The same for what must fit into less.
pub fn take_as<T: TryFrom<u64>>(body: &mut &[u8]) -> Result<T, BrokenCell> {
    T::try_from(take(body)?).map_err(|_| BrokenCell)
}

/// Small numbers of either sign.
pub fn put_signed(number: i32, out: &mut Vec<u8>) {
    put(u64::from((number << 1 ^ number >> 31).cast_unsigned()), out);
}

pub fn take_signed(body: &mut &[u8]) -> Result<i32, BrokenCell> {
    let folded: u32 = take_as(body)?;
    Ok((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        numbers.iter().for_each(|it| put(*it, &mut out));
        let signed = [0, -1, 1, i32::MIN, i32::MAX];
        signed.iter().for_each(|it| put_signed(*it, &mut out));
        let mut body = out.as_slice();
        assert_eq!(numbers.map(|_| take(&mut body).unwrap()), numbers);
        assert_eq!(signed.map(|_| take_signed(&mut body).unwrap()), signed);
        assert_eq!(take(&mut body), Err(BrokenCell));
    }
}
