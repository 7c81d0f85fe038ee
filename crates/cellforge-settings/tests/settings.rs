//! Settings of made-up structs of every form that the project's own have.

use cellforge_settings::{
    JsonSchema, Kind, Layer, Range, Renamed, assemble, assignment, check, list, markdown, to_toml,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct All {
    /// Everything random comes from this.
    #[schemars(range(max = 9_007_199_254_740_992u64))]
    seed: u64,
    /// Side of the images.
    #[schemars(extend("enum" = [32, 64, 128]))]
    pixels: usize,
    /// A network
    /// and how it is trained.
    gan: Gan,
    /// Shares of it.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    fractions: Vec<f64>,
    /// Trainings, in order.
    runs: Vec<Run>,
}

/// A training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Gan {
    /// Learning rate.
    ///
    /// More of it.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    lr: f64,
    /// The other's, if it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    discriminator_lr: Option<f64>,
    /// Images in an update.
    #[schemars(range(min = 1, max = 4096))]
    batch: usize,
    /// Which loss.
    loss: Loss,
    /// How it is optimised.
    optimizer: Optimizer,
    /// A fact, not a setting.
    #[schemars(skip)]
    side: usize,
    /// Several facts.
    #[schemars(skip)]
    facts: Facts,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Facts {
    one: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Loss {
    /// One.
    Logistic,
    /// Another.
    Hinge,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Optimizer {
    /// Descent.
    Sgd {
        /// Share of the last update.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        momentum: f64,
    },
    /// Adam.
    Adam,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Run {
    /// Its name.
    name: String,
    /// How often.
    #[schemars(range(min = 1, max = 9))]
    times: u64,
}

impl Default for All {
    fn default() -> Self {
        let runs = vec![Run { name: "first".into(), times: 1 }];
        Self { seed: 1, pixels: 64, gan: Gan::default(), fractions: vec![0.5, 1.0], runs }
    }
}

impl Default for Gan {
    fn default() -> Self {
        Self {
            lr: 1.5e-4,
            discriminator_lr: None,
            batch: 32,
            loss: Loss::Logistic,
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            side: 64,
            facts: Facts::default(),
        }
    }
}

const RENAMED: &Renamed = &[
    ("gan.loss = \"wasserstein\"", "write gan.loss = \"hinge\""),
    ("runs.count", "runs.times"),
    ("gan.rate", "gan.lr"),
    ("old.rate", "gan.lr"),
    ("gan.side", "the side is that of the images"),
];

fn set(texts: &[&str]) -> Result<All, String> {
    let layers: Vec<Layer> = texts.iter().map(|text| Layer::new("--set", assignment(text).unwrap())).collect();
    assemble(&layers, RENAMED).map_err(|error| error.to_string())
}

#[test]
fn every_field_is_listed_with_what_stands_at_it() {
    let found = list::<All>();
    let keys: Vec<&str> = found.iter().map(|setting| setting.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "fractions",
            "gan.batch",
            "gan.discriminator_lr",
            "gan.loss",
            "gan.lr",
            "gan.optimizer.kind",
            "gan.optimizer.momentum",
            "pixels",
            "runs",
            "seed"
        ]
    );
    let of = |key: &str| found.iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(of("gan.lr").summary(), "Learning rate.");
    assert_eq!(of("gan.lr").default_text(), "1.5e-4");
    assert_eq!(of("gan.lr").values(), "number, above 0");
    assert_eq!(of("gan.batch").range, Range { min: Some(1.into()), max: Some(4096.into()), ..Range::default() });
    assert_eq!(of("gan.discriminator_lr").kind, Kind::Optional(Box::new(Kind::Number)));
    assert_eq!(of("gan.discriminator_lr").default_text(), "none");
    assert_eq!(of("gan.loss").kind, Kind::Choice(vec!["logistic".into(), "hinge".into()]));
    assert_eq!(of("gan.optimizer.kind").kind, Kind::Choice(vec!["sgd".into(), "adam".into()]));
    assert_eq!(of("gan.optimizer.kind").summary(), "How it is optimised.");
    assert_eq!(of("gan.optimizer.momentum").values(), "number, from 0 to below 1");
    assert_eq!(of("seed").default, json!(1));
    assert_eq!(of("seed").values(), "whole number, from 0 to 9007199254740992");
    assert_eq!(of("pixels").kind, Kind::Numbers(vec![32, 64, 128]));
    assert_eq!(of("pixels").values(), "32, 64 or 128");
    assert_eq!(of("fractions").values(), "list of number, each from 0 to 1");
    assert_eq!(of("gan.discriminator_lr").values(), "number, above 0, or none");
    assert_eq!(of("runs").values(), "list of tables of name (text), times (whole number, from 1 to 9)");
}

#[test]
fn a_value_set_is_read_back() {
    let values = [
        ("seed", "7"),
        ("fractions", "[0.25]"),
        ("gan.batch", "8"),
        ("gan.discriminator_lr", "0.5"),
        ("gan.loss", "\"hinge\""),
        ("gan.lr", "2.0"),
        ("gan.optimizer.kind", "\"adam\""),
        ("gan.optimizer.momentum", "0.5"),
        ("pixels", "32"),
        ("runs", "[]"),
    ];
    assert_eq!(values.len(), list::<All>().len());
    for (setting, (key, value)) in list::<All>().iter().zip({
        let mut sorted = values;
        sorted.sort_by_key(|(key, _)| *key);
        sorted
    }) {
        assert_eq!(setting.key, key);
        let by_flag = set(&[&format!("{key}={value}")]).unwrap();
        let by_file: All = assemble(&[Layer::parse("file", &format!("{key} = {value}")).unwrap()], &[]).unwrap();
        assert_eq!(by_flag, by_file);
        let again: All = assemble(&[Layer::parse("saved", &to_toml(&by_flag).unwrap()).unwrap()], &[]).unwrap();
        assert_eq!(again, by_flag, "{key}");
        assert_eq!(setting.value_in(&by_flag), serde_json::from_str::<serde_json::Value>(value).unwrap());
    }
}

#[test]
fn later_layers_win_and_words_need_no_quotes() {
    let found = set(&["gan.loss=hinge", "gan.batch=8", "gan.batch=16", "gan.discriminator_lr=0.1"]).unwrap();
    assert_eq!((found.gan.loss, found.gan.batch, found.gan.discriminator_lr), (Loss::Hinge, 16, Some(0.1)));
    let found = set(&["gan.discriminator_lr=0.1", "gan.discriminator_lr=none"]).unwrap();
    assert_eq!(found.gan.discriminator_lr, None);
    // An integer is a number, and Adam has none of the momentum below it.
    let found = set(&["gan.lr=2", "gan.optimizer.kind=adam"]).unwrap();
    assert_eq!((found.gan.lr, found.gan.optimizer), (2.0, Optimizer::Adam));
    assert_eq!(set(&["gan.optimizer.momentum=0.5"]).unwrap().gan.optimizer, Optimizer::Sgd { momentum: 0.5 });
}

#[test]
fn what_is_wrong_is_named() {
    for (text, words) in [
        ("gan.btach=8", "--set: there is no setting gan.btach; did you mean gan.batch?"),
        ("gn.batch=8", "did you mean gan.batch?"),
        ("batch=8", "did you mean gan.batch?"),
        ("xyz=8", "there is no setting xyz"),
        ("gan.rate=8", "gan.rate is of an earlier version: write gan.lr"),
        ("gan.side=8", "gan.side is of an earlier version: the side is that of the images"),
        ("gan.batch=many", "gan.batch cannot be \"many\": it takes whole number, from 1 to 4096"),
        ("gan.loss=wgan", "gan.loss cannot be \"wgan\": it takes logistic, hinge"),
        ("gan.batch=0", "--set: gan.batch is 0: it must be from 1 to 4096"),
        ("gan.lr=0", "gan.lr is 0: it must be above 0"),
        (
            "gan.optimizer={kind=\"adam\",momentum=0.5}",
            "gan.optimizer.momentum cannot be 0.5: gan.optimizer.kind is \"adam\", which has no momentum",
        ),
        ("old={rate=8}", "old.rate is of an earlier version: write gan.lr"),
        ("gan.lr=nan", "gan.lr is not finite (NaN): it must be a finite number"),
        ("gan.discriminator_lr=-1", "gan.discriminator_lr is -1: it must be above 0"),
        ("gan.optimizer.momentum=1", "gan.optimizer.momentum is 1: it must be from 0 to below 1"),
        ("gan=3", "gan cannot be 3: it is a table of settings, such as gan.batch"),
        ("seed=-1", "seed cannot be -1: it takes whole number, from 0 to 9007199254740992"),
        // As floating-point numbers, the first would be the bound itself; the second is none that TOML has.
        ("seed=9007199254740993", "seed is 9007199254740993: it must be from 0 to 9007199254740992"),
        ("seed=18446744073709551616", "seed cannot be \"18446744073709551616\": it takes whole number, from 0 to"),
        ("pixels=48", "--set: pixels is 48: it must be 32, 64 or 128"),
        ("fractions=[0.5, 2.0]", "--set: fractions[1] is 2: it must be from 0 to 1"),
        ("gan.loss=wasserstein", "gan.loss = \"wasserstein\" is of an earlier version: write gan.loss = \"hinge\""),
        ("runs=[{name=\"a\",count=1}]", "--set: runs[0].count is of an earlier version: write runs.times"),
        ("runs=[{name=\"a\",tims=1}]", "--set: there is no setting runs[0].tims; did you mean runs[0].times?"),
        ("runs=[{name=\"a\",times=10}]", "--set: runs[0].times is 10: it must be from 1 to 9"),
        ("runs=[{name=\"a\",times=\"x\"}]", "--set: runs[0].times cannot be \"x\": it takes whole number, from 1 to 9"),
        ("runs=[{times=1}]", "--set: runs[0] cannot be { times = 1 }: missing field `name`"),
    ] {
        let error = set(&[text]).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(!set(&["xyz=8"]).unwrap_err().contains("did you mean"));
    for text in ["gan.batch", "=3", "gan..batch=3", "a b=3"] {
        assert!(assignment(text).unwrap_err().to_string().contains("KEY=VALUE"), "{text}");
    }
    let file = Layer::parse("my.toml", "[gan\n").unwrap_err().to_string();
    assert!(file.starts_with("my.toml is not valid TOML"), "{file}");
}

#[test]
fn ranges_are_those_of_values_too() {
    let mut all = All::default();
    check(&all, "").unwrap();
    all.gan.lr = f64::INFINITY;
    assert_eq!(
        check(&all, "study").unwrap_err().to_string(),
        "study.gan.lr is not finite (inf): it must be a finite number"
    );
}

#[test]
fn a_page_has_a_table_for_each_table() {
    let page = markdown::<All>();
    assert!(page.contains("\n## Outside all tables\n"), "{page}");
    assert!(page.contains("\n## `[gan.optimizer]`\n"), "{page}");
    assert!(page.contains("| `lr` | `1.5e-4` | number, above 0 | Learning rate. |"), "{page}");
}

/// A text of which the schema alone says what it may be, as the names of recipes.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Named {
    /// A recipe.
    #[schemars(extend("enum" = ["", "study", "best"]))]
    recipe: String,
}

#[test]
fn a_choice_that_is_none_is_refused_where_the_type_is_a_text() {
    let set = |text: &str| assemble::<Named>(&[Layer::new("--set", assignment(text).unwrap())], &[]);
    assert_eq!(set("recipe=best").unwrap().recipe, "best");
    let error = set("recipe=bset").unwrap_err().to_string();
    assert!(error.contains("recipe is \"bset\"") && error.contains("study, best"), "{error}");
}
