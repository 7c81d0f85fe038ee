//! Files of `torch.save` that hold a state dict: a zip or, as PyTorch wrote it before 1.6, a run of pickles.
//!
//! Nothing in such a file is run. Candle's own reader is not used: it knows no file of before 1.6, ends the program on some damaged ones,
//! and copies what a pickle names twice, so that a small file can fill the memory.

mod pickle;

use std::{
    collections::{BTreeMap, HashMap},
    io::{Cursor, Read},
};

use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;

use pickle::{Id, Pickle, Result, Value};

/// The start of a zip.
const ZIP: &[u8] = b"PK\x03\x04";

/// The first pickle of a file of before 1.6: the number by which PyTorch knows it.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The most bytes that the description of a zip's tensors may have. That of a thousand tensors has about 200 kB.
const MAX_PICKLE: u64 = 16 << 20;

/// Whether these are the bytes of such a file, by how they start.
pub(crate) fn is_torch_file(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP) || bytes.starts_with(LEGACY)
}

/// Reads the floating-point tensors of a state dict, by name, as `f32`. A state dict under the key `state_dict` is found as well.
///
/// # Errors
/// In words: a file that is damaged, that holds a whole model or a program in place of a state dict, whose tensors reach past what is
/// stored, or which names much more than it holds.
pub(crate) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    // What is read twice counts twice: no file can ask for much more memory than it has bytes.
    let budget = 2 * bytes.len();
    match bytes.strip_prefix(LEGACY) {
        Some(rest) => read_legacy(rest, budget),
        None => read_zip(bytes, budget),
    }
}

fn read_zip(bytes: &[u8], budget: usize) -> Result<BTreeMap<String, Tensor>> {
    let damaged = |error: &dyn std::fmt::Display| format!("its zip is damaged: {error}");
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let names: Vec<String> = (0..zip.len()).filter_map(|i| Some(zip.name_for_index(i)?.ok()?.into_owned())).collect();
    let Some(folder) = names.iter().find_map(|name| name.strip_suffix("data.pkl")) else {
        return Err("it is a zip, but not one of torch.save: it has no data.pkl".to_owned());
    };
    if names.iter().any(|name| name.strip_prefix(folder).is_some_and(|name| name.starts_with("code/"))) {
        return Err(
            "it holds a TorchScript program: expected a state dict, as torch.save(model.state_dict()) writes it"
                .to_owned(),
        );
    }
    let mut entry = |name: &str, most: u64| -> Result<Vec<u8>> {
        let entry = zip.by_name(&format!("{folder}{name}")).map_err(|error| format!("{name}: {}", damaged(&error)))?;
        if entry.size() > most {
            return Err(format!("{name} has {} bytes: at most {most} are read", entry.size()));
        }
        let mut bytes = Vec::new();
        entry.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {}", damaged(&error)))?;
        Ok(bytes)
    };
    if names.iter().any(|name| *name == format!("{folder}byteorder")) && entry("byteorder", 16)? != b"little" {
        return Err("its numbers are not in little-endian order: save it on an ordinary machine".to_owned());
    }
    let description = entry("data.pkl", MAX_PICKLE)?;
    let pickle = Pickle::read(&mut description.as_slice())?;
    let mut left = budget;
    let mut storages: HashMap<String, Vec<u8>> = HashMap::new();
    for storage in pickle_storages(&pickle)?.values() {
        left = left.checked_sub(storage.bytes()?).ok_or_else(too_much)?;
        let found = entry(&["data", &storage.key].join("/"), left as u64 + storage.bytes()? as u64)?;
        storages.insert(storage.key.clone(), found);
    }
    tensors(&pickle, |key| storages.get(key).map(Vec::as_slice), left)
}

