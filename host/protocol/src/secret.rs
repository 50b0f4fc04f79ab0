//! Secret values: any bytes, never printed. Text travels as text; other bytes as `{"base64": "…"}`, which only a program reads that names
//! [`supports::SECRETS_BINARY`](crate::supports::SECRETS_BINARY).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Secret values by the keys that a [`Configuration`](crate::Configuration) names. They are written to no file, and never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets(pub BTreeMap<String, SecretValue>);

impl Secrets {
    /// All of them are text, as every program of the version reads them.
    pub fn are_text(&self) -> bool {
        self.0.values().all(|value| value.as_text().is_some())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One secret value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `None`: it is no text.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for SecretValue {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OnTheWire {
    Text(String),
    Binary { base64: String },
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_text() {
            Some(text) => serializer.serialize_str(text),
            None => OnTheWire::Binary { base64: encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is said of a malformed one does not repeat it.
        let read = OnTheWire::deserialize(deserializer).map_err(|_| D::Error::custom("no secret value"))?;
        match read {
            OnTheWire::Text(text) => Ok(Self(text.into_bytes())),
            OnTheWire::Binary { base64 } => decode(&base64).map(Self).ok_or_else(|| D::Error::custom("no base64")),
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// base64 of RFC 4648, padded.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for sextet in 0..4 {
            let index = (bits >> (18 - 6 * sextet)) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            text.push(if sextet <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// `None`: it is none, or not the one that `encode` makes.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let padding = chunk.iter().rev().take_while(|letter| **letter == b'=').count();
        if chunk.len() != 4 || padding > 2 {
            return None;
        }
        let letters = chunk.get(..4 - padding)?;
        let mut bits = 0u32;
        for letter in letters {
            let index = ALPHABET.iter().position(|known| known == letter)?;
            bits = bits << 6 | u32::try_from(index).ok()?;
        }
        bits <<= 6 * padding;
        bytes.extend(bits.to_be_bytes().get(1..4 - padding)?);
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_travels_as_every_program_of_the_version_reads_it() {
        let secrets = Secrets([("key".to_owned(), "pässword\n".into())].into());
        assert_eq!(serde_json::to_string(&secrets).unwrap(), r#"{"key":"pässword\n"}"#);
        assert!(secrets.are_text());
        let binary = Secrets([("key".to_owned(), vec![0xff, 0, 1].into())].into());
        assert_eq!(serde_json::to_string(&binary).unwrap(), r#"{"key":{"base64":"/wAB"}}"#);
        assert!(!binary.are_text());
    }

    #[test]
    fn what_is_no_value_is_refused_and_not_repeated() {
        for text in [r#"{"base64":"/wA"}"#, r#"{"base64":"hunter2!"}"#, r#"{"base64":"/wB="}"#, r#"["hunter2"]"#, "7"] {
            let error = serde_json::from_str::<SecretValue>(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", SecretValue::from("hunter2")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn every_value_comes_back(bytes: Vec<u8>) {
            let value = SecretValue::from(bytes);
            let text = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(serde_json::from_slice::<SecretValue>(&text).unwrap(), value);
        }
    }
}
