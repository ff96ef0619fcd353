//! Parquet: columns of texts, exact decimals and UTC times, written and read in pieces.
//!
//! The only module that knows the crate `parquet`, which the agent writes with and the command line reads
//! with; without its Arrow half, nothing of which is needed to write rows. A file is written in row groups of
//! [`GROUP_ROWS`], so that memory does not grow with the file.
//!
//! Numbers are decimals of 38 digits, which is what readers have (DECIMAL of `DuckDB`, decimal128 of Arrow).
//! Quantities and unit prices have 18 of them after the point. A cost is their product and has up to twice as
//! many, so costs have 30 and 8 before: 18 would round them. A number that does not fit is an error; CSV
//! and JSON lines have room for all.

use std::io::Write;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use parquet::basic::{
    Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, Decimal, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, FileReader as _};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::{ColumnDescriptor, Type, TypePtr};
use wharf_shared::time::Timestamp;

use crate::amount::Amount;
use crate::focus::schema::{self, Kind};
use crate::focus::value::Value;

/// Rows that are in memory at a time.
pub const GROUP_ROWS: usize = 8_192;
/// Digits of a decimal of 128 bits.
pub(crate) const DIGITS: i32 = 38;
/// Digits after the point of quantities and unit prices.
pub const NUMBER_SCALE: u32 = 18;
/// Digits after the point of costs.
pub const COST_SCALE: u32 = 30;
/// Where a file has its metadata: the key of the footer.
pub const METADATA_KEY: &str = "focus_metadata";

/// A file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BadParquet {
    /// The crate says why.
    #[error("the file is no Parquet, or a damaged one")]
    File(#[from] ParquetError),
    /// A number that the column has no room for.
    #[error(
        "{column} is {value}, but Parquet's decimal has {DIGITS} digits, {scale} of them after the point; \
             export it as CSV or JSON lines"
    )]
    TooLong {
        /// The column.
        column: String,
        /// The number.
        value: String,
        /// Digits after the point that there are.
        scale: u32,
    },
    /// A row that has other fields than the file.
    #[error("a row has {found} where the column {column} is {kind:?}")]
    Field {
        /// The column.
        column: String,
        /// What the column holds.
        kind: Kind,
        /// What the row has.
        found: String,
    },
    /// A column that no row of costs has.
    #[error("the column {column} is {found}, which this reader does not understand")]
    Column {
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
}

impl From<std::io::Error> for BadParquet {
    fn from(error: std::io::Error) -> Self {
        Self::File(ParquetError::External(Box::new(error)))
    }
}

// ---- writing ----

/// The values of one column that wait for their row group to be full.
#[derive(Debug)]
enum Waiting {
    Texts(Vec<ByteArray>),
    Numbers(Vec<FixedLenByteArray>, u32),
    Times(Vec<i64>),
}

#[derive(Debug)]
struct ColumnBuffer {
    name: String,
    kind: Kind,
    values: Waiting,
    /// 1 for each row with a value, 0 for each null.
    defined: Vec<i16>,
}

