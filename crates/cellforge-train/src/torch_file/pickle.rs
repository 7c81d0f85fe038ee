//! The part of Python's pickle format, protocol 2, in which PyTorch describes tensors.
//!
//! A pickle is a program for a stack machine that names functions to call. This reader notes the calls as values and makes none.

use std::collections::HashMap;

/// What went wrong, in words.
pub(super) type Result<T> = std::result::Result<T, String>;

/// A place in [`Pickle::values`].
pub(super) type Id = usize;

/// Most steps of a pickle. A network of a thousand tensors takes about 50,000.
const MAX_STEPS: usize = 1 << 22;

/// A value. Values name one another by place, so that what is shared is stored once, however often it is named.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// None, a float, or a whole number of more than 64 bits: nothing that a tensor is described by.
    Other,
    Bool(bool),
    Int(i64),
    Text(String),
    /// A function or class, as `module.name`.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A call that Python would make.
    Call {
        function: Id,
        arguments: Id,
    },
    /// Something outside of the pickle, by what it is known by.
    Stored(Id),
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The value that the pickle is of.
    root: Id,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`, and leaves what comes after it.
    ///
    /// # Errors
    /// If it is cut off, holds what no file of tensors holds, or takes more than 4 million steps.
    pub(super) fn read(bytes: &mut &[u8]) -> Result<Self> {
        let mut machine =
            Machine { bytes, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        for _ in 0..MAX_STEPS {
            if machine.step()? {
                let root = machine.pop()?;
                *bytes = machine.bytes;
                return Ok(Self { values: machine.values, root });
            }
        }
        Err(format!("its pickle takes more than {MAX_STEPS} steps"))
    }

    pub(super) fn root(&self) -> &Value {
        self.at(self.root)
    }

    pub(super) fn at(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The values of a tuple or list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.at(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.at(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, id: Id) -> Option<usize> {
        match self.at(id) {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The value of a key; the last one where a key is named twice, as in Python.
    pub(super) fn get<'a>(&'a self, of: &'a Value, key: &str) -> Option<&'a Value> {
        let Value::Dict(entries) = of else { return None };
        let found = entries.iter().rev().find(|(name, _)| self.text(*name) == Some(key));
        found.map(|(_, value)| self.at(*value))
    }
}

/// The stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Takes one step; true at the end of the pickle.
    fn step(&mut self) -> Result<bool> {
        match self.byte()? {
            b'.' => return Ok(true),
            0x80 => match self.byte()? {
                2 | 3 => {}
                version => {
                    return Err(format!(
                        "its pickle has protocol {version}: expected 2, which torch.save writes by default"
                    ));
                }
            },
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let n = self.byte()?;
                self.push(Value::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()));
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()));
            }
            0x8a => {
                let len = self.byte()?;
                let long = self.take(len.into())?;
                self.push(whole(long));
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.push_text(len as usize)?;
            }
            b'U' => {
                let len = self.byte()?;
                self.push_text(len.into())?;
            }
            b'c' => {
                let global = format!("{}.{}", self.line()?, self.line()?);
                self.push(Value::Global(global));
            }
            b'q' => {
                let place = self.byte()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            b'h' => {
                let place = self.byte()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            n @ 0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(n - 0x84)).ok_or_else(cut)?;
                self.check_mark(from)?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let entries = self.since_mark()?;
                self.insert(&entries)?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let call = self.call(function, arguments);
                self.push(call);
            }
            // The state of an object that a call made: attributes, which no tensor is read from.
            b'b' => _ = self.pop()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Stored(id));
            }
            other => return Err(format!("its pickle has the instruction {other:#04x}, which no state dict has")),
        }
        Ok(false)
    }

    /// An ordered dictionary is a dictionary; any other call stays one.
    fn call(&self, function: Id, arguments: Id) -> Value {
        let ordered = self.values[function] == Value::Global("collections.OrderedDict".to_owned());
        match &self.values[arguments] {
            Value::Tuple(arguments) if ordered && arguments.is_empty() => Value::Dict(Vec::new()),
            _ => Value::Call { function, arguments },
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn push_text(&mut self, len: usize) -> Result<()> {
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let from = self.stack.len().checked_sub(1).ok_or_else(cut)?;
        self.check_mark(from)?;
        self.stack.pop().ok_or_else(cut)
    }

    /// What lies below a mark belongs to whoever set it.
    fn check_mark(&self, from: usize) -> Result<()> {
        if self.marks.last().is_some_and(|&mark| from < mark) { Err(cut()) } else { Ok(()) }
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(cut)?;
        Ok(self.stack.split_off(mark))
    }

    /// The value on top of the stack.
    fn top(&mut self) -> Result<&mut Value> {
        let top = *self.stack.last().ok_or_else(cut)?;
        Ok(&mut self.values[top])
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            _ => return Err(cut()),
        }
        Ok(())
    }

    fn insert(&mut self, entries: &[Id]) -> Result<()> {
        let (pairs, rest) = entries.as_chunks::<2>();
        match self.top()? {
            Value::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(cut()),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<()> {
        let top = *self.stack.last().ok_or_else(cut)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<()> {
        self.stack.push(*self.memo.get(&place).ok_or_else(cut)?);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(cut)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(cut)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<String> {
        let end = self.bytes.iter().position(|&byte| byte == b'\n').ok_or_else(cut)?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.byte()?;
        Ok(line)
    }
}

/// A whole number in as many bytes as it takes, the lowest first and the sign in the highest.
fn whole(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let sign = if bytes.last().is_some_and(|&high| high >= 0x80) { 0xFF } else { 0 };
    let mut all = [sign; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

fn cut() -> String {
    "its pickle is cut off or damaged".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Pickle> {
        Pickle::read(&mut bytes)
    }

    #[test]
    fn a_dictionary_by_hand() {
        // {"a": [1, -2, 300], "b": ()}, with what comes after it left alone.
        let mut bytes: &[u8] = b"\x80\x02}q\0(X\x01\0\0\0a](K\x01J\xfe\xff\xff\xffM\x2c\x01eX\x01\0\0\0b)u.rest";
        let pickle = Pickle::read(&mut bytes).unwrap();
        assert_eq!(bytes, b"rest");
        let Some(Value::List(items)) = pickle.get(pickle.root(), "a") else { panic!("{pickle:?}") };
        let items: Vec<&Value> = items.iter().map(|&id| pickle.at(id)).collect();
        assert_eq!(items, [&Value::Int(1), &Value::Int(-2), &Value::Int(300)]);
        assert_eq!(pickle.get(pickle.root(), "b"), Some(&Value::Tuple(Vec::new())));
        assert_eq!(pickle.get(pickle.root(), "c"), None);
    }

    #[test]
    fn longs_have_a_sign() {
        let of =
            |bytes: &[u8]| read(&[[0x8a, bytes.len() as u8].as_slice(), bytes, b"."].concat()).unwrap().root().clone();
        assert_eq!(of(&[]), Value::Int(0));
        assert_eq!(of(&[0xff]), Value::Int(-1));
        assert_eq!(of(&[0xff, 0x00]), Value::Int(255));
        assert_eq!(of(&[0, 0, 0, 0, 1]), Value::Int(1 << 32));
        assert_eq!(of(&[1; 9]), Value::Other);
    }

    #[test]
    fn a_call_is_noted_and_not_made() {
        // What runs a command where Python reads it.
        let pickle = read(b"cos\nsystem\n(X\x04\0\0\0true\x85R.").map(|_| ());
        assert!(pickle.is_err(), "an open mark is a cut off pickle");
        let pickle = read(b"cos\nsystem\nX\x04\0\0\0true\x85R.").unwrap();
        let Value::Call { function, .. } = pickle.root() else { panic!("{pickle:?}") };
        assert_eq!(*pickle.at(*function), Value::Global("os.system".to_owned()));
    }

    #[test]
    fn what_is_shared_is_stored_once() {
        // Each pair holds the one before it twice: 2^60 values where they were copied.
        let mut bytes = b")q\0".to_vec();
        bytes.extend(b"h\0h\0\x86q\0".repeat(60));
        bytes.push(b'.');
        assert_eq!(read(&bytes).unwrap().values().len(), 61);
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let whole = b"\x80\x02}q\0(X\x01\0\0\0aK\x01X\x01\0\0\0b)u.";
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "the first {len} bytes");
        }
        for bad in [
            &b"\x87."[..],
            b"(K\x01\x86.",
            b"]a.",
            b"K\x01K\x02a.",
            b"}(K\x01u.",
            b"h\x07.",
            b"u.",
            b"X\xff\xff\xff\xffa.",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(b"i.").unwrap_err().contains("0x69"));
        assert!(read(b"\x80\x05N.").unwrap_err().contains("protocol 5"));
        assert!(read(&b"N0".repeat(MAX_STEPS)).unwrap_err().contains("steps"));
    }
}
