//! A part of a number of hosts as specs write it: a count or a percentage.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A percentage rounds down; at least one.
pub(crate) fn share(of: &IntOrString, total: usize) -> usize {
    part(of, |percent| total * percent / 100)
}

/// A percentage rounds up; at least one.
pub(crate) fn share_up(of: &IntOrString, total: usize) -> usize {
    part(of, |percent| (total * percent).div_ceil(100))
}

fn part(of: &IntOrString, percentage: impl Fn(usize) -> usize) -> usize {
    let part = match of {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(1),
        IntOrString::String(text) => percentage(text.trim_end_matches('%').parse::<usize>().unwrap_or(1).min(100)),
    };
    part.max(1)
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

    #[test]
    fn what_is_kept_rounds_up() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(share_up(&percent("50%"), 5), 3);
        assert_eq!(share_up(&percent("50%"), 4), 2);
        assert_eq!(share_up(&percent("1%"), 5), 1);
        assert_eq!(share_up(&IntOrString::Int(3), 5), 3);
    }
}
