//! An incremental decoder of server-sent events, as the WHATWG HTML standard defines them.
//!
//! Bytes arrive split anywhere: inside a UTF-8 sequence, inside a field name, between CR and LF. A line that lies
//! whole in what was fed is read where it is; only what a feed leaves unfinished is kept.

use std::mem;

use crate::error::{ProviderError, ProviderErrorKind};

/// How large one event may become before the stream is refused, in bytes.
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// An event grew beyond the decoder's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one event of the stream is larger than {limit} bytes")]
pub struct EventTooLarge {
    /// The limit that was passed.
    pub limit: usize,
}

impl From<EventTooLarge> for ProviderError {
    fn from(error: EventTooLarge) -> Self {
        Self::new(ProviderErrorKind::Malformed, error.to_string())
    }
}

/// Decodes one stream of server-sent events.
#[derive(Debug)]
pub struct SseDecoder {
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    /// The lines of `data:` so far, joined by newlines.
    data: Vec<u8>,
    /// Whether a `data:` line came, which an empty `data` does not tell.
    has_data: bool,
    /// The value of the last `event:` line.
    name: String,
    /// Whether the last byte was a CR, so that an LF that follows belongs to it.
    after_carriage_return: bool,
    /// Whether no line has ended yet, so that a byte order mark may still come.
    at_start: bool,
    max_event_bytes: usize,
}

impl Default for SseDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SseDecoder {
    /// A decoder for one stream, with the limit of [`MAX_EVENT_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_event_bytes(MAX_EVENT_BYTES)
    }

    /// A decoder that refuses events larger than `max_event_bytes`.
    #[must_use]
    pub fn with_max_event_bytes(max_event_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: String::new(),
            after_carriage_return: false,
            at_start: true,
            max_event_bytes,
        }
    }

    /// Takes the next bytes and calls `sink` with the name and the data of each event they complete. An event
    /// without a name is called `message`. Bytes that are no UTF-8 become replacement characters.
    ///
    /// # Errors
    /// When an event is too large, or when `sink` fails. The decoder is of no use after either.
    pub fn feed<E: From<EventTooLarge>>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        if self.after_carriage_return
            && let Some(first) = rest.first()
        {
            self.after_carriage_return = false;
            if *first == b'\n' {
                rest = &rest[1..];
            }
        }
        while let Some(end) = line_end(rest) {
            let (head, tail) = rest.split_at(end);
            rest = match tail {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_carriage_return = true;
                    &[]
                }
                _ => &tail[1..],
            };
            if self.line.is_empty() {
                self.take_line(head, &mut sink)?;
            } else {
                self.line.extend_from_slice(head);
                let mut line = mem::take(&mut self.line);
                self.take_line(&line, &mut sink)?;
                line.clear();
                self.line = line;
            }
        }
        self.check_size(self.line.len() + rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    fn take_line<E: From<EventTooLarge>>(
        &mut self,
        line: &[u8],
        sink: &mut impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_size(line.len())?;
        let line = if mem::take(&mut self.at_start) {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        };
        if line.is_empty() {
            return self.dispatch(sink);
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
            }
            // A comment has an empty field; `id` and `retry` are about reconnecting, which makes no sense here.
            _ => {}
        }
        Ok(())
    }

    fn dispatch<E>(&mut self, sink: &mut impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
        if mem::take(&mut self.has_data) {
            let name = if self.name.is_empty() {
                "message"
            } else {
                &self.name
            };
            sink(name, &String::from_utf8_lossy(&self.data))?;
            self.data.clear();
        }
        self.name.clear();
        Ok(())
    }

    /// Counts the same however the bytes were split: an unfinished line is never longer than the finished one.
    fn check_size(&self, line_bytes: usize) -> Result<(), EventTooLarge> {
        if self.data.len() + self.name.len() + line_bytes > self.max_event_bytes {
            return Err(EventTooLarge {
                limit: self.max_event_bytes,
            });
        }
        Ok(())
    }
}

