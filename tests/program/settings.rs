//! Every setting by every way: a file, `--set`, what is saved, and the verbs that take it.

use std::{collections::BTreeSet, fs, path::Path};

use crate::common::{cellforge, folder};
use cellforge::{
    settings::{Kind, Layer, Setting, assignment, list},
    study::{Preset, StudyConfig},
    train::{CLASSIFIER_RECIPES, Checkpoint, GAN_RECIPES, Snapshot, State},
};
use predicates::{prelude::*, str::contains};
use serde_json::Value as Json;
use toml::Value;

fn settings() -> Vec<Setting> {
    list::<StudyConfig>()
}

/// A value other than the default that the setting may have.
fn another(setting: &Setting) -> Value {
    value(setting, &setting.kind).unwrap_or_else(|| panic!("{} has no other value: {}", setting.key, setting.values()))
}

fn value(setting: &Setting, kind: &Kind) -> Option<Value> {
    let default = &setting.default;
    let other = |value: f64| {
        // A whole number as one, for its range is held exactly.
        let number =
            if value.fract() == 0.0 { Some((value as i64).into()) } else { serde_json::Number::from_f64(value) };
        number.is_some_and(|number| setting.range.contains(&number)) && default.as_f64() != Some(value)
    };
    let near = default.as_f64().unwrap_or(0.0);
    match kind {
        Kind::Bool => Some(Value::Boolean(default != &Json::Bool(true))),
        Kind::Integer => {
            [near + 1.0, near - 1.0, 1.0, 2.0].into_iter().find(|n| other(*n)).map(|n| Value::Integer(n as i64))
        }
        Kind::Number => [near / 2.0, near + 0.5, 0.5, 0.25].into_iter().find(|x| other(*x)).map(Value::Float),
        Kind::Text => Some(Value::String("other words".to_owned())),
        Kind::Choice(words) => {
            words.iter().find(|word| default.as_str() != Some(word)).map(|word| Value::String(word.clone()))
        }
        Kind::Numbers(numbers) => numbers
            .iter()
            .find(|number| default.as_u64() != Some(**number))
            .map(|number| Value::Integer(*number as i64)),
        Kind::Size => Some(Value::String("320x240".to_owned())),
        Kind::Optional(kind) => value(setting, kind),
        Kind::List(kind) => {
            let entry = match kind.as_ref() {
                Kind::Table(_) => {
                    let entry = match setting.key.as_str() {
                        "beside" => "entry = { recipe = \"best\", iterations = 3, batch = 4, width = 0.5 }",
                        _ => "entry = { recipe = \"cnn-2\", epochs = 3 }",
                    };
                    entry.parse::<toml::Table>().unwrap()["entry"].clone()
                }
                kind => value(setting, kind)?,
            };
            Some(Value::Array(vec![entry]))
        }
        Kind::Table(_) => None,
    }
}

/// What has to be set beside a setting that only some kinds of a table have: `model.kind`, for `model.dense`.
fn beside(setting: &Setting, all: &[Setting]) -> Vec<String> {
    if layered(&[set(&format!("{}={}", setting.key, another(setting)))]).is_ok() {
        return Vec::new();
    }
    let table = setting.key.rsplit_once('.').map_or("", |(table, _)| table);
    let kind = all.iter().find(|other| other.key == format!("{table}.kind"));
    let Some(Setting { kind: Kind::Choice(words), key, .. }) = kind else {
        panic!("{} cannot be {}", setting.key, another(setting));
    };
    let good = words
        .iter()
        .map(|word| format!("{key}={word}"))
        .find(|kind| layered(&[set(kind), set(&format!("{}={}", setting.key, another(setting)))]).is_ok());
    vec![good.unwrap_or_else(|| panic!("{} can be set with no kind", setting.key))]
}

fn set(text: &str) -> Layer {
    Layer::new("--set", assignment(text).unwrap())
}

fn layered(layers: &[Layer]) -> Result<StudyConfig, Box<cellforge::study::Error>> {
    StudyConfig::layered(layers, None).map_err(Box::new)
}

