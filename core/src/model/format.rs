//! The format number of the records in the store. A record never changes; a landfall reads those of its own format and of every earlier one,
//! and refuses those of a later one by name. A record without a number has the first format.

use serde::Deserialize;

/// The format that is written now.
pub const FORMAT: u32 = 1;

pub(super) fn first() -> u32 {
    1
}

/// The format of a record, where it is one that only a later landfall reads.
pub fn later_format(record: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Numbered {
        #[serde(default = "first")]
        format: u32,
    }
    let numbered: Numbered = serde_json::from_slice(record).ok()?;
    (numbered.format > FORMAT).then_some(numbered.format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_format_is_told_from_a_record_of_now_and_of_before() {
        assert_eq!(later_format(br#"{ "format": 2, "attempts": [] }"#), Some(2));
        for known in [&br#"{ "format": 1 }"#[..], b"{}", b"[]", b"torn", b""] {
            assert_eq!(later_format(known), None);
        }
    }
}
