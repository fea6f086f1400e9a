//! `application/x-www-form-urlencoded`, as RFC 6749 wants it (appendix B).

use std::fmt::Write;

use zeroize::Zeroizing;

/// `name=value&…`, wiped when dropped.
#[derive(Default)]
pub struct Form(Zeroizing<String>);

impl Form {
    #[must_use]
    pub fn field(mut self, name: &str, value: &[u8]) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode(name.as_bytes(), &mut self.0);
        self.0.push('=');
        encode(value, &mut self.0);
        self
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

pub fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            out.push(char::from(byte));
        } else if byte == b' ' {
            out.push('+');
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped() {
        let form = Form::default()
            .field("scope", b"a b")
            .field("client_secret", "p+/=&é".as_bytes());
        assert_eq!(
            form.as_bytes(),
            b"scope=a+b&client_secret=p%2B%2F%3D%26%C3%A9"
        );
    }
}
