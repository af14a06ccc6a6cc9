//! Times as the API writes them: UTC, whole seconds, `2024-03-01T12:00:00Z`.

use peerglass_catalog::Timestamp;

const MICROSECONDS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// 0000-01-01 and 9999-12-31 in days since 1970-01-01: what four digits can name.
const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// The text of a moment.
pub(super) struct Text([u8; 20]);

impl Text {
    /// Moments outside the years 0 to 9999 become the nearest day inside.
    pub(super) fn of(at: Timestamp) -> Self {
        let seconds = at.0.div_euclid(MICROSECONDS);
        let day = seconds.div_euclid(DAY).clamp(*DAYS.start(), *DAYS.end());
        let second = seconds.rem_euclid(DAY);
        let (year, month, day) = date(day);
        let mut text = *b"0000-00-00T00:00:00Z";
        for (at, width, value) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, second / 3600),
            (14, 2, second / 60 % 60),
            (17, 2, second % 60),
        ] {
            write_digits(&mut text[at..at + width], value);
        }
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII digits and separators were written")
    }
}

fn write_digits(digits: &mut [u8], mut value: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the day that comes `days` after 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year and every 400 years
/// repeat.
fn date(days: i64) -> (i64, i64, i64) {
    let since_march_of_year_0 = days + 719_468;
    let era = since_march_of_year_0.div_euclid(146_097);
    let day_of_era = since_march_of_year_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_calendar() {
        // A step that is prime to days and leap cycles visits every kind of day.
        let mut seconds = -62_135_596_800_i64;
        while seconds < 253_402_300_799 {
            let wanted = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            assert_eq!(Text::of(Timestamp(seconds * MICROSECONDS)).as_str(), wanted);
            seconds += 86_399 * 97 + 1;
        }
    }

    #[test]
    fn fractions_are_cut_and_extremes_are_clamped() {
        assert_eq!(Text::of(Timestamp(-1)).as_str(), "1969-12-31T23:59:59Z");
        assert_eq!(Text::of(Timestamp(1_999_999)).as_str(), "1970-01-01T00:00:01Z");
        assert!(Text::of(Timestamp(i64::MAX)).as_str().starts_with("9999-12-31T"));
        assert!(Text::of(Timestamp(i64::MIN)).as_str().starts_with("0000-01-01T"));
    }
}