fn read_legacy(mut bytes: &[u8], budget: usize) -> Result<BTreeMap<String, Tensor>> {
    let _version = Pickle::read(&mut bytes)?;
    let system = Pickle::read(&mut bytes)?;
    if system.get(system.root(), "little_endian") != Some(&Value::Bool(true)) {
        return Err("its numbers are not in little-endian order: save it on an ordinary machine".to_owned());
    }
    let pickle = Pickle::read(&mut bytes)?;
    state_dict(&pickle)?;
    let keys = Pickle::read(&mut bytes)?;
    let declared = pickle_storages(&pickle)?;
    let mut storages: HashMap<&str, &[u8]> = HashMap::new();
    let Value::List(order) = keys.root() else { return Err(damaged("its list of storages")) };
    for &key in order {
        let key = keys.text(key).ok_or_else(|| damaged("its list of storages"))?;
        let storage = declared.get(key).ok_or_else(|| damaged("its list of storages"))?;
        let (numbers, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged(key))?;
        if usize::try_from(i64::from_le_bytes(*numbers)) != Ok(storage.numbers) {
            return Err(damaged(key));
        }
        let (found, rest) =
            rest.split_at_checked(storage.bytes()?).ok_or_else(|| format!("it is cut off in storage {key}"))?;
        storages.insert(key, found);
        bytes = rest;
    }
    tensors(&pickle, |key| storages.get(key).copied(), budget)
}

fn too_much() -> String {
    "its tensors have more numbers than it holds".to_owned()
}

fn damaged(what: &str) -> String {
    format!("it is damaged: {what} cannot be read")
}

/// Numbers that tensors are views of.
#[derive(Debug, Clone, PartialEq)]
struct Storage {
    key: String,
    /// Bytes of a number, and what they are where they are floating-point numbers.
    size: usize,
    dtype: Option<DType>,
    numbers: usize,
}

impl Storage {
    fn bytes(&self) -> Result<usize> {
        self.numbers.checked_mul(self.size).ok_or_else(too_much)
    }

    /// From `("storage", class, key, location, numbers, ...)`.
    fn new(pickle: &Pickle, id: Id) -> Result<Self> {
        let bad = || damaged("the description of a storage");
        let &[kind, class, key, _, numbers, ref rest @ ..] = pickle.items(id).ok_or_else(bad)? else {
            return Err(bad());
        };
        let Value::Global(class) = pickle.at(class) else { return Err(bad()) };
        // Before 1.6 a storage could be a view of another.
        if pickle.text(kind) != Some("storage") || rest.iter().any(|&view| *pickle.at(view) != Value::Other) {
            return Err(bad());
        }
        let (size, dtype) = match class.as_str() {
            "torch.FloatStorage" => (4, Some(DType::F32)),
            "torch.DoubleStorage" => (8, Some(DType::F64)),
            "torch.HalfStorage" => (2, Some(DType::F16)),
            "torch.BFloat16Storage" => (2, Some(DType::BF16)),
            "torch.LongStorage" => (8, None),
            "torch.IntStorage" => (4, None),
            "torch.ShortStorage" => (2, None),
            "torch.CharStorage" | "torch.ByteStorage" | "torch.BoolStorage" => (1, None),
            other => return Err(format!("it has numbers in a {other}: expected float, double, half or bfloat16")),
        };
        let (key, numbers) = (pickle.text(key).ok_or_else(bad)?, pickle.count(numbers).ok_or_else(bad)?);
        Ok(Self { key: key.to_owned(), size, dtype, numbers })
    }
}

/// All storages that a pickle names, by key.
fn pickle_storages(pickle: &Pickle) -> Result<BTreeMap<String, Storage>> {
    let mut storages = BTreeMap::new();
    for value in pickle.values() {
        if let Value::Stored(id) = value {
            let storage = Storage::new(pickle, *id)?;
            match storages.insert(storage.key.clone(), storage.clone()) {
                Some(before) if before != storage => return Err(damaged(&storage.key)),
                _ => {}
            }
        }
    }
    Ok(storages)
}

