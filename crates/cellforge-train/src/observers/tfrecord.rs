//! The container of TensorBoard's event files, and the few protocol-buffer messages that go in it.
//!
//! A record is its length (u64, little endian), a masked CRC-32C of those 8 bytes, the payload, and a masked CRC-32C of
//! the payload. Field numbers are those of TensorFlow's `event.proto` and `summary.proto`.

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

/// TensorFlow stores checksums rotated and shifted, so that a checksum of data that holds checksums is no trivial one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `payload` framed as one record.
pub fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&masked(payload).to_le_bytes());
    out
}

/// The payload of the record at the start of `bytes`, or `None` if it is cut short or damaged.
pub fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.get(..8)?;
    let size = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let payload = bytes.get(12..size.checked_add(12)?)?;
    let sums = [bytes.get(8..12)?, bytes.get(12 + size..size.checked_add(16)?)?];
    (sums == [masked(length).to_le_bytes(), masked(payload).to_le_bytes()]).then_some(payload)
}

/// What an event carries beside its time and step.
pub enum Content<'a> {
    /// The first record of every file.
    FileVersion,
    /// Figures by tag.
    Scalars(&'a [(String, f32)]),
    /// A PNG under a tag.
    Image {
        /// The tag.
        tag: &'a str,
        /// Size in pixels.
        width: u32,
        /// Size in pixels.
        height: u32,
        /// The encoded file.
        png: &'a [u8],
    },
}

/// An `Event` message. `seconds` is what TensorBoard calls the wall time.
pub fn event(seconds: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend_from_slice(&seconds.to_le_bytes());
    out.push(0x10);
    varint(&mut out, step);
    match content {
        Content::FileVersion => bytes_field(&mut out, 3, b"brain.Event:2"),
        Content::Scalars(values) => {
            let mut summary = Vec::new();
            for (tag, value) in *values {
                let mut message = Vec::new();
                bytes_field(&mut message, 1, tag.as_bytes());
                message.push(0x15); // field 2, 32 bits: simple_value
                message.extend_from_slice(&value.to_le_bytes());
                bytes_field(&mut summary, 1, &message);
            }
            bytes_field(&mut out, 5, &summary);
        }
        Content::Image { tag, width, height, png } => {
            let mut image = vec![0x08];
            varint(&mut image, u64::from(*height));
            image.push(0x10);
            varint(&mut image, u64::from(*width));
            image.extend_from_slice(&[0x18, 3]); // colour space 3: RGB
            bytes_field(&mut image, 4, png);
            let mut message = Vec::new();
            bytes_field(&mut message, 1, tag.as_bytes());
            bytes_field(&mut message, 4, &image);
            let mut summary = Vec::new();
            bytes_field(&mut summary, 1, &message);
            bytes_field(&mut out, 5, &summary);
        }
    }
    out
}

/// Time and step of an event written by [`event`].
pub fn time_and_step(payload: &[u8]) -> Option<(f64, u64)> {
    let seconds = f64::from_le_bytes(payload.get(1..9)?.try_into().ok()?);
    let (mut step, mut shift) = (0u64, 0);
    for byte in payload.get(10..)?.iter().take(10) {
        step |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((seconds, step));
        }
    }
    None
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_check_string() {
        // The check value of CRC-32C in RFC 3720's family of tables.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn the_file_version_record_byte_by_byte() {
        #[rustfmt::skip]
        let golden = [
            0x1a, 0, 0, 0, 0, 0, 0, 0,              // 26 bytes of payload: 9 + 2 + 15
            0x12, 0x9b, 0xd8, 0x2d,                 // masked CRC of the length
            0x09, 0, 0, 0, 0, 0, 0, 0, 0,           // field 1, double: 0 seconds
            0x10, 0,                                // field 2, varint: step 0
            0x1a, 13, b'b', b'r', b'a', b'i', b'n', b'.', b'E', b'v', b'e', b'n', b't', b':', b'2',
            0x31, 0xe6, 0xc7, 0x8b,                 // masked CRC of the payload
        ];
        assert_eq!(record(&event(0.0, 0, &Content::FileVersion)), golden);
    }

    #[test]
    fn a_scalar_event_byte_by_byte() {
        #[rustfmt::skip]
        let golden = [
            0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,     // 1.0 seconds
            0x10, 0xac, 0x02,                       // step 300 = 0x2c + 2 * 128
            0x2a, 10,                               // field 5: summary of 10 bytes
            0x0a, 8,                                // its field 1: value of 8 bytes
            0x0a, 1, b'g',                          // tag
            0x15, 0, 0, 0, 0x3f,                    // 0.5
        ];
        let values = [("g".to_owned(), 0.5)];
        let payload = event(1.0, 300, &Content::Scalars(&values));
        assert_eq!(payload, golden);
        assert_eq!(time_and_step(&payload), Some((1.0, 300)));
    }

    #[test]
    fn a_cut_or_changed_record_is_not_read() {
        let mut bytes = record(b"payload");
        assert_eq!(first_record(&bytes), Some(&b"payload"[..]));
        assert_eq!(first_record(&bytes[..bytes.len() - 1]), None);
        bytes[13] ^= 1;
        assert_eq!(first_record(&bytes), None);
    }
}
