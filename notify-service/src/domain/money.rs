//! Amounts as people read them.

use serde::Serialize;

/// An amount in the minor unit of an ISO 4217 currency; its JSON form is the `M` of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Money {
    /// Amount in minor units (paise, cents).
    pub(crate) amount_minor: i64,
    /// ISO 4217 code in capitals.
    pub(crate) currency: String,
}

impl Money {
    /// An amount of a currency; `None` when `currency` does not look like an ISO 4217 code.
    pub(crate) fn parse(amount_minor: i64, currency: &str) -> Option<Self> {
        let looks_right = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
        looks_right.then(|| Self {
            amount_minor,
            currency: currency.to_owned(),
        })
    }

    /// Another amount of the same currency.
    pub(crate) fn with(&self, amount_minor: i64) -> Self {
        Self {
            amount_minor,
            currency: self.currency.clone(),
        }
    }
}

impl std::fmt::Display for Money {
    /// `1250` paise are `12.50 INR`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let exponent = exponent(&self.currency);
        let unit = 10_u64.pow(exponent);
        let amount = self.amount_minor.unsigned_abs();
        let (major, minor) = (amount / unit, amount % unit);
        if exponent == 0 {
            write!(f, "{sign}{major} {}", self.currency)
        } else {
            let width = exponent as usize;
            write!(f, "{sign}{major}.{minor:0width$} {}", self.currency)
        }
    }
}

/// Digits behind the point by ISO 4217; two unless the list says otherwise.
///
/// The wallet has the same list and decides by it what an amount is; here it only puts the point into a sentence. A copy
/// of a standard is cheaper than an exponent in every fact, which each reader would have to check against the standard.
fn exponent(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "UYI" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_the_exponent_of_their_currency() {
        let text = |amount, currency| Money::parse(amount, currency).unwrap().to_string();
        assert_eq!(text(1250, "INR"), "12.50 INR");
        assert_eq!(text(5, "INR"), "0.05 INR");
        assert_eq!(text(1250, "JPY"), "1250 JPY");
        assert_eq!(text(1250, "KWD"), "1.250 KWD");
        assert_eq!(text(-1, "EUR"), "-0.01 EUR");
        assert_eq!(text(i64::MIN, "INR"), "-92233720368547758.08 INR");
    }

    #[test]
    fn what_is_no_currency_code_is_not_taken() {
        for bad in ["", "inr", "RUPEE", "I R", "€"] {
            assert_eq!(Money::parse(1, bad), None, "{bad}");
        }
    }
}
