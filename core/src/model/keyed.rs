//! Keyed hashes: by them records and statuses tell that a secret value changed, and tell nothing of the value, also to who guesses it. The
//! key lies in the store and is never shown. Pure.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::format;

/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;
/// Hex digits of the id of a key, and of what is no value in the hash of a configuration.
const KEY_DIGITS: usize = 8;
const SETTINGS_DIGITS: usize = 24;

/// `hash-key` in the store, JSON, create-only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKeyRecord {
    /// Format of this record.
    #[serde(default = "format::first")]
    pub format: u32,
    /// 64 hex digits.
    key: String,
}

impl HashKeyRecord {
    pub fn new(key: [u8; 32]) -> Self {
        Self { format: format::FORMAT, key: hex(&key, 32) }
    }

    /// `None`: it is no key.
    pub fn key(&self) -> Option<HashKey> {
        let digits = self.key.as_bytes();
        let mut key = [0; 32];
        if digits.len() != 2 * key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(HashKey::new(key))
    }
}

/// The key of keyed hashes, with its id.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey {
    id: String,
    key: [u8; 32],
}

impl HashKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self { id: hex(&mac(&key, &[b"landfall hash key"]), 4), key }
    }

    /// Of the value that stands at `place`: the same value at another place has another hash, so nobody sees that two are equal.
    pub fn hash(&self, place: &str, value: &[u8]) -> KeyedHash {
        // Lengths first, so that no place can pass for a part of a value.
        let length = (place.len() as u64).to_be_bytes();
        KeyedHash { key: self.id.clone(), hash: hex(&mac(&self.key, &[&length, place.as_bytes(), value]), 16) }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey {}", self.id)
    }
}

/// A keyed hash, with the id of its key. Hashes under two keys can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyedHash {
    /// 8 hex digits.
    pub key: String,
    /// 32 hex digits.
    pub hash: String,
}

impl KeyedHash {
    /// One for all of an application's values, by their places; `None` where it takes none.
    pub fn of_all(values: &BTreeMap<String, Self>) -> Option<Self> {
        let first = values.values().next()?;
        let mut all = Sha256::new();
        all.update(b"landfall values 2\n");
        for (place, hash) in values {
            // Neither has a line end.
            all.update(format!("{place}\n{}\n", hash.hash));
        }
        Some(Self { key: first.key.clone(), hash: hex(&all.finalize(), 16) })
    }

    /// Whether it is known to be of another value. Hashes under two keys tell nothing.
    pub fn is_other(&self, known: &Self) -> bool {
        self.key == known.key && self.hash != known.hash
    }
}

impl From<KeyedHash> for String {
    fn from(hash: KeyedHash) -> Self {
        format!("{}:{}", hash.key, hash.hash)
    }
}

impl TryFrom<String> for KeyedHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (key, hash) = text.split_once(':').ok_or("a keyed hash is the id of its key, a colon and the hash")?;
        Ok(Self { key: key.to_owned(), hash: hash.to_owned() })
    }
}

/// The hash of a configuration of algorithm 2: 24 hex digits of all that is no value, and the keyed hash of all values as 40. Hosts only
/// compare it, and tell it of what they started: so it shows with which values.
pub fn configuration_hash(settings: &str, values: &KeyedHash) -> Option<String> {
    let settings = settings.get(..SETTINGS_DIGITS)?;
    (values.key.len() == KEY_DIGITS).then(|| format!("2:{settings}{}{}", values.key, values.hash))
}

/// The 24 hex digits and the keyed hash of all values; `None`: it has none.
pub fn read_configuration_hash(hash: &str) -> Option<(&str, KeyedHash)> {
    let (settings, values) = hash.strip_prefix("2:")?.split_at_checked(SETTINGS_DIGITS)?;
    let (key, hash) = values.split_at_checked(KEY_DIGITS)?;
    Some((settings, KeyedHash { key: key.to_owned(), hash: hash.to_owned() }))
}

/// HMAC-SHA-256 of RFC 2104.
fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new();
    inner.update(pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new();
    outer.update(pad(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn hex(bytes: &[u8], take: usize) -> String {
    bytes.iter().take(take).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mac_is_that_of_the_rfc() {
        // Test case 2 of RFC 4231; a key is filled up with zeros.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let found = mac(&key, &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(&found, 32), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_hash_tells_another_value_another_place_and_another_key() {
        let key = HashKey::new([7; 32]);
        let hash = key.hash("db/password", b"hunter2");
        assert_eq!(hash, key.hash("db/password", b"hunter2"));
        assert_ne!(hash, key.hash("db/password", b"hunter3"));
        assert_ne!(hash, key.hash("db/passwor", b"dhunter2"));
        let other = HashKey::new([8; 32]).hash("db/password", b"hunter2");
        assert!(other.key != hash.key && other.hash != hash.hash);
        let text = String::from(hash.clone());
        assert_eq!(KeyedHash::try_from(text), Ok(hash));
    }

    #[test]
    fn a_configurations_hash_tells_with_which_values_it_is() {
        let key = HashKey::new([7; 32]);
        let values = |text: &[u8]| KeyedHash::of_all(&[("db/a".to_owned(), key.hash("db/a", text))].into()).unwrap();
        let settings = "0123456789abcdef01234567";
        let hash = configuration_hash(settings, &values(b"hunter2")).unwrap();
        assert_eq!(hash.len(), 2 + 64, "as long as a host takes it");
        let (of, found) = read_configuration_hash(&hash).unwrap();
        assert_eq!((of, &found), (settings, &values(b"hunter2")));
        assert!(found.is_other(&values(b"hunter3")) && !found.is_other(&values(b"hunter2")));
        let other_key = KeyedHash { key: "00000000".into(), ..values(b"hunter3") };
        assert!(!found.is_other(&other_key), "nothing is known of it");
        assert_eq!(read_configuration_hash("1:0123456789abcdef0123456789abcdef"), None);
        assert_eq!(KeyedHash::of_all(&BTreeMap::new()), None);
    }

    #[test]
    fn a_key_comes_back_from_its_record_and_is_not_shown() {
        let record = HashKeyRecord::new([0xab; 32]);
        let text = serde_json::to_string(&record).unwrap();
        let key = serde_json::from_str::<HashKeyRecord>(&text).unwrap().key().unwrap();
        assert_eq!(key, HashKey::new([0xab; 32]));
        assert!(!format!("{key:?}").contains("abab"));
        assert_eq!(HashKeyRecord { format: 1, key: "é".repeat(32) }.key(), None);
    }
}