/// The entries of the state dict.
fn state_dict(pickle: &Pickle) -> Result<&[(Id, Id)]> {
    match pickle.get(pickle.root(), "state_dict").unwrap_or_else(|| pickle.root()) {
        Value::Dict(entries) => Ok(entries),
        _ => {
            Err("it holds no state dict, but perhaps a whole model: save it with torch.save(model.state_dict())"
                .to_owned())
        }
    }
}

/// The floating-point tensors of the state dict, which may take up to `left` bytes.
fn tensors<'a>(
    pickle: &Pickle,
    stored: impl Fn(&str) -> Option<&'a [u8]>,
    mut left: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let entries = state_dict(pickle)?;
    let mut tensors = BTreeMap::new();
    for &(name, value) in entries {
        let (Some(name), Some(view)) = (pickle.text(name), view(pickle, value)) else { continue };
        let problem = |problem: String| format!("{name}: {problem}");
        let view = view.map_err(problem)?;
        let Some(dtype) = view.storage.dtype else { continue };
        let bytes = stored(&view.storage.key).ok_or_else(|| problem(damaged(&view.storage.key)))?;
        let bytes = view.gather(bytes, &mut left).map_err(problem)?;
        let tensor =
            Tensor::from_raw_buffer(&bytes, dtype, &view.shape, &Device::Cpu).and_then(|t| t.to_dtype(DType::F32));
        tensors.insert(name.to_owned(), tensor.map_err(|error| problem(error.to_string()))?);
    }
    Ok(tensors)
}

