//! Phone numbers: five forms, each with the look-alikes that it must not take.

use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;

use regex::Regex;

use super::{DASH, Expression, SPACE, digit_groups, is_within_uuid};

const LENGTHS: RangeInclusive<usize> = 7..=15;

/// Words before a number of seven digits that tell it from a range such as `500-1000`.
const CALLING_WORDS: [&str; 11] = [
    "phone",
    "tel",
    "telephone",
    "call",
    "fax",
    "mobile",
    "cell",
    "dial",
    "ring",
    "number",
    "at",
];

// Each alternative is bounded in length, so that searching stays linear.
static PHONE: Expression = LazyLock::new(|| {
    let separator = format!("(?:[{SPACE}]?[/{DASH}][{SPACE}]?|[{SPACE}.])");
    let gap = format!("[{SPACE}.{DASH}]");
    let near = format!("[{SPACE}{DASH}]");
    let international = format!(
        r"\+[1-9][0-9]{{0,14}}(?:[{SPACE}]?\([0-9]{{1,5}}\))?(?:{separator}?[0-9](?-u:\b))?(?:{separator}?[0-9]{{2,15}}){{0,8}}(?:-[0-9])?"
    );
    let american = format!(
        r"(?:1{gap})?(?:\([0-9]{{3}}\)[{SPACE}]?|[0-9]{{3}}{gap})[0-9]{{3}}{gap}[0-9]{{4}}"
    );
    let mobile = format!(r"1[3-9][0-9]{near}[0-9]{{4}}{near}[0-9]{{4}}");
    let area = format!(r"\([0-9]{{2,5}}\)[{SPACE}]?[0-9]{{2,8}}(?:{near}[0-9]{{2,8}}){{0,3}}");
    let trunk = format!(r"0[0-9]{{1,5}}(?:{separator}[0-9]{{2,12}}){{1,6}}(?:-[0-9])?");
    let local = "[2-9][0-9]{2}-[0-9]{4}";
    Regex::new(&format!(
        "({international})|({american})|({mobile})|({area})|({trunk})|({local})"
    ))
    .ok()
});

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    International,
    American,
    Mobile,
    Area,
    Trunk,
    Local,
}

const FORMS: [Form; 6] = [
    Form::International,
    Form::American,
    Form::Mobile,
    Form::Area,
    Form::Trunk,
    Form::Local,
];

/// Something that has one of the forms.
struct Candidate<'a> {
    text: &'a str,
    form: Form,
    range: Range<usize>,
    groups: Vec<Range<usize>>,
    /// The end of the number found before it.
    previous_end: usize,
}

pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let Some(phone) = &*PHONE else {
        return Vec::new();
    };
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut position = 0;
    while let Some(captures) = phone.captures_at(text, position) {
        let matched = FORMS
            .into_iter()
            .zip(1..)
            .find_map(|(form, index)| Some((form, captures.get(index)?)));
        let Some((form, matched)) = matched else {
            break;
        };
        let range = matched.range();
        let groups = digit_groups(text, &range);
        // Where a candidate is refused, the search goes on behind its first group.
        position = groups.first().map_or(range.end, |group| group.end);
        let previous_end = found.last().map_or(0, |previous| previous.end);
        let candidate = Candidate {
            text,
            form,
            range,
            groups,
            previous_end,
        };
        if let Some(number) = candidate.number() {
            position = number.end;
            found.push(number);
        }
    }
    found
}

