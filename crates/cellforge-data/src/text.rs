//! Tables as text, whatever program wrote them.

use std::path::Path;

use crate::{Error, MAX_TEXT_BYTES, Result, read_bounded};

/// The text of a file in UTF-8 or UTF-16, without the mark of byte order, and without the line `sep=;` that tells spreadsheets what the delimiter is.
pub(crate) fn read(path: &Path) -> Result<String> {
    let text = decoded(path)?;
    let rest = text.split_once('\n').filter(|(first, _)| first.trim_end().len() == 5 && first.starts_with("sep="));
    Ok(rest.map(|(_, rest)| rest.to_owned()).unwrap_or(text))
}

fn decoded(path: &Path) -> Result<String> {
    let bytes = read_bounded(path, MAX_TEXT_BYTES).map_err(Error::io(path))?;
    let bad = |reason: &str| Error::Csv { path: path.to_path_buf(), line: 0, reason: reason.to_owned() };
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map_err(|_| bad("the file begins as UTF-16 text and is none"))
    };
    match bytes.as_slice() {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Without the mark, a first character that everybody writes tells it.
        [1..=0x7F, 0, ..] => utf16(&bytes, u16::from_le_bytes),
        [0, 1..=0x7F, ..] => utf16(&bytes, u16::from_be_bytes),
        [b'P', b'K', 3, 4, ..] => Err(bad("the file is a spreadsheet or a zip: save the table as CSV")),
        bytes => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| bad("the file is not UTF-8 or UTF-16 text: save it as UTF-8"))?;
            Ok(text.trim_start_matches('\u{feff}').to_owned())
        }
    }
}

/// What separates the columns of a table: of comma, semicolon, tab and bar the one that its first line has most of, outside quotes.
pub(crate) fn delimiter(text: &str) -> u8 {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |delimiter: char| {
        let mut quoted = false;
        let counts = |c: &char| {
            quoted ^= *c == '"';
            !quoted && *c == delimiter
        };
        first.chars().filter(counts).count()
    };
    // The first of those that are there most often.
    let found = [',', ';', '\t', '|'].into_iter().rev().max_by_key(|delimiter| count(*delimiter));
    found.map_or(b',', |delimiter| delimiter as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_program_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            read(file.path())
        };
        let words = "name;größe\n";
        let little: Vec<u8> = [0xFF, 0xFE].into_iter().chain(words.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let big: Vec<u8> = [0xFE, 0xFF].into_iter().chain(words.encode_utf16().flat_map(u16::to_be_bytes)).collect();
        let (bare, bare_big) = (little[2..].to_vec(), big[2..].to_vec());
        let told = [b"sep=;\r\n", words.as_bytes()].concat();
        let marked = [b"\xEF\xBB\xBF", words.as_bytes()].concat();
        for bytes in [words.as_bytes().to_vec(), marked, little, big, bare, bare_big, told] {
            assert_eq!(of(&bytes).unwrap(), words);
        }
        assert!(of(b"gr\xF6\xDFe").unwrap_err().to_string().contains("UTF-8"));
        assert!(of(b"PK\x03\x04").unwrap_err().to_string().contains("CSV"));
    }

    #[test]
    fn the_first_line_tells_what_separates() {
        for (text, found) in [
            ("a,b\n", b','),
            ("a;b,c;d\n", b';'),
            ("\"x,y,z\"\tb\n", b'\t'),
            ("a|b", b'|'),
            ("alone", b','),
            ("", b','),
        ] {
            assert_eq!(delimiter(text), found, "{text:?}");
        }
    }
}
