//! Licence expressions (SPDX, and the older `MIT/Apache-2.0`) against the list of allowed ones.

/// Permissive licences only: the binary is given away under Apache-2.0. `deny.toml` has the same list.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Whether an expression can be met with allowed licences. One that cannot be read is not allowed.
pub(super) fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        rest: spaced.split_whitespace().collect(),
    };
    words.rest.reverse();
    words.any() == Some(true) && words.rest.is_empty()
}

/// The words still to be read, last first. Each method reads one construct; `None` is a syntax error.
struct Words<'a> {
    rest: Vec<&'a str>,
}

impl Words<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut allowed = self.all()?;
        while self.take("OR") {
            allowed |= self.all()?;
        }
        Some(allowed)
    }

    fn all(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any()?;
            return self.take(")").then_some(allowed);
        }
        let mut name = self.rest.pop()?.to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.rest.pop()?);
        }
        Some(ALLOWED.contains(&name.as_str()))
    }

    fn take(&mut self, word: &str) -> bool {
        self.rest.pop_if(|next| *next == word).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_reads_them() {
        let check = |expression, expected| {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        };
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("MIT AND GPL-3.0", false);
        check("MIT OR GPL-3.0 AND LGPL-3.0", true);
        check("(MIT OR GPL-3.0) AND LGPL-3.0", false);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
        check("Apache-2.0 WITH Other-exception", false);
        check("MIT/Apache-2.0", true);
        check("(MIT", false);
        check("MIT Apache-2.0", false);
        check("", false);
    }
}