/// Writes a file.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<ColumnBuffer>,
    rows: usize,
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file with these columns.
    pub fn new(out: W, columns: &[(&str, Kind)]) -> Result<Self, BadParquet> {
        let mut fields = Vec::with_capacity(columns.len());
        for (name, kind) in columns {
            fields.push(field(name, *kind)?);
        }
        let root = Arc::new(Type::group_type_builder("focus").with_fields(fields).build()?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("wharfage ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let buffer = |(name, kind): &(&str, Kind)| ColumnBuffer {
            name: (*name).to_owned(),
            kind: *kind,
            values: match kind {
                Kind::Text | Kind::Json => Waiting::Texts(Vec::new()),
                Kind::Number => Waiting::Numbers(Vec::new(), NUMBER_SCALE),
                Kind::Cost => Waiting::Numbers(Vec::new(), COST_SCALE),
                Kind::Time => Waiting::Times(Vec::new()),
            },
            defined: Vec::new(),
        };
        let file = SerializedFileWriter::new(out, root, Arc::new(properties))?;
        Ok(Self { file, columns: columns.iter().map(buffer).collect(), rows: 0 })
    }

    /// Adds a row: a value for each column, in their order.
    pub fn row<'a>(&mut self, values: impl IntoIterator<Item = Value<'a>>) -> Result<(), BadParquet> {
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(&value)?;
        }
        self.rows = self.rows.saturating_add(1);
        if self.rows >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), BadParquet> {
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column()? else { break };
            let defined = Some(column.defined.as_slice());
            match (writer.untyped(), &mut column.values) {
                (ColumnWriter::ByteArrayColumnWriter(to), Waiting::Texts(values)) => {
                    to.write_batch(values, defined, None)?;
                    values.clear();
                }
                (ColumnWriter::FixedLenByteArrayColumnWriter(to), Waiting::Numbers(values, _)) => {
                    to.write_batch(values, defined, None)?;
                    values.clear();
                }
                (ColumnWriter::Int64ColumnWriter(to), Waiting::Times(values)) => {
                    to.write_batch(values, defined, None)?;
                    values.clear();
                }
                // The file's schema is made of the same kinds.
                _ => return Err(column.mismatch("another type")),
            }
            column.defined.clear();
            writer.close()?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Writes what waits, the file's metadata if there is one, and its end.
    pub fn finish(mut self, metadata: Option<String>) -> Result<W, BadParquet> {
        if self.rows > 0 {
            self.write_group()?;
        }
        if let Some(metadata) = metadata {
            self.file.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), metadata));
        }
        Ok(self.file.into_inner()?)
    }
}

impl ColumnBuffer {
    fn push(&mut self, value: &Value<'_>) -> Result<(), BadParquet> {
        let is_empty = |text: &str| text.is_empty();
        let defined = match (&mut self.values, value) {
            (_, Value::Null) => false,
            (Waiting::Texts(_), Value::Text(text)) if is_empty(text) => false,
            (Waiting::Texts(values), Value::Text(text)) => {
                // Most texts are that of the row before: the same bytes, counted.
                let same = values.last().filter(|last| last.data() == text.as_bytes()).cloned();
                values.push(same.unwrap_or_else(|| ByteArray::from(text.as_bytes().to_vec())));
                true
            }
            (Waiting::Numbers(values, scale), Value::Number(number)) => {
                let Some(units) = number.to_units(*scale) else {
                    let (column, value) = (self.name.clone(), number.to_string());
                    return Err(BadParquet::TooLong { column, value, scale: *scale });
                };
                values.push(FixedLenByteArray::from(units.to_be_bytes().to_vec()));
                true
            }
            (Waiting::Times(values), Value::Time(time)) => {
                values.push(time.0.div_euclid(1_000));
                true
            }
            (_, other) => return Err(self.mismatch(&format!("{other:?}"))),
        };
        self.defined.push(i16::from(defined));
        Ok(())
    }

    fn mismatch(&self, found: &str) -> BadParquet {
        BadParquet::Field { column: self.name.clone(), kind: self.kind, found: found.to_owned() }
    }
}

/// A column as the file's schema has it. All may be null: which may not is the checker's to say.
fn field(name: &str, kind: Kind) -> Result<TypePtr, ParquetError> {
    let decimal = |scale: u32| {
        let scale = i32::try_from(scale).unwrap_or(DIGITS);
        Type::primitive_type_builder(name, Physical::FIXED_LEN_BYTE_ARRAY)
            .with_logical_type(Some(LogicalType::decimal(scale, DIGITS)))
            .with_length(16)
            .with_precision(DIGITS)
            .with_scale(scale)
    };
    let builder = match kind {
        Kind::Text | Kind::Json => Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_logical_type(Some(LogicalType::String)),
        Kind::Number => decimal(NUMBER_SCALE),
        Kind::Cost => decimal(COST_SCALE),
        Kind::Time => Type::primitive_type_builder(name, Physical::INT64)
            .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
    };
    builder.with_repetition(Repetition::OPTIONAL).build().map(Arc::new)
}

