//! The currencies of ISO 4217 and the digits of their smallest units.
//!
//! Taken from the list of active codes (list one, as of 2025), without the codes of metals, funds,
//! units of account and tests: nobody is paid in those.

/// Codes whose smallest unit is a hundredth.
const HUNDREDTHS: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF \
    CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG \
    HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR \
    SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED \
    VES WST XCD XCG YER ZAR ZMW ZWG";
/// Codes that have no smaller unit.
const WHOLE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// Codes whose smallest unit is a thousandth.
const THOUSANDTHS: &str = "BHD IQD JOD KWD LYD OMR TND";

fn has(list: &str, code: &str) -> bool {
    list.split_ascii_whitespace().any(|other| other == code)
}

/// Whether it is the code of a currency that is in use.
pub fn is_active(code: &str) -> bool {
    [HUNDREDTHS, WHOLE, THOUSANDTHS].into_iter().any(|list| has(list, code))
}

/// Digits after the point of the currency's smallest unit.
pub fn digits(code: &str) -> u32 {
    match code {
        _ if has(WHOLE, code) => 0,
        _ if has(THOUSANDTHS, code) => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_three_capitals_in_order_and_once() {
        let lists =
            [HUNDREDTHS, WHOLE, THOUSANDTHS].map(|list| list.split_ascii_whitespace().collect::<Vec<_>>());
        assert!(lists.iter().all(|list| list.is_sorted()));
        let mut all: Vec<_> = lists.concat();
        assert!(all.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), count > 150), (count, true));
    }

    #[test]
    fn metals_tests_and_typing_errors_are_no_currencies() {
        for code in ["XAU", "XTS", "XXX", "EUX", "eur", "EU", "EUR ", ""] {
            assert!(!is_active(code), "{code}");
        }
        assert_eq!(["JPY", "EUR", "KWD"].map(digits), [0, 2, 3]);
    }
}