impl Candidate<'_> {
    /// The part of the candidate that is a phone number.
    fn number(mut self) -> Option<Range<usize>> {
        if !self.begins_alone() || is_within_uuid(self.text, &self.range) {
            return None;
        }
        self.cut_to_length();
        self.drop_group_of_next_word();
        let digits = self.digits();
        let fits = match self.form {
            Form::International => self.is_international(digits),
            Form::American => self.is_american(),
            Form::Mobile => true,
            Form::Area => self.is_with_area_code(),
            Form::Trunk => self.is_with_trunk_zero(),
            Form::Local => self.is_local(),
        };
        (fits && LENGTHS.contains(&digits) && self.ends_alone()).then_some(self.range)
    }

    fn digits(&self) -> usize {
        self.groups.iter().map(ExactSizeIterator::len).sum()
    }

    fn group(&self, index: usize) -> &str {
        self.groups
            .get(index)
            .map_or("", |group| &self.text[group.clone()])
    }

    fn lengths(&self) -> Vec<usize> {
        self.groups.iter().map(ExactSizeIterator::len).collect()
    }

    /// The characters between the groups.
    fn separators(&self) -> String {
        let candidate = &self.text[self.range.clone()];
        candidate
            .chars()
            .filter(|character| !character.is_ascii_digit())
            .collect()
    }

    fn begins_alone(&self) -> bool {
        let start = self.range.start;
        if start == self.previous_end + 1 && self.previous_end > 0 {
            return true;
        }
        let mut before = self.text[..start].chars().rev();
        let (Some(next), further) = (before.next(), before.next()) else {
            return true;
        };
        if next.is_ascii_alphanumeric() || "_+$€£¥".contains(next) {
            return false;
        }
        if self.form == Form::International {
            return true;
        }
        match (next, further) {
            ('.' | ',' | ':', Some(further)) => !further.is_ascii_digit(),
            ('-' | '–' | '/' | '\\', Some(further)) => !further.is_ascii_alphanumeric(),
            // `1 050 000 000` is one number, and `00 01 02 03 04 05` a list of bytes.
            (' ', Some(further)) if further.is_ascii_digit() => {
                let all = |wanted: usize| self.lengths().iter().all(|length| *length == wanted);
                !all(3) && !all(2)
            }
            _ => true,
        }
    }

    fn ends_alone(&self) -> bool {
        let mut after = self.text[self.range.end..].chars();
        let (Some(next), further) = (after.next(), after.next()) else {
            return true;
        };
        let is_digit = |character: Option<char>| character.is_some_and(|c| c.is_ascii_digit());
        match next {
            // An extension.
            'x' => is_digit(further),
            '-' | '.' | ':' => !is_digit(further),
            // Two numbers with a slash between them are two numbers.
            '/' => further == Some('0') || !is_digit(further),
            _ => !next.is_ascii_alphanumeric() && next != '_',
        }
    }

    /// Leaves out trailing groups that make the candidate too long: another number, say.
    fn cut_to_length(&mut self) {
        let most = if self.is_country_one() {
            11
        } else {
            *LENGTHS.end()
        };
        if self.digits() <= most || self.groups.len() < 2 {
            return;
        }
        let mut digits = 0;
        let mut kept = 0;
        for (index, group) in self.groups.iter().enumerate() {
            let begins_anew =
                self.text[group.clone()].starts_with('0') && digits >= *LENGTHS.start();
            if digits + group.len() > most || begins_anew {
                break;
            }
            digits += group.len();
            kept = index + 1;
        }
        self.keep(kept);
        while self.groups.len() > 1 && !self.ends_alone() {
            self.keep(self.groups.len() - 1);
        }
    }

    /// Leaves out a last group that belongs to the word after it, as in `… 24h`.
    fn drop_group_of_next_word(&mut self) {
        let next = self.text[self.range.end..].chars().next();
        let is_word = next.is_some_and(|next| next.is_ascii_alphabetic() && next != 'x');
        if is_word && matches!(self.form, Form::International | Form::Trunk | Form::Area) {
            self.keep(self.groups.len() - 1);
        }
    }

    fn keep(&mut self, groups: usize) {
        self.groups.truncate(groups);
        if let Some(last) = self.groups.last() {
            self.range.end = last.end;
        }
    }

    fn is_country_one(&self) -> bool {
        self.text[self.range.clone()].starts_with("+1")
    }

    fn is_international(&self, digits: usize) -> bool {
        let lengths = self.lengths();
        let is_dotted = self
            .separators()
            .chars()
            .all(|character| "+.".contains(character));
        if self.is_country_one() && digits != 11 {
            return false;
        }
        match lengths.as_slice() {
            [_] => true,
            // A decimal number, unless it is as long as the form `+49.301234567` of registries.
            [country, number] if is_dotted => *country <= 3 && (8..=12).contains(number),
            [_, rest @ ..] if is_dotted => rest.iter().any(|length| *length != 3),
            _ => true,
        }
    }

    fn is_american(&self) -> bool {
        // With spaces alone, three numbers of a table look the same; area and exchange codes begin with 2 to 9.
        let is_spaced = self.separators().chars().all(char::is_whitespace);
        let codes = self.groups.len() - 3;
        !is_spaced
            || [codes, codes + 1]
                .iter()
                .all(|index| self.group(*index).starts_with(|c| c > '1'))
    }

    fn is_with_area_code(&self) -> bool {
        let is_year = |group: &str| group.len() == 4 && matches!(&group[..2], "19" | "20");
        let is_iso_date =
            is_year(self.group(1)) && self.group(2).len() == 2 && self.group(3).len() == 2;
        !is_year(self.group(0)) && !is_iso_date
    }

    fn is_with_trunk_zero(&self) -> bool {
        let lengths = self.lengths();
        let separators = self.separators();
        let numbers: Vec<u64> = (0..lengths.len())
            .map(|index| self.group(index).parse().unwrap_or(u64::MAX))
            .collect();
        // After two zeros comes a country code.
        let all_digits: String = (0..lengths.len()).map(|index| self.group(index)).collect();
        if all_digits.starts_with("000") {
            return false;
        }
        if separators.contains('.') {
            let is_mixed = separators.chars().any(|character| character != '.');
            let is_address = lengths.len() == 4 && numbers.iter().all(|number| *number <= 255);
            if is_mixed || is_address || lengths.len() < 3 {
                return false;
            }
        }
        let is_date = matches!(lengths[..], [2, 2, 4, ..])
            && numbers[0] <= 31
            && numbers[1] <= 31
            && (1900..2100).contains(&numbers[2]);
        let is_time = |number: u64| number / 100 < 25 && number % 100 < 60;
        let are_times = matches!(lengths[..], [4, 4]) && numbers.iter().all(|time| is_time(*time));
        // Pairs are a French number if there are five, else a hardware address, a date or a list.
        let are_pairs = lengths.iter().all(|length| *length == 2) && lengths.len() != 5;
        separators.matches('/').count() <= 1 && !is_date && !are_times && !are_pairs
    }

    fn is_local(&self) -> bool {
        let before = self.text[..self.range.start].trim_end_matches([' ', ':', '.', '#']);
        let start = before
            .char_indices()
            .rev()
            .take(12)
            .take_while(|(_, character)| character.is_ascii_alphabetic())
            .last()
            .map_or(before.len(), |(index, _)| index);
        CALLING_WORDS
            .iter()
            .any(|word| before[start..].eq_ignore_ascii_case(word))
    }
}
