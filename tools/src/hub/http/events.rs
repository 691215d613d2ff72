//! Server-sent events with a bound on each.

use std::time::Duration;

/// One event; a field that did not come is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) data: String,
    pub(super) retry: Option<Duration>,
}

/// An event grew beyond the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts a stream of bytes into events.
#[derive(Debug)]
pub(super) struct EventReader {
    line: Vec<u8>,
    event: Event,
    begun: bool,
    after_cr: bool,
    bytes: usize,
    bytes_max: usize,
}

impl EventReader {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { line: Vec::new(), event: Event::default(), begun: false, after_cr: false, bytes: 0, bytes_max }
    }

    /// Takes bytes and hands back the events they complete.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for byte in chunk {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()),
                byte => {
                    self.bytes += 1;
                    if self.bytes > self.bytes_max {
                        return Err(TooLong);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.bytes = 0;
            let begun = std::mem::take(&mut self.begun);
            let event = std::mem::take(&mut self.event);
            return begun.then_some(event);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.parse().ok().map(Duration::from_millis),
            // Comments keep the connection alive; their bytes do not add up to an event.
            "" => {
                self.bytes = self.bytes.saturating_sub(line.len());
                return None;
            }
            _ => {}
        }
        self.begun = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_events(chunks: &[&str], expected: &[(Option<&str>, &str, Option<u64>)]) {
        let mut reader = EventReader::new(64);
        let mut events = Vec::new();
        for chunk in chunks {
            events.extend(reader.feed(chunk.as_bytes()).unwrap());
        }
        let shown: Vec<_> = events
            .iter()
            .map(|event| (event.id.as_deref(), event.data.as_str(), event.retry.map(|pause| pause.as_millis() as u64)))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn events_end_at_an_empty_line_however_they_are_cut() {
        check_events(&["id: 1\ndata: a\ndata: b\n\n"], &[(Some("1"), "a\nb", None)]);
        check_events(&["da", "ta:x\r", "\n\r\ndata: y\r\r"], &[(None, "x", None), (None, "y", None)]);
        check_events(&["retry: 500\nid: 7\ndata: \n\n", ": ping\n\n"], &[(Some("7"), "", Some(500))]);
    }

    #[test]
    fn an_event_has_a_limit_and_comments_do_not_add_up() {
        let mut reader = EventReader::new(16);
        assert_eq!(reader.feed(&b": keep alive\n".repeat(100)), Ok(Vec::new()));
        assert_eq!(reader.feed(b"data: 0123456789abcdef"), Err(TooLong));
    }
}
