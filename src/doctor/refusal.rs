//! From a gateway's refusal to what is wrong: its words, and the clock, which it does not speak of.

use super::{Code, Finding};

/// A signature holds for 300 s at the gateway; the way there takes its share.
const WINDOW: i64 = 290;
/// Beyond this a clock is not kept by anybody.
const DRIFT: i64 = 30;

/// How far this host's clock is ahead of the upstream's, in seconds.
pub type Skew = Option<i64>;

/// What the words of a 401 mean.
pub fn judge(words: &str, skew: Skew) -> Finding {
    let said = words.to_ascii_lowercase();
    let has = |part: &str| said.contains(part);
    let quoted = format!("the gateway says \"{words}\"");
    if has("expired") && has("key") {
        return Finding::new(Code::ExpiredKey, format!("{quoted}: the key's time is over"))
            .next("get a new key from the gateway's operator, write it to the configuration, then: mcp-auth-proxy reload");
    }
    if has("invalid api key") {
        return Finding::new(
            Code::WrongKey,
            format!("{quoted}: it does not know this key_id"),
        )
        .next("compare key_id with what the gateway issued, then: mcp-auth-proxy check && mcp-auth-proxy reload");
    }
    if has("invalid signature") {
        return signature(&quoted, skew);
    }
    if has("user not available") {
        return Finding::new(
            Code::UserUnavailable,
            format!("{quoted}: the key's owner is gone"),
        )
        .next("ask the gateway's operator for a key of a present user");
    }
    if has("user") && has("disabled") {
        return Finding::new(
            Code::UserDisabled,
            format!("{quoted}: the key's owner is disabled"),
        )
        .next("ask the gateway's operator to enable that user");
    }
    let message = if words.is_empty() {
        "the upstream refuses the credential with a 401 and no words".to_owned()
    } else {
        format!("the upstream refuses the credential with a 401 and says \"{words}\"")
    };
    Finding::new(Code::CredentialRefused, message)
        .next("is the url that of the gateway? ask its operator what these words mean")
}

/// The gateway has the same words for a wrong secret and for a time out of its window.
fn signature(quoted: &str, skew: Skew) -> Finding {
    match skew {
        Some(skew) if skew.abs() >= WINDOW => Finding::new(
            Code::ClockSkew,
            format!(
                "{quoted} because this host's clock is {}, and a signature holds for 300 s",
                ahead(skew)
            ),
        )
        .next(MEND_CLOCK),
        Some(_) => Finding::new(
            Code::WrongSecret,
            format!("{quoted}, the clock is right and the key is known: the secret is wrong"),
        )
        .next("write the secret anew, without spaces around it, then: mcp-auth-proxy reload"),
        None => Finding::new(
            Code::WrongSecret,
            format!("{quoted}: the secret is wrong, or this host's clock is (the answer has no Date to compare with)"),
        )
        .next("compare date -u with the true time, then write the secret anew and: mcp-auth-proxy reload"),
    }
}

const MEND_CLOCK: &str = "timedatectl set-ntp true";

/// What the clock alone says, whether or not anybody was refused.
pub fn clock(skew: i64) -> Finding {
    let how = ahead(skew);
    match skew.abs() {
        WINDOW.. => Finding::new(
            Code::ClockSkew,
            format!("this host's clock is {how}, and a signature holds for 300 s"),
        )
        .next(MEND_CLOCK),
        DRIFT.. => Finding::new(
            Code::ClockDrifts,
            format!("this host's clock is {how}; at 300 s every signature is refused"),
        )
        .next(MEND_CLOCK),
        _ => Finding::new(
            Code::ClockOk,
            format!("within {} s of the upstream's Date", skew.abs().max(1)),
        ),
    }
}

fn ahead(skew: i64) -> String {
    let direction = if skew > 0 { "ahead of" } else { "behind" };
    format!("{} s {direction} the upstream's", skew.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_words_are_told_apart() {
        for (words, skew, code) in [
            ("Invalid Api Key", Some(0), Code::WrongKey),
            ("Api Key is 42 days expired", Some(0), Code::ExpiredKey),
            ("Invalid Signature", Some(0), Code::WrongSecret),
            ("Invalid Signature", Some(-289), Code::WrongSecret),
            ("Invalid Signature", None, Code::WrongSecret),
            ("Invalid Signature", Some(290), Code::ClockSkew),
            ("Invalid Signature", Some(-3600), Code::ClockSkew),
            ("user not available", Some(0), Code::UserUnavailable),
            (
                "User bob is disabled until tomorrow",
                Some(0),
                Code::UserDisabled,
            ),
            ("who are you", Some(0), Code::CredentialRefused),
            ("", None, Code::CredentialRefused),
        ] {
            let finding = judge(words, skew);
            assert_eq!(finding.code, code, "{words:?} {skew:?}");
            assert!(finding.next.is_some());
            assert!(finding.message.contains(words));
        }
    }

    #[test]
    fn a_clock_is_judged_by_what_is_left_of_the_gateways_window() {
        for (skew, code) in [
            (0, Code::ClockOk),
            (-29, Code::ClockOk),
            (30, Code::ClockDrifts),
            (-289, Code::ClockDrifts),
            (290, Code::ClockSkew),
            (-86_400, Code::ClockSkew),
        ] {
            assert_eq!(clock(skew).code, code, "{skew}");
        }
        assert!(clock(100).message.contains("100 s ahead of"));
        assert!(clock(-100).message.contains("100 s behind"));
    }
}
