//! Times in filters: ISO 8601, a date alone included.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use peerglass_catalog::Timestamp;

/// The moment `text` names; without an offset it is UTC.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    // Shorter than a date is what some parsers take for a year or an hour.
    if text.len() < 8 {
        return None;
    }
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    Some(Timestamp(moment.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_offsets_are_read() {
        let second = 1_000_000;
        let noon = 1_709_294_400 * second;
        for (text, at) in [
            ("2024-03-01T12:00:00Z", noon),
            ("2024-03-01T12:00:00", noon),
            ("2024-03-01 12:00:00", noon),
            ("2024-03-01T14:00:00+02:00", noon),
            ("2024-03-01T12:00:00.5Z", noon + second / 2),
            ("2024-03-01", noon - 12 * 3600 * second),
            ("1969-12-31T23:59:59Z", -second),
        ] {
            assert_eq!(parse(text), Some(Timestamp(at)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_a_time() {
        for text in [
            "",
            "now",
            "notadate",
            "2024-13-01",
            "2024-02-30",
            "12:00:00",
            "2024-03-01T25:00:00Z",
            "99999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
