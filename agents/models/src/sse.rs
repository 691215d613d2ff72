//! Server-sent events, piece by piece: the same events however the bytes are cut, and never more than a bound holds.
//!
//! Own, because the reader of the workspace (`sse-stream`) is tied to a body and grows without a bound.

/// An event that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; empty when it has none.
    pub(crate) name: String,
    /// Its lines of data, joined.
    pub(crate) data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// An event passed the bound.
    TooLong,
    /// The bytes are not UTF-8.
    NotText,
}

/// Reads events from bytes.
pub(crate) struct Reader {
    event_bytes_max: usize,
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
    is_first_line: bool,
}

impl Reader {
    pub(crate) fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            after_return: false,
            name: String::new(),
            data: String::new(),
            has_data: false,
            is_first_line: true,
        }
    }

    /// Takes bytes and adds the events that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Broken> {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ => {
                    if self.line.len() + self.data.len() >= self.event_bytes_max {
                        return Err(Broken::TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    /// Whether something of an event has come that is not complete.
    pub(crate) fn is_within_event(&self) -> bool {
        !self.line.is_empty() || self.has_data
    }

    fn end_line(&mut self) -> Result<Option<Event>, Broken> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| Broken::NotText)?;
        let line = if std::mem::take(&mut self.is_first_line) { line.trim_start_matches('\u{feff}') } else { line };
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments, ids and retry times say nothing about an answer.
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<Event> {
        let event = Event { name: std::mem::take(&mut self.name), data: std::mem::take(&mut self.data) };
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]], bound: usize) -> Result<Vec<Event>, Broken> {
        let mut reader = Reader::new(bound);
        let mut events = Vec::new();
        for piece in pieces {
            reader.feed(piece, &mut events)?;
        }
        Ok(events)
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    #[test]
    fn names_data_comments_and_line_ends_are_read() {
        let text = "\u{feff}event: a\r\ndata: 1\r\ndata:2\r\n\r\n: ping\n\ndata: 3\rid: 7\r\revent: empty\n\ndata\n\n";
        assert_eq!(read(&[text.as_bytes()], 100).unwrap(), [event("a", "1\n2"), event("", "3"), event("", "")]);
    }

    #[test]
    fn what_is_too_long_or_no_text_is_an_error() {
        assert_eq!(read(&[b"data: 0123456789"], 10), Err(Broken::TooLong));
        assert_eq!(read(&[b"data: 012\ndata: 012\ndata: 012\n"], 10), Err(Broken::TooLong));
        assert_eq!(read(&[b"data: \xff\n"], 10), Err(Broken::NotText));
    }

    #[test]
    fn an_event_without_its_end_is_seen() {
        let mut reader = Reader::new(100);
        reader.feed(b"data: 1\n", &mut Vec::new()).unwrap();
        assert!(reader.is_within_event());
        reader.feed(b"\n", &mut Vec::new()).unwrap();
        assert!(!reader.is_within_event());
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_bytes_are_cut(
            lines in proptest::collection::vec("(data: |data:|event: |: |)[a-zé✓{}\" ]{0,6}(\n|\r\n|\r|\n\n|\r\n\r\n)", 0..12),
            cuts in proptest::collection::vec(0_usize..200, 0..12),
        ) {
            let bytes = lines.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces, 60), read(&[&bytes], 60));
        }
    }
}
