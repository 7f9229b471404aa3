//! One pass over the bytes for what a JSON reader lets through and Postgres, or the next reader, does not.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{DEPTH_MAX, InvalidEvent, members, text};

/// The canonical form puts the members of a shallower event into `properties`: one level more.
const LEVELS: usize = DEPTH_MAX + 1;

/// No longer number is looked at; no double needs as many digits.
const NUMBER_BYTES_MAX: usize = 1_000;

/// Postgres takes 16,383; a double needs no more than 340. Each one is a byte whenever the row is read.
const DECIMALS_MAX: i64 = 400;

/// Larger exponents overflow in Postgres even where the number is 0.
const EXPONENT_MAX: u64 = 999;

/// Postgres gives numbers back without exponents, `1e308` as 309 digits: a megabyte of such numbers as fifty,
/// which no topic takes. So many digits an event may gain that way.
const DIGITS_GAINED_MAX: usize = 1 << 20;

pub struct Shape {
    pub depth: usize,
    /// Some object may hold a key twice: sure when false, to be looked at when true.
    pub may_repeat: bool,
}

pub fn check(text: &str) -> Result<Shape, InvalidEvent> {
    Lint::new(text).run().map_err(|flaw| {
        // What is no JSON at all has no other flaw.
        if let Err(invalid) = text::must_be_json(text) {
            return invalid;
        }
        match flaw {
            Flaw::Depth => InvalidEvent::TooDeep,
            Flaw::Unicode(at) => {
                InvalidEvent::InvalidUnicode { pointer: members::pointer_to(text, at) }
            }
            Flaw::Number(at) => {
                InvalidEvent::NumberOutOfRange { pointer: members::pointer_to(text, at) }
            }
        }
    })
}

/// With the offset of the string's or number's first byte.
enum Flaw {
    Depth,
    Unicode(usize),
    Number(usize),
}

/// Sure of its findings only if the text is JSON, which the reader behind it says.
struct Lint<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    depth_seen: usize,
    /// The number of the object that is open at each depth.
    objects: [u64; LEVELS + 1],
    objects_seen: u64,
    /// A hash of each key with the number of its object.
    keys: Vec<u64>,
    escaped_key: bool,
    digits_gained: usize,
}