fn json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap()
}

/// Whether two values are the same: 1 and 1.0 are.
fn same(a: &Json, b: &Json) -> bool {
    a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64())
}

#[test]
fn a_file_and_set_say_the_same_and_it_is_saved() {
    let dir = folder("settings/saved");
    let all = settings();
    assert!(all.len() > 120, "{} settings", all.len());
    for setting in &all {
        let (key, value) = (&setting.key, another(setting));
        let beside = beside(setting, &all);
        let texts: Vec<String> = beside.iter().cloned().chain([format!("{key}={value}")]).collect();
        let by_set = layered(&texts.iter().map(|text| set(text)).collect::<Vec<_>>()).unwrap();
        // In a file, as dotted keys and as nested tables.
        let lines = beside.iter().map(|text| {
            let (key, word) = text.split_once('=').unwrap();
            format!("{key} = \"{word}\"\n")
        });
        let dotted = lines.collect::<String>() + &format!("{key} = {value}\n");
        let nested = toml::to_string(&dotted.parse::<toml::Table>().unwrap()).unwrap();
        for text in [dotted, nested] {
            assert_eq!(layered(&[Layer::parse("file", &text).unwrap()]).unwrap(), by_set, "{text}");
        }
        assert!(same(&setting.value_in(&by_set), &json(&value)), "{key}: {}", setting.value_in(&by_set));
        assert_ne!(by_set, StudyConfig::default(), "{key} changes nothing");
        let saved = by_set.to_toml().unwrap();
        assert_eq!(layered(&[Layer::parse("saved", &saved).unwrap()]).unwrap(), by_set, "{key}: {saved}");

        // Where a checkpoint has it.
        let path = format!("/config/{}", key.replace('.', "/"));
        let state = match key.split('.').next() {
            Some("gan") => state_json(&dir, "gan", by_set.gan),
            Some("classifier") => state_json(&dir, "classifier", by_set.classifier),
            _ => continue,
        };
        assert!(state.pointer(&path).is_some_and(|found| same(found, &json(&value))), "{key}: {state}");
    }
}

/// What the `state.json` of a checkpoint says.
fn state_json<C: serde::Serialize + Clone>(dir: &Path, kind: &str, config: C) -> Json {
    let state = State::new(kind, 1, vec!["a".to_owned(), "b".to_owned()], "images".to_owned(), config);
    let path = dir.join("checkpoint");
    let _ = fs::remove_dir_all(&path);
    Checkpoint::write(&path, &Snapshot::default(), &state).unwrap();
    serde_json::from_slice(&fs::read(path.join("state.json")).unwrap()).unwrap()
}

/// All settings at once, as far as they go together: for each kind of a table, those that it has.
fn together() -> Vec<Vec<String>> {
    let all = settings();
    let mut with_none = Vec::new();
    let mut others = Vec::new();
    for setting in &all {
        let text = format!("{}={}", setting.key, another(setting));
        let beside = beside(setting, &all);
        let is_kind = setting.key.ends_with(".kind");
        if beside.is_empty() && !is_kind {
            with_none.push(text);
        } else {
            others.push(beside.into_iter().chain([text]).collect());
        }
    }
    let calls: Vec<Vec<String>> = [with_none].into_iter().chain(others).collect();
    let named: BTreeSet<&str> = calls.iter().flatten().filter_map(|text| Some(text.split_once('=')?.0)).collect();
    assert!(all.iter().all(|setting| named.contains(setting.key.as_str())));
    calls
}

