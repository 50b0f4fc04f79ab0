//! Validity of the certificates that are issued here: those of the development control plane and those of the aggregated API. It must
//! not know what a certificate is for.

use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::CertificateParams;

/// Valid from the day before `now`, since clocks differ, to the day of `until`.
pub(crate) fn set_validity(params: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(now - Span::new().hours(24));
    params.not_after = day(until);
}

/// The same time of another year; an error beyond the calendar.
pub(crate) fn years_after(now: Timestamp, years: i16) -> Result<Timestamp, jiff::Error> {
    Ok(now.to_zoned(TimeZone::UTC).checked_add(Span::new().years(years))?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_valid_from_the_day_before_to_the_same_day_of_a_later_year() {
        let now: Timestamp = "2028-02-29T12:00:00Z".parse().unwrap();
        let until = years_after(now, 1).unwrap();
        assert_eq!(until.to_string(), "2029-02-28T12:00:00Z");
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, until);
        assert_eq!(params.not_before, rcgen::date_time_ymd(2028, 2, 28));
        assert_eq!(params.not_after, rcgen::date_time_ymd(2029, 2, 28));
    }
}