impl<'a> Lint<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
            depth: 0,
            depth_seen: 0,
            objects: [0; LEVELS + 1],
            objects_seen: 0,
            keys: Vec::with_capacity(32),
            escaped_key: false,
            digits_gained: 0,
        }
    }

    fn run(mut self) -> Result<Shape, Flaw> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b'{' | b'[' => self.open()?,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        self.keys.sort_unstable();
        let repeats = self.keys.windows(2).any(|pair| pair[0] == pair[1]);
        Ok(Shape { depth: self.depth_seen, may_repeat: repeats || self.escaped_key })
    }

    fn open(&mut self) -> Result<(), Flaw> {
        if self.depth == LEVELS {
            return Err(Flaw::Depth);
        }
        self.depth += 1;
        self.depth_seen = self.depth_seen.max(self.depth);
        self.objects_seen += 1;
        self.objects[self.depth] = self.objects_seen;
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        let mut end = start + 1;
        let mut escaped = false;
        loop {
            match self.bytes.get(end) {
                Some(b'\\') => {
                    escaped = true;
                    end += escape_bytes(&self.bytes[end..]).ok_or(Flaw::Unicode(start))?;
                }
                Some(b'"') | None => break,
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        if self.is_before_a_colon() {
            self.escaped_key |= escaped;
            let key = &self.bytes[start..end.min(self.bytes.len())];
            self.keys.push(xxh3_64_with_seed(key, self.objects[self.depth]));
        }
        Ok(())
    }

    fn is_before_a_colon(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    }

    fn number(&mut self) -> Result<(), Flaw> {
        let rest = &self.bytes[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let bytes = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.digits_gained += digits_gained(&rest[..bytes]).ok_or(Flaw::Number(self.at))?;
        if self.digits_gained > DIGITS_GAINED_MAX {
            return Err(Flaw::Number(self.at));
        }
        self.at += bytes;
        Ok(())
    }
}

/// How many bytes the escape at the start takes; `None` if Postgres refuses it.
fn escape_bytes(bytes: &[u8]) -> Option<usize> {
    match unit(bytes) {
        None => Some(2), // \n and the like, or no JSON
        Some(0) => None,
        Some(0xD800..=0xDBFF) => match bytes.get(6..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => Some(12),
            _ => None,
        },
        Some(0xDC00..=0xDFFF) => None,
        Some(_) => Some(6),
    }
}

/// The UTF-16 unit of the `\uXXXX` at the start.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.get(..6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

/// How much longer the number may become when it is written without an exponent; `None` if Postgres, or whoever
/// reads doubles, cannot keep it.
fn digits_gained(number: &[u8]) -> Option<usize> {
    let exponent_at = number.iter().position(|byte| byte | 0x20 == b'e');
    if exponent_at.is_none() && number.len() <= 300 {
        return Some(0);
    }
    if number.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8_lossy(number);
    let (mantissa, exponent) = text.split_at(exponent_at.unwrap_or(number.len()));
    let exponent = exponent.get(1..).unwrap_or("0").parse::<i64>().unwrap_or(i64::MAX);
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i64);
    let gained = exponent.unsigned_abs();
    let is_storable = gained <= EXPONENT_MAX
        && decimals - exponent <= DECIMALS_MAX
        && text.parse().is_ok_and(f64::is_finite);
    is_storable.then_some(gained as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        check(text).map_or_else(|invalid| invalid.code(), |_| "kept")
    }

    #[test]
    fn a_value_a_thousand_levels_deep_is_refused_without_recursion() {
        for depth in [34, 1_000, 500_000] {
            assert_eq!(code(&("[".repeat(depth) + &"]".repeat(depth))), "too_deep");
        }
        assert_eq!(check(&("[".repeat(33) + &"]".repeat(33))).unwrap().depth, 33);
    }

    #[test]
    fn numbers_that_become_megabytes_when_they_are_written_out_are_refused() {
        let numbers = |count| format!("[{}1]", "1e308,".repeat(count));
        assert_eq!(code(&numbers(3_000)), "kept");
        assert_eq!(code(&numbers(4_000)), "number_out_of_range");
        assert_eq!(code(&format!("[{}1]", "123.25,".repeat(100_000))), "kept");
    }

    #[test]
    fn brackets_inside_strings_do_not_nest() {
        assert_eq!(check(r#"{"a":"[[[\"[[[","b":[1]}"#).unwrap().depth, 2);
    }

    #[test]
    fn what_is_no_json_is_called_so_whatever_else_it_holds() {
        assert_eq!(code(r#"{"a":"\u0000""#), "invalid_json");
        assert_eq!(code(&"[".repeat(1_000)), "invalid_json");
        assert_eq!(code("1e999999x"), "invalid_json");
    }

    #[test]
    fn what_postgres_cannot_keep_in_a_text_is_refused_and_a_whole_pair_is_kept() {
        for text in
            [r#""\u0000""#, r#""\ud800""#, r#""\ud800x""#, r#""\udc00""#, r#""\ud800\ud800""#]
        {
            assert_eq!(code(text), "invalid_unicode", "{text}");
        }
        for text in [r#""\ud83d\ude00""#, r#""\\u0000""#, r#""\u0001""#, r#""\"""#] {
            assert_eq!(code(text), "kept", "{text}");
        }
        assert_eq!(code(r#"{"\u0000":1}"#), "invalid_unicode");
    }

    #[test]
    fn numbers_no_double_holds_are_refused() {
        let (ones, decimals) = ("1".repeat(310), format!("0.{}", "1".repeat(401)));
        let longest = format!("1.{}e1", "0".repeat(1_000));
        for number in ["1e400000", "-1e309", "1e-401", "0e1000", "1e99999999999999999999"] {
            assert_eq!(code(number), "number_out_of_range", "{number}");
        }
        for number in [&ones, &decimals, &longest] {
            assert_eq!(code(number), "number_out_of_range", "{number}");
        }
        for number in
            ["1e308", "-1.5E+3", "5e-324", "4.9406564584124654e-324", "1e0005", &ones[..300]]
        {
            assert_eq!(code(number), "kept", "{number}");
        }
    }

    #[test]
    fn the_place_of_a_flaw_is_told() {
        let invalid = check(r#"{"a":1,"b/c":[{"d":"\u0000"}]}"#).err().unwrap();
        assert_eq!(invalid.pointer(), "/b~1c/0/d");
        let invalid = check(r#"{"a":[0,1e999]}"#).err().unwrap();
        assert_eq!(invalid.pointer(), "/a/1");
    }

    #[test]
    fn a_key_twice_in_one_object_is_seen_and_in_two_objects_is_not() {
        assert!(check(r#"{"a":1,"b":{"c":1,"c":2}}"#).unwrap().may_repeat);
        assert!(check(r#"{"a":{"b":1},"a":2}"#).unwrap().may_repeat);
        assert!(check(r#"{"a":1,"\u0061":2}"#).unwrap().may_repeat);
        assert!(!check(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}],"c":"a"}"#).unwrap().may_repeat);
    }
}
