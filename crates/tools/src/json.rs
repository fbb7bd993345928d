//! JSON on one line, as postqueue(1) writes it, by serde_json. No text in it commands a terminal, and bytes that are not
//! UTF-8 become U+FFFD.

use std::fmt;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// Writes the value and a line end.
pub(crate) fn write_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    write_value(out, value)?;
    out.write_all(b"\n")
}

fn write_value(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    Ok(value.serialize(&mut serde_json::Serializer::with_formatter(out, OneLine))?)
}

/// Bytes of a queue file as a string.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes of a queue file that are kept until they are written, as a string.
#[derive(Debug, Clone)]
pub(crate) struct OwnedText(pub(crate) Vec<u8>);

impl Serialize for OwnedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text(&self.0).serialize(serializer)
    }
}

/// An object that goes out while it is made: its strings may be longer than memory. The order of the calls is the caller's
/// affair.
pub(crate) struct Object<'a> {
    out: &'a mut dyn Write,
    is_first: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(out: &'a mut dyn Write) -> io::Result<Self> {
        OneLine.begin_object(out)?;
        Ok(Self { out, is_first: true })
    }

    /// A field as a whole.
    pub(crate) fn field(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.begin_field(name)?;
        write_value(self.out, value)
    }

    /// A field, if it has a value.
    pub(crate) fn field_if_some(&mut self, name: &str, value: Option<impl Serialize>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.field(name, &value))
    }

    /// The name of a field. What follows is its value: a string in pieces, or an array of them.
    pub(crate) fn begin_field(&mut self, name: &str) -> io::Result<()> {
        OneLine.begin_object_key(self.out, std::mem::take(&mut self.is_first))?;
        write_value(self.out, &name)?;
        OneLine.begin_object_value(self.out)
    }

    pub(crate) fn begin_array(&mut self) -> io::Result<()> {
        OneLine.begin_array(self.out)
    }

    /// What stands before an element of an array.
    pub(crate) fn begin_element(&mut self, is_first: bool) -> io::Result<()> {
        OneLine.begin_array_value(self.out, is_first)
    }

    pub(crate) fn end_array(&mut self) -> io::Result<()> {
        OneLine.end_array(self.out)
    }

    pub(crate) fn begin_string(&mut self) -> io::Result<()> {
        OneLine.begin_string(self.out)
    }

    /// A piece of a string. A character must not be cut in two: both halves would become U+FFFD.
    pub(crate) fn string_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        Ok(Text(piece)
            .serialize(&mut serde_json::Serializer::with_formatter(&mut *self.out, WithinString))?)
    }

    pub(crate) fn end_string(&mut self) -> io::Result<()> {
        OneLine.end_string(self.out)
    }

    pub(crate) fn end(self) -> io::Result<()> {
        OneLine.end_object(self.out)?;
        self.out.write_all(b"\n")
    }
}

/// Whether the character shows other text than there is: by a command to the terminal, or by turning its direction.
pub(crate) fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Blanks behind `,` and `:`, and nothing that a terminal obeys.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, it)| is_treacherous(*it)) {
            let (safe, behind) = rest.split_at(at);
            // All of these characters have four digits.
            write!(out, "{safe}\\u{:04x}", u32::from(character))?;
            rest = behind.split_at(character.len_utf8()).1;
        }
        out.write_all(rest.as_bytes())
    }
}

/// A string without its quotes.
struct WithinString;

impl Formatter for WithinString {
    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        OneLine.write_string_fragment(out, fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_value(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_string_commands_a_terminal() {
        assert_eq!(shown(&Text(b"a\"\xff\n")), "\"a\\\"\u{fffd}\\n\"");
        let text = "a\u{1b}[2J\u{202e}b\u{2066}\u{9b}\u{7f}é\\";
        assert_eq!(shown(&Text(text.as_bytes())), r#""a\u001b[2J\u202eb\u2066\u009b\u007fé\\""#);
        assert_eq!(serde_json::from_str::<String>(&shown(&Text(text.as_bytes()))).unwrap(), text);
    }

    #[test]
    fn an_object_in_pieces_reads_as_one_that_is_written_whole() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out).unwrap();
        object.field("id", &Text(b"A1")).unwrap();
        object.field_if_some("nothing", None::<u64>).unwrap();
        object.begin_field("lines").unwrap();
        object.begin_array().unwrap();
        for line in [&b"a \xc3\xa9"[..], b"\x1b\xff\""] {
            object.begin_element(line.starts_with(b"a")).unwrap();
            object.begin_string().unwrap();
            line.chunks(3).for_each(|piece| object.string_piece(piece).unwrap());
            object.end_string().unwrap();
        }
        object.end_array().unwrap();
        object.field_if_some("left", Some(2)).unwrap();
        object.end().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"id\": \"A1\", \"lines\": [\"a \u{fffd}\u{fffd}\", \"\\u001b\u{fffd}\\\"\"], \"left\": 2}\n"
        );
    }
}
