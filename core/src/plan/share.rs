//! A part of a number of hosts as specs write it: a count or a percentage.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A percentage rounds down; at least one.
pub(crate) fn share(of: &IntOrString, total: usize) -> usize {
    let share = match of {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(1),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(1).min(100);
            total * percent / 100
        }
    };
    share.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_rounds_down_to_at_least_one_host() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(share(&percent("50%"), 5), 2);
        assert_eq!(share(&percent("10%"), 5), 1);
        assert_eq!(share(&percent("100%"), 5), 5);
        assert_eq!(share(&IntOrString::Int(3), 5), 3);
    }
}
