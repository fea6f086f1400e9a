//! The one date of a certificate that an operator has to know in time.

use std::time::{Duration, SystemTime};

/// When the certificate ends (RFC 5280, section 4.1.2.5). `None` if `der` is none, or ends before 1970.
///
/// The TLS library has verified what comes here; this only walks past the fields before the date.
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after_version)) = element(fields, VERSION) {
        fields = after_version;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    time(rest)?.0
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The content of the first element, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let fold = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
            (digits.iter().fold(0, fold), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; the years of the first are 1950 to 2049.
fn time(der: &[u8]) -> Option<(Option<SystemTime>, &[u8])> {
    let (text, century, rest) = match element(der, UTC_TIME) {
        Some((text, rest)) => (text, None, rest),
        None => {
            let (text, rest) = element(der, GENERALIZED_TIME)?;
            (text.get(2..)?, Some(number(text.get(..2)?)?), rest)
        }
    };
    let part = |at: usize| number(text.get(2 * at..2 * at + 2)?);
    let year = part(0)?;
    let century = century.unwrap_or(if year < 50 { 20 } else { 19 });
    let days = days_since_1970(100 * century + year, part(1)?, part(2)?);
    let seconds = days * 86_400 + part(3)? * 3_600 + part(4)? * 60 + part(5)?;
    let at = u64::try_from(seconds).ok();
    let at = at.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    Some((at, rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The proleptic Gregorian calendar, in years that begin in March so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(year: i32, month: u8, day: u8) -> Option<u64> {
        let mut parameters = rcgen::CertificateParams::new(["acme.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let at = not_after(certificate.der())?;
        Some(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn the_end_is_read_in_either_form_and_across_leap_days() {
        assert_eq!(ending(2024, 2, 29), Some(1_709_164_800));
        assert_eq!(ending(2049, 12, 31), Some(2_524_521_600));
        // From 2050 on it is the longer form.
        assert_eq!(ending(2100, 3, 1), Some(4_107_542_400));
    }

    #[test]
    fn nothing_that_is_cut_or_mangled_is_read_beyond_its_end() {
        let key = rcgen::generate_simple_self_signed(["acme.example".to_owned()]).unwrap();
        let der = key.cert.der();
        for length in 0..der.len().min(200) {
            let _ = not_after(&der[..length]);
            let mut mangled = der.to_vec();
            mangled[length] ^= 0xff;
            let _ = not_after(&mangled);
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[SEQUENCE, 0x83, 0xff, 0xff, 0xff]), None);
    }
}
