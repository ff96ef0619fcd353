//! What a FOCUS file says about itself: the metadata that the specification wants beside the data.
//!
//! Who made it, by which schema, and each column's type. Of ours: the hours that it is of, and whether they may
//! still change. The moment at which a file is made is not in it, so that the same rows are the same bytes.
//!
//! Source: FOCUS 1.2, "Metadata", objects Data Generator and Schema.

use serde::Serialize;
use wharf_shared::time::Timestamp;

use super::{columns, schema::Kind};
use crate::parquet::{COST_SCALE, NUMBER_SCALE};

/// The schema's id. Another set of columns, or another type of one, is another id.
pub const SCHEMA_ID: &str = "9ab9b781-cdb7-453e-8b9f-7da9f1240ead";
/// When that schema was made.
pub const SCHEMA_CREATED: &str = "2026-11-29T00:00:00Z";
/// The version of FOCUS.
pub const FOCUS_VERSION: &str = "1.2";

/// A file's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    data_generator: DataGenerator,
    schema: Schema,
    #[serde(rename = "x_PeriodStart")]
    period_start: Timestamp,
    #[serde(rename = "x_PeriodEnd")]
    period_end: Timestamp,
    #[serde(rename = "x_PeriodStatus")]
    period_status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DataGenerator {
    data_generator: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Schema {
    #[serde(rename = "SchemaId")]
    id: &'static str,
    focus_version: &'static str,
    creation_date: &'static str,
    data_generator_version: &'static str,
    column_definition: Vec<ColumnDefinition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ColumnDefinition {
    column_name: &'static str,
    data_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    numeric_precision: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number_scale: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_encoding: Option<&'static str>,
}

/// Of which hours a file is: `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First hour.
    pub from: Timestamp,
    /// The hour after the last.
    pub to: Timestamp,
    /// Whether what is in it may still change.
    pub is_provisional: bool,
}

impl Metadata {
    /// Of a file of these hours.
    pub fn new(period: Period) -> Self {
        Self {
            data_generator: DataGenerator { data_generator: "Wharfage" },
            schema: Schema {
                id: SCHEMA_ID,
                focus_version: FOCUS_VERSION,
                creation_date: SCHEMA_CREATED,
                data_generator_version: env!("CARGO_PKG_VERSION"),
                column_definition: columns().into_iter().map(definition).collect(),
            },
            period_start: period.from,
            period_end: period.to,
            period_status: if period.is_provisional { "provisional" } else { "final" },
        }
    }

    /// As JSON.
    ///
    /// # Errors
    ///
    /// None but what `serde_json` has for values of other types than these.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

fn definition((column_name, kind): (&'static str, Kind)) -> ColumnDefinition {
    let (data_type, number_scale) = match kind {
        Kind::Text => ("STRING", None),
        Kind::Json => ("JSON", None),
        Kind::Time => ("DATETIME", None),
        Kind::Number => ("DECIMAL", Some(NUMBER_SCALE)),
        Kind::Cost => ("DECIMAL", Some(COST_SCALE)),
    };
    ColumnDefinition {
        column_name,
        data_type,
        numeric_precision: number_scale.map(|_| crate::parquet::DIGITS.unsigned_abs()),
        number_scale,
        string_encoding: matches!(kind, Kind::Text | Kind::Json).then_some("UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn metadata() -> Metadata {
        Metadata::new(Period { from: Timestamp(0), to: Timestamp(3_600_000_000), is_provisional: true })
    }

    #[test]
    fn it_names_its_maker_its_version_and_every_column() {
        let value: serde_json::Value =
            serde_json::from_str(&metadata().to_json().expect("JSON")).expect("JSON");
        assert_eq!(value["DataGenerator"]["DataGenerator"], "Wharfage");
        assert_eq!(value["Schema"]["FocusVersion"], "1.2");
        let definitions = value["Schema"]["ColumnDefinition"].as_array().expect("columns");
        assert!(
            definitions.iter().map(|of| of["ColumnName"].as_str()).eq(columns().iter().map(|of| Some(of.0)))
        );
        let cost = definitions.iter().find(|of| of["ColumnName"] == "BilledCost").expect("a cost");
        let of_cost = ["DataType", "NumericPrecision", "NumberScale"].map(|key| cost[key].to_string());
        assert_eq!(of_cost, ["\"DECIMAL\"", "38", "30"]);
        assert_eq!(
            (&value["x_PeriodStatus"], &value["x_PeriodEnd"]),
            (&"provisional".into(), &"1970-01-01T01:00:00Z".into())
        );
    }

    #[test]
    fn other_columns_are_a_schema_with_another_id() {
        let definitions = serde_json::to_string(&metadata().schema.column_definition).expect("JSON");
        let digest = hex::encode(Sha256::digest(definitions));
        // Who changes columns makes a new id and a new date, and then this.
        let known = (
            "9ab9b781-cdb7-453e-8b9f-7da9f1240ead",
            "fc5bfbe9771f1a9fa599a4ab22db0913deac15087cdb045e8dda79cfe5220509",
        );
        assert_eq!((SCHEMA_ID, digest.as_str()), known);
    }
}