/// Where the first CR or LF is. Whole blocks are tested without a branch per byte, which the compiler turns into
/// vector instructions: an ordinary line is a few hundred bytes of JSON.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_end = |byte: &u8| (*byte == b'\n') | (*byte == b'\r');
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let skipped = blocks
        .iter()
        .take_while(|block| !block.iter().fold(false, |found, byte| found | is_end(byte)))
        .count()
        * BLOCK;
    bytes[skipped..]
        .iter()
        .position(is_end)
        .map(|offset| skipped + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Events = Vec<(String, String)>;

    fn decode(limit: usize, pieces: &[&[u8]]) -> Result<Events, EventTooLarge> {
        let mut decoder = SseDecoder::with_max_event_bytes(limit);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece, |name, data| {
                events.push((name.to_owned(), data.to_owned()));
                Ok::<(), EventTooLarge>(())
            })?;
        }
        Ok(events)
    }

    /// Whole, byte by byte, and in every two parts.
    fn check(input: &[u8], expected: &[(&str, &str)]) {
        let expected: Events = expected
            .iter()
            .map(|(name, data)| ((*name).to_owned(), (*data).to_owned()))
            .collect();
        let shown = String::from_utf8_lossy(input);
        assert_eq!(
            decode(1024, &[input]).as_ref(),
            Ok(&expected),
            "whole: {shown:?}"
        );
        let single: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(
            decode(1024, &single).as_ref(),
            Ok(&expected),
            "single bytes: {shown:?}"
        );
        for middle in 0..=input.len() {
            let (left, right) = input.split_at(middle);
            let decoded = decode(1024, &[left, b"", right]);
            assert_eq!(
                decoded.as_ref(),
                Ok(&expected),
                "split at {middle}: {shown:?}"
            );
        }
    }

    #[test]
    fn streams() {
        let long = format!(
            "data: {}\n\ndata: {}\r\n\r\n",
            "a".repeat(97),
            "b".repeat(64)
        );
        let (first, second) = ("a".repeat(97), "b".repeat(64));
        check(
            long.as_bytes(),
            &[("message", &first), ("message", &second)],
        );
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            (
                "data: one\n\ndata: two\n\n",
                &[("message", "one"), ("message", "two")],
            ),
            (
                "data: one\r\n\r\ndata: two\r\n\r\n",
                &[("message", "one"), ("message", "two")],
            ),
            (
                "data: one\r\rdata: two\r\r",
                &[("message", "one"), ("message", "two")],
            ),
            (
                "data: one\r\n\ndata: two\n\r\n",
                &[("message", "one"), ("message", "two")],
            ),
            (
                "data:  two spaces\ndata:none\n\n",
                &[("message", " two spaces\nnone")],
            ),
            ("data: a\ndata\ndata: b\n\n", &[("message", "a\n\nb")]),
            ("data:\n\n", &[("message", "")]),
            (
                "event: e\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n",
                &[("e", "a\nb"), ("message", "c")],
            ),
            (
                "event: e\rdata: a\rdata: b\r\rdata: c\r\r",
                &[("e", "a\nb"), ("message", "c")],
            ),
            (
                "event: ping\ndata: {}\n\ndata: x\n\n",
                &[("ping", "{}"), ("message", "x")],
            ),
            ("data: {}\nevent: late\n\n", &[("late", "{}")]),
            ("event: no data\n\ndata: x\n\n", &[("message", "x")]),
            (
                ": comment\n\n:\n: keep-alive\ndata: x\n: inside\n\n",
                &[("message", "x")],
            ),
            ("\u{feff}data: x\n\n", &[("message", "x")]),
            ("\u{feff}\n\u{feff}data: x\n\n", &[]),
            (
                "id: 7\nretry: 10\nother: y\n data: z\ndata: x\n\n",
                &[("message", "x")],
            ),
            ("data: a:b: c\n\n", &[("message", "a:b: c")]),
            ("data: grüße 用户 🙂\n\n", &[("message", "grüße 用户 🙂")]),
            ("data: unfinished", &[]),
            ("data: unfinished\n", &[]),
        ];
        for (input, expected) in table {
            check(input.as_bytes(), expected);
        }
        check(b"data: \xff\xfe!\n\n", &[("message", "\u{fffd}\u{fffd}!")]);
    }

    #[test]
    fn large_events_are_refused_however_they_are_split() {
        let refused = Err(EventTooLarge { limit: 20 });
        for input in [
            "data: 0123456789abcdef\n\n",
            "data: 01234\ndata: 56789\ndata: abcdef\n\n",
            ": a comment that is long\n",
            "event: 0123456789\ndata: 0123456789\n\n",
            "data: without any end to it",
        ] {
            let single: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert_eq!(decode(20, &[input.as_bytes()]), refused, "{input}");
            assert_eq!(decode(20, &single), refused, "{input}");
        }
        let many = "data: 0123456789\n\n".repeat(100);
        assert_eq!(
            decode(20, &[many.as_bytes()]).map(|events| events.len()),
            Ok(100)
        );
    }

    #[test]
    fn a_failing_sink_ends_the_feed() {
        let mut seen = 0;
        let result = SseDecoder::new().feed(b"data: 1\n\ndata: 2\n\n", |_, _| {
            seen += 1;
            Err(ProviderError::new(ProviderErrorKind::Server, "stop"))
        });
        assert_eq!(
            result.map_err(|error| error.kind),
            Err(ProviderErrorKind::Server)
        );
        assert_eq!(seen, 1);
    }

    #[test]
    fn line_ends_are_found_at_every_offset() {
        for length in 0..100 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(line_end(&bytes), None);
            for offset in 0..length {
                bytes[offset] = if offset % 2 == 0 { b'\n' } else { b'\r' };
                assert_eq!(line_end(&bytes), Some(offset));
                bytes[offset] = b'x';
            }
        }
    }
}