/// A tensor: numbers of a storage, by their places.
struct View {
    storage: Storage,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// The view that a value is, or none if it is no tensor.
fn view(pickle: &Pickle, id: Id) -> Option<Result<View>> {
    let call = |id: Id| match pickle.at(id) {
        Value::Call { function, arguments } => match pickle.at(*function) {
            Value::Global(function) => Some((function.as_str(), pickle.items(*arguments)?)),
            _ => None,
        },
        _ => None,
    };
    let (function, arguments) = match call(id)? {
        // A parameter is a tensor that is trained.
        ("torch._utils._rebuild_parameter", arguments) => call(*arguments.first()?)?,
        other => other,
    };
    if !matches!(function, "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor") {
        return None;
    }
    let bad = || damaged("the description of a tensor");
    let view = || -> Result<View> {
        let &[storage, offset, shape, stride, ..] = arguments else { return Err(bad()) };
        let Value::Stored(storage) = pickle.at(storage) else { return Err(bad()) };
        let counts = |id: Id| -> Result<Vec<usize>> {
            pickle.items(id).ok_or_else(bad)?.iter().map(|&id| pickle.count(id).ok_or_else(bad)).collect()
        };
        Ok(View {
            storage: Storage::new(pickle, *storage)?,
            offset: pickle.count(offset).ok_or_else(bad)?,
            shape: counts(shape)?,
            stride: counts(stride)?,
        })
    };
    Some(view())
}

impl View {
    /// The bytes of its numbers, row by row, which are taken from those that are `left`.
    fn gather(&self, bytes: &[u8], left: &mut usize) -> Result<Vec<u8>> {
        let past =
            || format!("its shape {:?} reaches past the {} numbers that are stored", self.shape, self.storage.numbers);
        if self.shape.len() != self.stride.len() {
            return Err(past());
        }
        let numbers = self.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).ok_or_else(past)?;
        let size = self.storage.size;
        if numbers == 0 {
            return Ok(Vec::new());
        }
        let steps = self.shape.iter().zip(&self.stride);
        let last =
            steps.clone().try_fold(self.offset, |at, (&dim, &stride)| at.checked_add((dim - 1).checked_mul(stride)?));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size)).ok_or_else(past)?;
        if end > bytes.len() || numbers > self.storage.numbers {
            return Err(past());
        }
        *left = left.checked_sub(numbers * size).ok_or_else(too_much)?;
        let contiguous = {
            let mut expected = 1;
            steps.rev().all(|(&dim, &stride)| {
                let fits = dim == 1 || stride == expected;
                expected *= dim;
                fits
            })
        };
        if contiguous {
            return Ok(bytes[self.offset * size..][..numbers * size].to_vec());
        }
        let mut gathered = Vec::with_capacity(numbers * size);
        let mut place = vec![0; self.shape.len()];
        for _ in 0..numbers {
            let at = self.offset + place.iter().zip(&self.stride).map(|(i, stride)| i * stride).sum::<usize>();
            gathered.extend_from_slice(&bytes[at * size..][..size]);
            for (i, &dim) in place.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < dim {
                    break;
                }
                *i = 0;
            }
        }
        Ok(gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::{ZipWriter, write::SimpleFileOptions};

    /// The same state dict in both forms: see `make_torch_files.py` beside them.
    const FILES: [&[u8]; 2] =
        [include_bytes!("../../tests/fixtures/zip.pth"), include_bytes!("../../tests/fixtures/legacy.pth")];

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        for file in FILES {
            assert!(is_torch_file(file));
            let tensors = read(file).unwrap();
            let expected: [(&str, &[usize], &[f32]); 8] = [
                ("bfloat", &[2], &[0.5, -2.]),
                ("double", &[], &[3.5]),
                ("empty", &[0, 3], &[]),
                ("half", &[2], &[0.5, -2.]),
                ("parameter", &[1, 1], &[7.]),
                ("tail", &[2], &[1., 1.25]),
                ("turned", &[3, 2], &[0., 0.75, 0.25, 1., 0.5, 1.25]),
                ("weight", &[2, 3], &[0., 0.25, 0.5, 0.75, 1., 1.25]),
            ];
            assert_eq!(tensors.len(), expected.len(), "{:?}", tensors.keys());
            for ((name, tensor), (expected_name, shape, expected)) in tensors.iter().zip(expected) {
                assert_eq!((name.as_str(), tensor.dims(), tensor.dtype()), (expected_name, shape, DType::F32));
                assert_eq!(values(tensor), expected, "{name}");
            }
        }
    }

    #[test]
    fn cut_off_files_are_refused_and_damaged_ones_end_nothing() {
        let [zip, legacy] = FILES;
        for len in LEGACY.len()..legacy.len() {
            assert!(read(&legacy[..len]).is_err(), "the first {len} bytes of {}", legacy.len());
        }
        for len in (ZIP.len()..zip.len()).step_by(7) {
            assert!(read(&zip[..len]).is_err(), "the first {len} bytes of {}", zip.len());
        }
        for file in FILES {
            for at in LEGACY.len()..file.len() {
                for byte in [0, b'.', 0xff, file[at] ^ 1] {
                    let mut damaged = file.to_vec();
                    damaged[at] = byte;
                    // Other numbers may be read, where they are stored without a checksum; it must not panic.
                    _ = read(&damaged);
                }
            }
        }
    }

    fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    fn counts(counts: &[i32]) -> Vec<u8> {
        let each = counts.iter().flat_map(|n| [b"J".as_slice(), &n.to_le_bytes()].concat());
        [b"(".to_vec(), each.collect(), b"t".to_vec()].concat()
    }

    /// A file of before 1.6 whose pickle is `object`, with the six numbers of storage "0".
    fn legacy(object: &[u8]) -> Vec<u8> {
        let system = [b"}(".to_vec(), text("little_endian"), b"\x88u.".to_vec()].concat();
        let keys = [b"](".to_vec(), text("0"), b"e.".to_vec()].concat();
        let numbers = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        [LEGACY.to_vec(), b"M\xe9\x03.".to_vec(), system, object.to_vec(), keys, 6i64.to_le_bytes().to_vec(), numbers]
            .concat()
    }

    /// A state dict of views of storage "0": name, offset, shape and stride of each.
    fn state(views: &[(&str, i32, &[i32], &[i32])]) -> Vec<u8> {
        let view = |&(name, offset, shape, stride): &(&str, i32, &[i32], &[i32])| {
            let storage =
                [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), b"K\x06".to_vec()];
            [
                text(name),
                b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
                storage.concat(),
                b"tQ".to_vec(),
                [b"J".as_slice(), &offset.to_le_bytes()].concat(),
                counts(shape),
                counts(stride),
                b"tR".to_vec(),
            ]
            .concat()
        };
        [b"}(".to_vec(), views.iter().flat_map(view).collect(), b"u.".to_vec()].concat()
    }

    #[test]
    fn tensors_that_ask_for_more_than_is_stored_are_refused() {
        let tensors = read(&legacy(&state(&[("a", 1, &[2, 2], &[1, 2])]))).unwrap();
        assert_eq!(values(&tensors["a"]), [1., 3., 2., 4.]);
        let refused = |views: &[(&str, i32, &[i32], &[i32])]| read(&legacy(&state(views))).unwrap_err();
        let cases: [(i32, &[i32], &[i32]); 7] = [
            (1, &[6], &[1]),
            (-1, &[2], &[1]),
            (0, &[-2], &[1]),
            (0, &[2], &[6]),
            (0, &[1000, 1000], &[0, 0]),
            (0, &[i32::MAX, i32::MAX, i32::MAX], &[i32::MAX, 1, 1]),
            (0, &[2, 2], &[1]),
        ];
        for (offset, shape, stride) in cases {
            let error = refused(&[("a", offset, shape, stride)]);
            assert!(error.starts_with("a: "), "{error}");
        }
    }

    #[test]
    fn a_storage_that_many_tensors_name_counts_each_time() {
        // Three tensors of six numbers take 72 bytes.
        let pickle = state(&["a", "b", "c"].map(|name| (name, 0, &[6][..], &[1][..])));
        let pickle = Pickle::read(&mut pickle.as_slice()).unwrap();
        let within = |left| tensors(&pickle, |_| Some(&[0; 24]), left);
        assert_eq!(within(72).unwrap().len(), 3);
        assert_eq!(within(71).unwrap_err(), format!("c: {}", too_much()));
    }

    #[test]
    fn what_is_no_state_dict_is_named() {
        let model = read(&legacy(b"cmodels\nNet\n)\x81}b.")).unwrap_err();
        assert!(model.contains("whole model"), "{model}");
        let command = read(&legacy(b"cos\nsystem\nX\x04\0\0\0true\x85R.")).unwrap_err();
        assert!(command.contains("no state dict"), "{command}");
        let inside = [b"}(".to_vec(), text("epoch"), b"K\x03".to_vec(), text("state_dict")].concat();
        let dict = state(&[("a", 0, &[6], &[1])]);
        let nested = [inside, dict[..dict.len() - 1].to_vec(), b"u.".to_vec()].concat();
        assert_eq!(read(&legacy(&nested)).unwrap().keys().collect::<Vec<_>>(), ["a"]);

        let zip = |entries: &[(&str, &[u8])]| {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            for (name, bytes) in entries {
                writer.start_file(*name, SimpleFileOptions::default()).unwrap();
                writer.write_all(bytes).unwrap();
            }
            read(&writer.finish().unwrap().into_inner()).unwrap_err()
        };
        assert!(zip(&[("images/a.png", b"")]).contains("no data.pkl"));
        assert!(zip(&[("x/data.pkl", b"}."), ("x/code/net.py", b"")]).contains("TorchScript"));
        assert!(zip(&[("x/data.pkl", b"}."), ("x/byteorder", b"big")]).contains("little-endian"));
        let missing = zip(&[("x/data.pkl", &state(&[("a", 0, &[6], &[1])]))]);
        assert!(missing.contains("data/0"), "{missing}");
        let long = vec![b'N'; MAX_PICKLE as usize + 1];
        assert!(zip(&[("x/data.pkl", &long)]).contains("at most"));
    }
}