// ---- reading ----

/// What can be read from: a file, or bytes.
pub trait Input: ChunkReader + 'static {}

impl<R: ChunkReader + 'static> Input for R {}

/// Reads a file row by row, each field as the text that it has in CSV.
pub struct Rows {
    /// Names, and what is wrong about the type of each.
    columns: Vec<(String, Option<String>)>,
    file: RowIter<'static>,
    metadata: Option<String>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file and looks at its columns.
    pub fn open<R: Input>(input: R) -> Result<Self, BadParquet> {
        let file = SerializedFileReader::new(input)?;
        let about = file.metadata().file_metadata();
        let columns: Result<Vec<_>, _> = about.schema_descr().columns().iter().map(|of| look(of)).collect();
        let metadata = about.key_value_metadata().and_then(|pairs| {
            pairs.iter().find(|pair| pair.key == METADATA_KEY).and_then(|pair| pair.value.clone())
        });
        Ok(Self { columns: columns?, file: RowIter::from_file_into(Box::new(file)), metadata })
    }

    /// Names of the columns, and what is wrong about the type of each.
    pub fn columns(&self) -> &[(String, Option<String>)] {
        &self.columns
    }

    /// The metadata in the file's footer.
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<Option<String>>, BadParquet>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.file.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error.into())),
        };
        Some(row.get_column_iter().map(|(name, field)| text(name, field)).collect())
    }
}

