//! Whether the bytes of a release are needed. Two versions may have the same bytes: one commit, built under one name in two namespaces.

/// One claim on the bytes of a release, beside that of the version or Build that no longer needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A Build made them and has not published them yet.
    Unpublished,
    Version {
        /// Retention expired it.
        expired: bool,
        /// A Deployment wants, runs or could go back to it; it may have taken it before it expired.
        needed: bool,
    },
}

impl Claim {
    fn holds(self) -> bool {
        match self {
            Self::Unpublished => true,
            Self::Version { expired, needed } => !expired || needed,
        }
    }
}

/// Whether the bytes stay.
pub fn is_needed(claims: &[Claim]) -> bool {
    claims.iter().any(|claim| claim.holds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_while_anybody_else_has_a_claim_on_them() {
        let version = |expired, needed| Claim::Version { expired, needed };
        for kept in [Claim::Unpublished, version(false, false), version(true, true)] {
            assert!(is_needed(&[version(true, false), kept]), "{kept:?}");
        }
        assert!(!is_needed(&[]) && !is_needed(&[version(true, false)]));
    }
}