/// Each verb takes them all, and fails for a reason that it comes to right after: there is no such device.
#[test]
fn every_verb_takes_every_setting() {
    let dir = folder("settings/verbs");
    for texts in together() {
        let fails = |verb: &[&str], reason: &str| {
            let mut command = cellforge();
            // A split is of images that are not named one by one.
            let fits = |text: &&String| verb[0] != "evaluate" || !text.starts_with("inputs.split=");
            let sets = texts.iter().filter(fits).flat_map(|text| ["--set", text]);
            command.args(verb).args(["--device", "cuda:99"]).args(sets);
            // What these verbs need before they open the device.
            command.args(["--set", "inputs.features=pixels"]).current_dir(&dir);
            let is_of_a_key = contains("there is no setting").or(contains("cannot be")).or(contains("must be"));
            command.assert().code(1).stderr(contains(reason).and(is_of_a_key.not()));
        };
        fails(&["train", "gan", "--out", "run"], "CUDA");
        fails(&["train", "classifier", "--out", "run"], "CUDA");
        fails(&["evaluate", "--set", "inputs.real=real", "--set", "inputs.synthetic=made"], "CUDA");
        // A study finds its inputs itself, and says so first.
        fails(&["reproduce", "--out", "run"], "setting inputs: are found by the study itself");
    }
    assert!(!dir.join("run").exists());
}

#[test]
fn what_is_wrong_is_told_with_what_is_meant() {
    let dir = folder("settings/wrong");
    let file = dir.join("my.toml");
    let cases: &[(&str, &str, &[&str])] = &[
        ("gan.itterations", "3", &["there is no setting gan.itterations", "did you mean gan.iterations?"]),
        ("gna.r1", "3", &["there is no setting gna.r1", "did you mean gan.r1?"]),
        ("gan.r1", "-1", &["gan.r1 is -1", "it must be 0 or more"]),
        ("gan.ema_decay", "1.0", &["gan.ema_decay is 1", "from 0 to below 1"]),
        ("gan.batch", "\"many\"", &["gan.batch cannot be", "whole number, from 1 to 4096"]),
        ("gan.loss", "\"wgan\"", &["gan.loss cannot be", "logistic"]),
        ("gan.recipe", "\"bset\"", &["gan.recipe is \"bset\"", "study, best"]),
        ("preset", "\"huge\"", &["preset cannot be", "smoke, quick, paper, best"]),
        ("gan.average", "0.9", &["gan.average is of an earlier version", "write gan.ema_decay"]),
        ("gan.model.leak", "0.1", &["gan.model.leak is of an earlier version", "write gan.model.negative_slope"]),
        ("resnet.width", "0.5", &["resnet.width is of an earlier version", "write classifier.model.width"]),
        // A number of the size of a typing error.
        ("gan.batch", "100000000000", &["gan.batch is 100000000000", "from 1 to 4096"]),
        ("data.phantom.images_per_class", "100000000000", &["images_per_class is 100000000000", "from 1 to 100000"]),
        ("gan.model.generator_filters", "[100000000000]", &["generator_filters[0] is 100000000000", "from 1 to 4096"]),
        // As a floating-point number it would be the bound itself.
        ("seed", "9007199254740993", &["seed is 9007199254740993", "from 0 to 9007199254740992"]),
        ("data.side", "50", &["data.side is 50", "24, 28, 40, 56, or a multiple of 16 from 32 to 512"]),
        ("data.side", "\"64x50\"", &["data.side is \"64x50\"", "\"WIDTHxHEIGHT\""]),
        ("data.side", "\"wide\"", &["data.side", "\"wide\"", "\"WIDTHxHEIGHT\""]),
        ("data.channels", "2", &["data.channels is 2", "it must be 1 or 3"]),
        ("generate.truncation", "0.001", &["generate.truncation is 0.001", "it must be 0.01 or more"]),
        (
            "data.split_by",
            "\"cell\"",
            &["data.split_by = \"cell\" is of an earlier version", "write data.split_by = \"image\""],
        ),
        ("evaluate.fidelity", "true", &["evaluate.fidelity = true is of an earlier version", "evaluate.measure"]),
        (
            "cnn.runs",
            "[{ recipe = \"tuned\", model = 1 }]",
            &["cnn.runs[0].model is of an earlier version", "recipe = \"cnn-1\""],
        ),
        ("cnn.runs", "[{ recipe = \"tuned\", epochs = 1 }]", &["cnn.runs[0].recipe is \"tuned\"", "cnn-1, cnn-2"]),
        ("cnn.runs", "[{ recipe = \"cnn-1\", epochs = \"x\" }]", &["cnn.runs[0].epochs cannot be \"x\"", "from 1 to"]),
        ("cnn.runs", "[{ recipe = \"cnn-1\", epoch = 1 }]", &["cnn.runs[0].epoch", "did you mean cnn.runs[0].epochs?"]),
        ("cnn.runs", "[{ recipe = \"cnn-1\" }]", &["cnn.runs[0] cannot be { recipe = \"cnn-1\" }", "`epochs`"]),
        ("gan", "3", &["gan cannot be 3", "it is a table of settings, such as gan."]),
    ];
    for (key, value, words) in cases {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let told = |mut command: assert_cmd::Command, origin: &str, code: i32| {
            let assert = command.assert().code(code);
            let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
            assert!(said.contains(&format!("error: {origin}: ")), "{said}");
            assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        };
        for verb in
            [&["train", "gan", "--out", "x"][..], &["train", "classifier", "--out", "x"], &["evaluate"], &["reproduce"]]
        {
            // A wrong command line is 2, a wrong file is 1.
            let mut command = cellforge();
            command.args(verb).args(["--set", &format!("{key}={value}")]).current_dir(&dir);
            told(command, "--set", 2);
            fs::write(&file, format!("{key} = {value}\n")).unwrap();
            let mut command = cellforge();
            command.args(verb).args(["--config", "my.toml"]).current_dir(&dir);
            told(command, "my.toml", 1);
        }
    }
    for text in ["gan.batch", "=3", "gan..batch=3"] {
        cellforge().args(["reproduce", "--set", text]).assert().code(2).stderr(contains("KEY=VALUE"));
    }
    cellforge().args(["train", "gan", "--out", "x", "--batch", "0"]).assert().code(2).stderr(contains("--batch"));
    assert!(!dir.join("x").exists() && !dir.join("runs").exists());
}

