//! Money: whole minor units of an ISO 4217 currency, and nothing with a decimal point.

use thiserror::Error;

/// Largest amount of one movement, in minor units.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000_000;

/// A currency of ISO 4217. Funds, metals and codes without a minor unit are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads a code in capitals, e.g. `INR`; `None` when ISO 4217 does not list it.
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        CURRENCIES
            .binary_search_by_key(&code, |row| row.0)
            .ok()
            .map(|_| Self(code))
    }

    /// The code in capitals.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimal digits the minor unit stands for: 2 for `INR`, 0 for `JPY`, 3 for `KWD`.
    pub fn exponent(&self) -> u8 {
        CURRENCIES
            .binary_search_by_key(&self.0, |row| row.0)
            .map_or(2, |at| CURRENCIES[at].1)
    }

    /// Every known currency, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        CURRENCIES.iter().map(|row| Self(row.0))
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// Any sum of money, a debt included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// In minor units.
    pub minor: i64,
    /// In which currency.
    pub currency: Currency,
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = usize::from(self.currency.exponent());
        let unit = 10_u64.pow(u32::from(self.currency.exponent()));
        let (whole, part) = (
            self.minor.unsigned_abs() / unit,
            self.minor.unsigned_abs() % unit,
        );
        let sign = if self.minor < 0 { "-" } else { "" };
        match digits {
            0 => write!(f, "{sign}{whole} {}", self.currency),
            _ => write!(f, "{sign}{whole}.{part:0digits$} {}", self.currency),
        }
    }
}

/// What can be moved: more than zero and at most [`MAX_AMOUNT_MINOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(Money);

/// Why a number is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Zero or less.
    #[error("must be more than 0")]
    NotPositive,
    /// Beyond [`MAX_AMOUNT_MINOR`].
    #[error("must be at most {MAX_AMOUNT_MINOR}")]
    TooLarge,
}

impl Amount {
    /// Checks the bounds of an amount in minor units.
    ///
    /// # Errors
    /// [`AmountError`] outside 1 to [`MAX_AMOUNT_MINOR`].
    pub fn parse(minor: i64, currency: Currency) -> Result<Self, AmountError> {
        match minor {
            ..=0 => Err(AmountError::NotPositive),
            1..=MAX_AMOUNT_MINOR => Ok(Self(Money { minor, currency })),
            _ => Err(AmountError::TooLarge),
        }
    }

    /// In minor units.
    pub fn minor(&self) -> i64 {
        self.0.minor
    }

    /// In which currency.
    pub fn currency(&self) -> Currency {
        self.0.currency
    }

    /// As money.
    pub fn money(&self) -> Money {
        self.0
    }
}