/// A column's name and what is wrong about its type; an error if its values cannot be read at all.
fn look(column: &ColumnDescriptor) -> Result<(String, Option<String>), BadParquet> {
    let (physical, converted) = (column.physical_type(), column.converted_type());
    let logical = column.logical_type_ref();
    let is_utc = match logical {
        Some(LogicalType::Timestamp(of)) => of.is_adjusted_to_u_t_c,
        _ => matches!(converted, ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS),
    };
    let name = column.name().to_owned();
    let holds = match (physical, converted) {
        // Only nulls are in it.
        _ if matches!(logical, Some(LogicalType::Unknown)) => return Ok((name, None)),
        (_, ConvertedType::DECIMAL) => "decimals",
        (Physical::BYTE_ARRAY, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => "texts",
        (Physical::INT64, ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS) if is_utc => {
            "times"
        }
        (Physical::INT64, ConvertedType::NONE) if matches!(logical, Some(LogicalType::Timestamp(_))) => {
            "times that are not known to be of UTC, or nanoseconds"
        }
        (Physical::INT32 | Physical::INT64, ConvertedType::NONE)
        | (Physical::INT32, ConvertedType::INT_8 | ConvertedType::INT_16 | ConvertedType::INT_32)
        | (Physical::INT64, ConvertedType::INT_64) => "integers",
        (Physical::FLOAT, _) => "floats, which round",
        (Physical::DOUBLE, _) => "doubles, which round",
        (Physical::BYTE_ARRAY, ConvertedType::NONE) => "bytes",
        (Physical::BOOLEAN, _) => "booleans",
        _ => return Err(BadParquet::Column { column: name, found: format!("{physical} ({converted})") }),
    };
    let Some(known) = schema::COLUMNS.iter().find(|known| known.name == name) else {
        return Ok((name, None));
    };
    let good: &[&str] = match known.kind {
        Kind::Text | Kind::Json => &["texts"],
        Kind::Number | Kind::Cost => &["decimals", "integers"],
        Kind::Time => &["times", "texts"],
    };
    Ok((name, (!good.contains(&holds)).then(|| holds.to_owned())))
}

/// A field as CSV has it.
fn text(name: &str, field: &Field) -> Result<Option<String>, BadParquet> {
    Ok(Some(match field {
        Field::Null => return Ok(None),
        Field::Str(text) => text.clone(),
        Field::Decimal(decimal) => exact(decimal).to_string(),
        Field::TimestampMillis(ms) => Timestamp(ms.saturating_mul(1_000)).to_string(),
        Field::TimestampMicros(us) => Timestamp(*us).to_string(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            return Err(BadParquet::Column { column: name.to_owned(), found: "nested".to_owned() });
        }
        other => other.to_string(),
    }))
}

fn exact(decimal: &Decimal) -> Amount {
    let units = BigInt::from_signed_bytes_be(decimal.data());
    Amount::from_big(BigDecimal::new(units, i64::from(decimal.scale())))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [(&str, Kind); 5] = [
        ("BilledCost", Kind::Cost),
        ("ChargePeriodStart", Kind::Time),
        ("PricingQuantity", Kind::Number),
        ("Tags", Kind::Json),
        ("x_Note", Kind::Text),
    ];

    fn number(text: &str) -> Value<'static> {
        Value::Number(Cow::Owned(text.parse().expect(text)))
    }

    fn written(rows: &[Vec<Value<'static>>]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &COLUMNS).expect("a writer");
        for row in rows {
            writer.row(row.iter().cloned()).expect("a row");
        }
        writer.finish(Some("{}".to_owned())).expect("a file")
    }

    fn read(file: Vec<u8>) -> Vec<Vec<Option<String>>> {
        let rows = Rows::open(bytes::Bytes::from(file)).expect("a file");
        assert_eq!(rows.metadata(), Some("{}"));
        assert!(rows.columns().iter().all(|(_, problem)| problem.is_none()));
        rows.map(|row| row.expect("a row")).collect()
    }

    #[test]
    fn every_digit_comes_back_over_the_borders_of_row_groups() {
        let row = |at: usize| {
            let number_text = format!("{at}.000000000000000001");
            vec![
                number("99999999.000000000000000000000000000001"),
                Value::Time(Timestamp(1_800_000_000_000_000)),
                number(&number_text),
                if at.is_multiple_of(3) { Value::Null } else { Value::text("{\"a\":\"ä\"}") },
                Value::text(""),
            ]
        };
        let count = GROUP_ROWS * 2 + 7;
        let rows: Vec<_> = (0..count).map(row).collect();
        let read = read(written(&rows));
        assert_eq!(read.len(), count);
        for (given, read) in rows.iter().zip(&read) {
            let given: Vec<_> = given.iter().map(|value| value.to_text().map(Cow::into_owned)).collect();
            assert_eq!(&given, read);
        }
    }

    #[test]
    fn a_number_without_room_is_refused_and_not_rounded() {
        for (column, value) in
            [(0, "0.0000000000000000000000000000001"), (0, "100000000"), (2, "0.0000000000000000001")]
        {
            let mut row = vec![number("1"), Value::Time(Timestamp(0)), number("1"), Value::Null, Value::Null];
            row[column] = number(value);
            let mut writer = Writer::new(Vec::new(), &COLUMNS).expect("a writer");
            let error = writer.row(row).expect_err(value).to_string();
            assert!(error.contains(value) && error.contains(COLUMNS[column].0), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_wherever_it_is_cut() {
        let whole = written(&[vec![number("1"), Value::Null, Value::Null, Value::Null, Value::text("x")]]);
        for length in 0..whole.len() {
            assert!(Rows::open(bytes::Bytes::copy_from_slice(&whole[..length])).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_number_that_fits_comes_back(units in -(10_i128.pow(37))..10_i128.pow(37), cost: bool) {
            let scale = if cost { COST_SCALE } else { NUMBER_SCALE };
            let amount = Amount::from_big(BigDecimal::new(BigInt::from(units), i64::from(scale)));
            prop_assert_eq!(amount.to_units(scale), Some(units));
            let value = Value::Number(Cow::Owned(amount.clone()));
            let row = if cost { [value, Value::Null, Value::Null, Value::Null, Value::Null] }
                else { [Value::Null, Value::Null, value, Value::Null, Value::Null] };
            let read = read(written(&[row.to_vec()]));
            prop_assert_eq!(read[0][if cost { 0 } else { 2 }].clone(), Some(amount.to_string()));
        }
    }
}