/// Whole numbers have both ends, in lists and in tables of lists too, so that none of the size of a typing error is asked of memory; and
/// what is beyond an end is refused.
#[test]
fn whole_numbers_have_both_ends() {
    fn walk(key: &str, kind: &Kind, setting: &Setting, found: &mut usize) {
        match kind {
            Kind::Integer => {
                let (min, max) = (&setting.range.min, &setting.range.max);
                assert!(min.is_some() && max.is_some(), "{key}: {}", setting.values());
                *found += 1;
            }
            Kind::Optional(kind) | Kind::List(kind) => walk(key, kind, setting, found),
            Kind::Table(fields) => {
                fields.iter().for_each(|field| walk(&format!("{key}.{}", field.key), &field.kind, field, found));
            }
            _ => {}
        }
    }
    let (mut found, all) = (0, settings());
    for setting in &all {
        walk(&setting.key, &setting.kind, setting, &mut found);
        let Some(max) = setting.range.max.as_ref().and_then(serde_json::Number::as_i64) else { continue };
        let is_list = format!("{:?}", setting.kind).contains("List");
        let beyond = if is_list { format!("[{}]", max + 1) } else { (max + 1).to_string() };
        let mut layers: Vec<Layer> = beside(setting, &all).iter().map(|text| set(text)).collect();
        layers.push(set(&format!("{}={beyond}", setting.key)));
        let error = layered(&layers).unwrap_err().to_string();
        assert!(error.contains(&setting.key) && error.contains(&max.to_string()), "{error}");
    }
    assert!(found > 45, "{found}");
}

/// A folder or a class whose name looks like a number is a text all the same.
#[test]
fn texts_need_no_quotes() {
    let dir = folder("settings/texts");
    for args in [["--data", "2024"], ["--set", "data.path=2024"], ["--set", "data.path=\"2024\""]] {
        let mut command = cellforge();
        command.args(["train", "gan", "--out", "run", "--class", "7"]).args(args).current_dir(&dir);
        command.assert().code(1).stderr(contains("2024").and(contains("cannot be").not()));
    }
}