/// ISO 4217, sorted by code: the code and the exponent of its minor unit.
#[rustfmt::skip]
const CURRENCIES: &[([u8; 3], u8)] = &[
    (*b"AED", 2), (*b"AFN", 2), (*b"ALL", 2), (*b"AMD", 2), (*b"AOA", 2),
    (*b"ARS", 2), (*b"AUD", 2), (*b"AWG", 2), (*b"AZN", 2), (*b"BAM", 2),
    (*b"BBD", 2), (*b"BDT", 2), (*b"BHD", 3), (*b"BIF", 0), (*b"BMD", 2),
    (*b"BND", 2), (*b"BOB", 2), (*b"BOV", 2), (*b"BRL", 2), (*b"BSD", 2),
    (*b"BTN", 2), (*b"BWP", 2), (*b"BYN", 2), (*b"BZD", 2), (*b"CAD", 2),
    (*b"CDF", 2), (*b"CHE", 2), (*b"CHF", 2), (*b"CHW", 2), (*b"CLF", 4),
    (*b"CLP", 0), (*b"CNY", 2), (*b"COP", 2), (*b"COU", 2), (*b"CRC", 2),
    (*b"CUP", 2), (*b"CVE", 2), (*b"CZK", 2), (*b"DJF", 0), (*b"DKK", 2),
    (*b"DOP", 2), (*b"DZD", 2), (*b"EGP", 2), (*b"ERN", 2), (*b"ETB", 2),
    (*b"EUR", 2), (*b"FJD", 2), (*b"FKP", 2), (*b"GBP", 2), (*b"GEL", 2),
    (*b"GHS", 2), (*b"GIP", 2), (*b"GMD", 2), (*b"GNF", 0), (*b"GTQ", 2),
    (*b"GYD", 2), (*b"HKD", 2), (*b"HNL", 2), (*b"HTG", 2), (*b"HUF", 2),
    (*b"IDR", 2), (*b"ILS", 2), (*b"INR", 2), (*b"IQD", 3), (*b"IRR", 2),
    (*b"ISK", 0), (*b"JMD", 2), (*b"JOD", 3), (*b"JPY", 0), (*b"KES", 2),
    (*b"KGS", 2), (*b"KHR", 2), (*b"KMF", 0), (*b"KPW", 2), (*b"KRW", 0),
    (*b"KWD", 3), (*b"KYD", 2), (*b"KZT", 2), (*b"LAK", 2), (*b"LBP", 2),
    (*b"LKR", 2), (*b"LRD", 2), (*b"LSL", 2), (*b"LYD", 3), (*b"MAD", 2),
    (*b"MDL", 2), (*b"MGA", 2), (*b"MKD", 2), (*b"MMK", 2), (*b"MNT", 2),
    (*b"MOP", 2), (*b"MRU", 2), (*b"MUR", 2), (*b"MVR", 2), (*b"MWK", 2),
    (*b"MXN", 2), (*b"MXV", 2), (*b"MYR", 2), (*b"MZN", 2), (*b"NAD", 2),
    (*b"NGN", 2), (*b"NIO", 2), (*b"NOK", 2), (*b"NPR", 2), (*b"NZD", 2),
    (*b"OMR", 3), (*b"PAB", 2), (*b"PEN", 2), (*b"PGK", 2), (*b"PHP", 2),
    (*b"PKR", 2), (*b"PLN", 2), (*b"PYG", 0), (*b"QAR", 2), (*b"RON", 2),
    (*b"RSD", 2), (*b"RUB", 2), (*b"RWF", 0), (*b"SAR", 2), (*b"SBD", 2),
    (*b"SCR", 2), (*b"SDG", 2), (*b"SEK", 2), (*b"SGD", 2), (*b"SHP", 2),
    (*b"SLE", 2), (*b"SOS", 2), (*b"SRD", 2), (*b"SSP", 2), (*b"STN", 2),
    (*b"SVC", 2), (*b"SYP", 2), (*b"SZL", 2), (*b"THB", 2), (*b"TJS", 2),
    (*b"TMT", 2), (*b"TND", 3), (*b"TOP", 2), (*b"TRY", 2), (*b"TTD", 2),
    (*b"TWD", 2), (*b"TZS", 2), (*b"UAH", 2), (*b"UGX", 0), (*b"USD", 2),
    (*b"USN", 2), (*b"UYI", 0), (*b"UYU", 2), (*b"UYW", 4), (*b"UZS", 2),
    (*b"VED", 2), (*b"VES", 2), (*b"VND", 0), (*b"VUV", 0), (*b"WST", 2),
    (*b"XAF", 0), (*b"XCD", 2), (*b"XCG", 2), (*b"XOF", 0), (*b"XPF", 0),
    (*b"YER", 2), (*b"ZAR", 2), (*b"ZMW", 2), (*b"ZWG", 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(CURRENCIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in [("INR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(
                Currency::parse(code).unwrap().exponent(),
                exponent,
                "{code}"
            );
        }
    }

    #[test]
    fn only_capitals_of_listed_codes_are_read() {
        for code in ["", "inr", "INRR", "IN", "XXX", "XAU", "\u{20b9}", "I\u{0}R"] {
            assert_eq!(Currency::parse(code), None, "{code:?}");
        }
        assert!(Currency::all().all(|one| Currency::parse(one.code()) == Some(one)));
    }

    #[test]
    fn amounts_are_bounded() {
        let inr = Currency::parse("INR").unwrap();
        for (minor, expected) in [
            (i64::MIN, Some(AmountError::NotPositive)),
            (0, Some(AmountError::NotPositive)),
            (1, None),
            (MAX_AMOUNT_MINOR, None),
            (MAX_AMOUNT_MINOR + 1, Some(AmountError::TooLarge)),
            (i64::MAX, Some(AmountError::TooLarge)),
        ] {
            assert_eq!(Amount::parse(minor, inr).err(), expected, "{minor}");
        }
    }

    #[test]
    fn money_is_shown_with_the_digits_of_its_currency() {
        let show = |minor, code| {
            Money {
                minor,
                currency: Currency::parse(code).unwrap(),
            }
            .to_string()
        };
        assert_eq!(show(-1205, "INR"), "-12.05 INR");
        assert_eq!(show(7, "JPY"), "7 JPY");
        assert_eq!(show(1, "KWD"), "0.001 KWD");
        assert_eq!(show(i64::MIN, "INR"), "-92233720368547758.08 INR");
    }
}
