//! Lines from a stranger: one at a time, never longer than agreed, resumable when the read is dropped half way.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// What one read of a line came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineRead {
    /// A line without its end.
    Line(Vec<u8>),
    /// More bytes than the limit without an end of line.
    TooLong,
    /// The other side closed; an unfinished line is dropped.
    End,
    /// The read failed.
    Broken(String),
}

/// Reads `\n`-terminated lines with a bound.
pub(super) struct LineReader<R> {
    read: BufReader<R>,
    line: Vec<u8>,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(read: R, bytes_max: usize) -> Self {
        Self { read: BufReader::new(read), line: Vec::new(), bytes_max }
    }

    /// The next line. Dropping the future loses nothing: bytes are taken from the buffer and kept in one step.
    pub(super) async fn next(&mut self) -> LineRead {
        loop {
            let available = match self.read.fill_buf().await {
                Ok(available) => available,
                Err(error) => return LineRead::Broken(error.to_string()),
            };
            if available.is_empty() {
                return LineRead::End;
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let take = newline.unwrap_or(available.len());
            if self.line.len() + take > self.bytes_max {
                return LineRead::TooLong;
            }
            self.line.extend_from_slice(&available[..take]);
            self.read.consume(newline.map_or(take, |index| index + 1));
            if newline.is_some() {
                return LineRead::Line(std::mem::take(&mut self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    async fn check_lines(input: &'static str, expected: Expect) {
        let mut reader = LineReader::new(input.as_bytes(), 8);
        let mut shown = String::new();
        loop {
            let read = reader.next().await;
            match &read {
                LineRead::Line(line) => shown += &format!("{:?}\n", String::from_utf8_lossy(line)),
                other => {
                    shown += &format!("{other:?}");
                    break;
                }
            }
        }
        expected.assert_eq(&shown);
    }

    #[tokio::test]
    async fn lines_end_at_newlines_and_an_unfinished_one_is_dropped() {
        check_lines(
            "a\n\nbc\nrest",
            expect![[r#"
            "a"
            ""
            "bc"
            End"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_line_of_the_limit_passes_and_one_more_byte_does_not() {
        check_lines(
            "12345678\n123456789\n",
            expect![[r#"
            "12345678"
            TooLong"#]],
        )
        .await;
    }
}
