//! The fields of a span as one JSON object, written as they come: every request has a span, and few have a line in the log.
//! `tracing-subscriber` itself builds a tree of them first.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

pub(super) struct JsonObject;

impl<'writer> FormatFields<'writer> for JsonObject {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut object = Object { writer, is_first: true, ended: Ok(()) };
        object.writer.write_char('{')?;
        fields.record(&mut object);
        object.ended?;
        object.writer.write_char('}')
    }

    /// Goes on before the brace that ends what is there.
    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let is_first = current.fields.len() <= 2;
        let _ = current.fields.pop();
        let mut object = Object { writer: current.as_writer(), is_first, ended: Ok(()) };
        fields.record(&mut object);
        object.ended?;
        object.writer.write_char('}')
    }
}

struct Object<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    ended: fmt::Result,
}

impl Object<'_> {
    fn member(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.ended.is_ok() {
            let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
            // A field's name is an identifier of Rust, or some with dots.
            self.ended =
                write!(self.writer, "{comma}\"{}\":", field.name()).and_then(|()| write(&mut self.writer));
        }
    }
}

impl Visit for Object<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }
}

/// The inside of a string (RFC 8259 section 7).
struct Escaped<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|char: char| char < ' ' || char == '"' || char == '\\') {
            let (plain, special) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = special.chars();
            if let Some(char) = chars.next() {
                write!(self.0, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}