/// `docs/settings.md` is what the program says. To make it anew:
///
/// ```sh
/// cargo run --release -- config show --markdown > docs/settings.md
/// ```
#[test]
fn the_page_of_settings_is_up_to_date() {
    let made = cellforge().args(["config", "show", "--markdown"]).output().unwrap();
    assert!(made.status.success());
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md")).unwrap();
    let same = String::from_utf8(made.stdout).unwrap() == page.replace('\r', "");
    assert!(same, "make it anew: cargo run --release -- config show --markdown > docs/settings.md");
    for setting in settings() {
        let (table, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        assert!(page.contains(&format!("| `{name}` | `{}` |", setting.default_text())), "{}", setting.key);
        assert!(table.is_empty() || page.contains(&format!("\n## `[{table}]`\n")), "{table}");
    }
}

#[test]
fn settings_are_shown() {
    let show = |args: &[&str]| {
        let output = cellforge().args(["config", "show"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (all, of_gan, one) = (show(&[]), show(&["gan"]), show(&["gan.r1"]));
    let keys =
        |text: &str| text.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect::<Vec<_>>();
    let known: Vec<String> = settings().into_iter().map(|setting| setting.key).collect();
    assert_eq!(keys(&all), known);
    assert_eq!(all.lines().count(), known.len());
    assert_eq!(keys(&of_gan), known.iter().filter(|key| key.starts_with("gan.")).cloned().collect::<Vec<_>>());
    let r1 = settings().into_iter().find(|setting| setting.key == "gan.r1").unwrap();
    assert!(one.starts_with("gan.r1 = 0.0\n") || one.starts_with("gan.r1 = 0\n"), "{one}");
    assert!(one.contains("0 or more") && one.contains(r1.meaning.trim()), "{one}");
    // With settings, their values stand beside the defaults.
    assert!(show(&["gan.batch", "--set", "gan.batch=8"]).starts_with("gan.batch = 8 (default: 32)\n"));
    let file = folder("settings/shown").join("my.toml");
    fs::write(&file, "[gan]\nrecipe = \"best\"\n").unwrap();
    let of_file = show(&["gan", "--config", file.to_str().unwrap()]);
    assert!(of_file.contains("gan.recipe = \"best\" (default: \"study\")"), "{of_file}");
    assert!(of_file.contains("gan.joint_update = true (default: false)"), "{of_file}");
    assert!(of_file.contains("gan.guard.rollbacks = 3 "), "{of_file}");
    cellforge().args(["config", "show", "--markdown", "--set", "gan.batch=8"]).assert().code(1);
    // Every setting says what it means and what it may be.
    for setting in settings() {
        assert!(!setting.summary().is_empty() && !setting.values().is_empty(), "{}", setting.key);
    }
    for (key, said) in [
        ("gan.r9", "no setting gan.r9; did you mean gan.r"),
        ("gan.average", "gan.average is of an earlier version: write gan.ema_decay"),
    ] {
        cellforge().args(["config", "show", key]).assert().code(2).stderr(contains(said));
    }
}

#[test]
fn presets_and_recipes_are_in_the_help_and_in_completions() {
    let said = |args: &[&str]| {
        let output = cellforge().args(args).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let study = said(&["reproduce", "--help"]);
    for preset in Preset::ALL {
        let summary = preset.summary().trim_end_matches('.');
        assert!(study.contains(&format!("- {preset}: {summary}")), "{preset}: {study}");
    }
    let recipes = [("gan", GAN_RECIPES), ("classifier", CLASSIFIER_RECIPES)];
    for (verb, recipes) in recipes {
        let help = said(&["train", verb, "--help"]);
        for recipe in recipes {
            let summary = recipe.summary().trim_end_matches('.');
            assert!(help.contains(&format!("- {}: {summary}", recipe.name)), "{}: {help}", recipe.name);
        }
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for word in Preset::ALL
            .map(Preset::name)
            .into_iter()
            .chain(recipes.iter().flat_map(|(_, recipes)| recipes.iter().map(|recipe| recipe.name)))
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
