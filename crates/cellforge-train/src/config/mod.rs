//! The settings of trainings. Each is defined once, here or in the struct of the network it belongs to.

mod classifier;
mod gan;
mod recipe;

pub use classifier::ClassifierTrainConfig;
pub use gan::{Dihedral, GanTrainConfig};
pub use recipe::{CLASSIFIER_RECIPES, GAN_RECIPES, Recipe};

use serde_json::Value;

/// What settings of GANs were called in checkpoints of format 2 and before, below `config`.
const GAN_RENAMED: &[(&str, &str)] = &[
    ("cooldown", "lr_decay"),
    ("joint", "joint_update"),
    ("any_orientation", "dihedral"),
    ("average", "ema_decay"),
    ("accumulate", "accumulation_steps"),
    ("model.leak", "model.negative_slope"),
    ("augment.chance", "augment.p"),
    ("augment.target", "augment.ada_target"),
    ("augment.rise", "augment.ada_speed"),
];

/// Brings the `config` of a checkpoint of format 2 or before to today's names.
pub(crate) fn migrate(kind: &str, config: &mut Value) {
    if kind == "gan" {
        for (old, new) in GAN_RENAMED {
            rename(config, old, new);
        }
        // There was a guard where there were settings of one.
        if let Some(guard) = config.get_mut("guard").and_then(Value::as_object_mut) {
            guard.insert("enabled".to_owned(), Value::Bool(true));
        }
        let several = config.pointer("/model/classes").and_then(Value::as_u64).is_some_and(|classes| classes > 1);
        if let Some(config) = config.as_object_mut() {
            config.insert("conditional".to_owned(), Value::Bool(several));
        }
    }
    // There were random changes where there were settings of them.
    if kind == "classifier" && config.get("augment").is_none_or(Value::is_null) {
        let none = serde_json::to_value(cellforge_data::Augment::NONE).unwrap_or_default();
        if let Some(config) = config.as_object_mut() {
            config.insert("augment".to_owned(), none);
        }
    }
}

/// Moves the value at one dotted name, if there is one, to another in the same table.
fn rename(config: &mut Value, old: &str, new: &str) {
    let (table, old) = old.rsplit_once('.').unwrap_or(("", old));
    let new = new.rsplit_once('.').map_or(new, |(_, new)| new);
    let table = if table.is_empty() { Some(config) } else { config.get_mut(table) };
    if let Some(table) = table.and_then(Value::as_object_mut)
        && let Some(value) = table.remove(old)
    {
        table.insert(new.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuardConfig;

    #[test]
    fn settings_have_ranges() {
        let with = |guard| GanTrainConfig { guard, ..GanTrainConfig::default() };
        with(GuardConfig::default()).validate().unwrap();
        for (guard, field) in [
            (GuardConfig { limit: f64::NAN, ..GuardConfig::default() }, "gan.guard.limit"),
            (GuardConfig { factor: 1.0, ..GuardConfig::default() }, "gan.guard.factor"),
            (GuardConfig { recall: 1.0, ..GuardConfig::default() }, "gan.guard.recall"),
        ] {
            assert!(with(guard.clone()).validate().unwrap_err().to_string().starts_with(field), "{guard:?}");
        }
    }

    #[test]
    fn settings_of_old_checkpoints_get_todays_names() {
        let mut old = serde_json::json!({
            "model": {"classes": 2, "leak": 0.1, "generator": "style", "discriminator": "residual"},
            "cooldown": 0.5, "joint": true, "any_orientation": true, "average": 0.9, "accumulate": 2,
            "augment": {"chance": 0.5, "target": 0.6, "rise": 7}, "guard": {"limit": 9.0},
        });
        migrate("gan", &mut old);
        let found: GanTrainConfig = serde_json::from_value(old).unwrap();
        assert_eq!((found.lr_decay, found.joint_update, found.dihedral), (0.5, true, Dihedral::On));
        assert_eq!((found.ema_decay, found.accumulation_steps, found.model.negative_slope), (0.9, 2, 0.1));
        assert_eq!((found.augment.p, found.augment.ada_target, found.augment.ada_speed), (0.5, Some(0.6), 7));
        assert!(found.guard.enabled && found.conditional);
        assert_eq!(found.guard.limit, 9.0);

        let mut plain = serde_json::json!({"iterations": 3});
        migrate("gan", &mut plain);
        let found: GanTrainConfig = serde_json::from_value(plain).unwrap();
        assert!(!found.guard.enabled && !found.conditional);

        let mut classifier = serde_json::json!({"epochs": 3, "augment": null});
        migrate("classifier", &mut classifier);
        let found: ClassifierTrainConfig = serde_json::from_value(classifier).unwrap();
        assert_eq!(found.augment, cellforge_data::Augment::NONE);
    }
}
