//! A program in another language rates random hours by random books and contracts again, and must agree.
//!
//! 10,000 rows of usage, a million with `WHARF_SOAK`. The seed is printed, and `WHARF_RERATE_SEED` gives it
//! again.
#![expect(
    clippy::expect_used,
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use wharf_billing::amount::Amount;
use wharf_billing::contract::Contracts;
use wharf_billing::jsonl;
use wharf_billing::price::PriceBooks;
use wharf_billing::rating::{RatedRow, Rater, period};
use wharf_billing::statement::{CreditKey, StatementBuilder, credits_left};
use wharf_shared::billing::{ContractView, PriceBookView};
use wharf_shared::id::TenantId;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};

/// 2026-11-20T00:00:00Z: random hours reach over a month's end.
const BEGIN: &str = "2026-11-20T00:00:00Z";
const METERS: [Meter; 8] = [
    Meter::CpuUsed,
    Meter::CpuReserved,
    Meter::MemoryUsed,
    Meter::MemoryReserved,
    Meter::BlockRead,
    Meter::BlockWrite,
    Meter::ContainerTime,
    Meter::Starts,
];

/// Numbers that follow from a seed (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn is_one_in(&mut self, parts: u64) -> bool {
        self.below(parts) == 0
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).expect("small")]
    }

    /// A decimal below `whole` with up to so many digits after the point.
    fn decimal(&mut self, whole: u64, digits: u32) -> String {
        let digits = u32::try_from(self.below(u64::from(digits) + 1)).expect("small");
        let fraction = self.below(10_u64.pow(digits));
        match digits {
            0 => self.below(whole).to_string(),
            _ => format!("{}.{fraction:0width$}", self.below(whole), width = digits as usize),
        }
    }
}

fn price(random: &mut Random, resource: &str) -> Value {
    let (meter, units, policies): (_, &[_], &[_]) = match resource {
        "cpu" => ("cpu_used", &["Core-Seconds", "Core-Hours"], &["used", "reserved", "max", "blend"]),
        "memory" => {
            let units = &["GB-Seconds", "GB-Hours", "GiB-Hours"];
            ("memory_used", units, &["used", "reserved", "max", "blend"])
        }
        "container_time" => ("container_time", &["Container-Seconds", "Container-Hours"], &["used"]),
        "starts" => ("starts", &["Starts"], &["used"]),
        other => (other, &["GB", "GiB"], &["used"]),
    };
    let unit = random.one_of(units);
    let policy = random.one_of(policies);
    let meter = if policy == "reserved" { meter.replace("used", "reserved") } else { meter.to_owned() };
    let policy = match policy {
        "blend" => json!({ "blend": { "used": random.decimal(2, 3), "reserved": random.decimal(2, 3) } }),
        word => json!(word),
    };
    // A tenant uses about so many units in a month; borders are to be crossed.
    let scale = if unit.ends_with("Hours") { 400 } else { 400_000 };
    let mut price = json!({ "meter": meter, "unit": unit, "policy": policy });
    let mut end = 0;
    if random.is_one_in(2) {
        end = random.below(scale);
        price["allowance"] = json!(end.to_string());
    }
    if random.is_one_in(2) {
        let mut tiers = Vec::new();
        for _ in 0..random.below(4) {
            let next = end + 1 + random.below(scale);
            tiers.push(json!({ "from": end.to_string(), "to": next.to_string(), "unit_price": random.decimal(2, 18) }));
            end = next;
        }
        tiers.push(json!({ "from": end.to_string(), "unit_price": random.decimal(2, 18) }));
        price["tiers"] = json!(tiers);
        price["tiering"] = json!(random.one_of(&["graduated", "volume"]));
    } else {
        price["unit_price"] = json!(random.decimal(2, 18));
    }
    if random.is_one_in(3) {
        price["monthly_cap"] = json!(random.decimal(scale, 6));
    }
    if price.get("allowance").is_none() && price.get("tiers").is_none() && random.is_one_in(3) {
        price["minimum_quantity"] = json!(random.decimal(8 * scale, 6));
    }
    if random.is_one_in(3) {
        price["tax_class"] = json!("reduced");
    }
    price
}

fn at(hours: u64) -> Timestamp {
    let begin: Timestamp = BEGIN.parse().expect("a time");
    Timestamp(begin.0 + i64::try_from(hours).expect("near") * HOUR_US)
}

fn books(random: &mut Random, hours: u64) -> Vec<PriceBookView> {
    let begins: BTreeSet<_> = (0..4).map(|_| random.below(hours)).collect();
    let book = |(number, begin): (usize, u64)| {
        let mut prices = Vec::new();
        for resource in ["cpu", "memory", "block_read", "block_write", "container_time", "starts"] {
            if !random.is_one_in(6) {
                prices.push(price(random, resource));
            }
        }
        let view = json!({
            "id": format!("prb_00000000-0000-7000-8000-{number:012}"), "created_at": at(0),
            "book": { "currency": "EUR", "effective_from": at(begin), "prices": prices,
                "price_unattributed": random.is_one_in(2), "rounding": random.one_of(&["half_even", "half_up"]) }
        });
        serde_json::from_value(view).expect("a price book")
    };
    begins.into_iter().enumerate().map(book).collect()
}

fn tenant(number: u64) -> String {
    format!("tnt_00000000-0000-7000-8000-{number:012}")
}

fn contracts(random: &mut Random, tenants: u64, hours: u64) -> Vec<ContractView> {
    let mut views = Vec::new();
    for number in 0..tenants {
        let mut begin = random.below(hours);
        for _ in 0..random.below(3) {
            let end = begin + 1 + random.below(hours);
            let mut terms = Vec::new();
            for sku in ["cpu", "memory_used", "memory", "block_read", "starts"] {
                match random.below(4) {
                    0 => terms.push(json!({ "sku": sku, "discount_percent": random.decimal(100, 4) })),
                    1 => terms.push(json!({ "sku": sku, "unit_price": random.decimal(2, 18) })),
                    2 => terms.push(json!({ "sku": sku, "free_quantity": random.decimal(1_000, 9) })),
                    _ => {}
                }
            }
            let credit = |random: &mut Random, name: &str| {
                let expires = (!random.is_one_in(3)).then(|| at(random.below(2 * hours)));
                json!({ "name": name, "amount": random.decimal(100_000, 4), "expires_at": expires })
            };
            let credits = [credit(random, "gift"), credit(random, "bonus")];
            let view = json!({
                "id": format!("ctr_00000000-0000-7000-8000-{:012}", views.len()), "created_at": at(0),
                "contract": { "tenant": tenant(number), "from": at(begin), "to": at(end),
                    "discount_percent": random.is_one_in(2).then(|| random.decimal(100, 6)), "terms": terms,
                    "credits": credits, "taxes": { "standard": random.decimal(30, 2), "reduced": "7" } }
            });
            views.push(serde_json::from_value(view).expect("a contract"));
            begin = end + random.below(10);
        }
    }
    views
}

/// The next hour's rows, a tenant's together.
fn hour(random: &mut Random, hour: Timestamp, tenants: u64) -> Vec<Vec<UsageHour>> {
    let mut all = Vec::new();
    for number in 0..tenants {
        let mut rows = Vec::new();
        for container in 0..=random.below(5) {
            for meter in METERS {
                let is_whole = container == 0;
                let has_truth = matches!(meter, Meter::CpuUsed | Meter::BlockRead | Meter::BlockWrite);
                if random.is_one_in(3) || (is_whole && !has_truth) {
                    continue;
                }
                let unit = 10_u128.pow(meter.pricing_unit_exponent());
                let quantity = match random.below(20) {
                    0 => 0,
                    1 => u128::from(random.next()),
                    _ => u128::from(random.below(4_000_000_000)) * unit / 1_000_000,
                };
                rows.push(UsageHour {
                    hour,
                    tenant: tenant(number).parse().expect("an id"),
                    container: (!is_whole).then(|| format!("{container:064x}").parse().expect("an id")),
                    meter,
                    tenant_name: format!("tenant-{number}"),
                    container_name: String::new(),
                    labels: BTreeMap::new(),
                    quantity: if is_whole { quantity * 4 } else { quantity },
                    quality: if random.is_one_in(9) { Quality::Partial } else { Quality::Measured },
                });
            }
        }
        all.push(rows);
    }
    all.retain(|rows| !rows.is_empty());
    all
}

/// What the product makes of hours, in files.
struct Product<'a> {
    books: &'a PriceBooks,
    contracts: &'a Contracts,
    rated: BufWriter<File>,
    statements: BufWriter<File>,
    builders: BTreeMap<TenantId, StatementBuilder<'a>>,
    used: BTreeMap<CreditKey, Amount>,
    month: Option<(Timestamp, Timestamp)>,
    /// Tiers, policies and reliefs that occurred.
    seen: BTreeSet<String>,
}

impl<'a> Product<'a> {
    fn take(&mut self, rater: &mut Rater<'a>, rows: &[UsageHour]) {
        let first = rows.first().expect("rows");
        let month = period(first.hour);
        if self.month != Some(month) {
            self.close(rater);
            self.month = Some(month);
        }
        let rated = rater.rate_hour(rows.to_vec());
        self.write(&rated);
        let builder = self.builders.entry(first.tenant.clone()).or_insert_with(|| {
            let name = first.tenant_name.clone();
            StatementBuilder::new(self.books, self.contracts, first.tenant.clone(), name, month)
        });
        builder.add(&rated);
    }

    fn write(&mut self, rated: &[RatedRow]) {
        for row in rated {
            let charge = row.usage().expect("usage only");
            let relief = charge.relief.map_or("none", wharf_billing::rating::Relief::as_str);
            self.seen.extend([charge.tier.to_string(), charge.policy.to_owned(), relief.to_owned()]);
            jsonl::write_line(&mut self.rated, row).expect("writes");
        }
    }

    fn close(&mut self, rater: &Rater<'a>) {
        let Some(month) = self.month else { return };
        for (tenant, mut builder) in std::mem::take(&mut self.builders) {
            let minimums = rater.minimums(&tenant);
            self.write(&minimums);
            builder.add(&minimums);
            let credits = credits_left(self.contracts, &tenant, month, &self.used);
            let made = builder.finish("Example".to_owned(), credits).expect("short numbers");
            for (key, amount) in made.credits {
                let used = self.used.entry(key).or_insert_with(Amount::zero);
                *used = used.plus(&amount);
            }
            let view = made.view;
            let date = month.0.to_string();
            let line = json!({ "tenant": tenant, "month": date.get(..7).expect("a date"), "net": view.net,
                "tax": view.tax, "total": view.total, "adjustment": view.adjustment });
            writeln!(self.statements, "{line}").expect("writes");
        }
    }
}

/// Writes what the product makes of random hours, and what it made it of. Returns what kinds occurred.
fn generate(directory: &Path, seed: u64, rows_wanted: usize) -> BTreeSet<String> {
    let mut random = Random(seed);
    let (tenants, hours) = (12, 900);
    let (book_views, contract_views) = (books(&mut random, hours), contracts(&mut random, tenants, hours));
    let books = PriceBooks::new(&book_views).expect("well-formed books");
    let contracts = Contracts::new(&contract_views).expect("well-formed contracts");
    let write = |name: &str, text: String| std::fs::write(directory.join(name), text).expect("writes");
    write("price-books.json", serde_json::to_string(&book_views).expect("serializes"));
    write("contracts.json", serde_json::to_string(&contract_views).expect("serializes"));
    let create = |name: &str| BufWriter::new(File::create(directory.join(name)).expect("creates"));
    let mut file = create("hours.jsonl");
    let (mut all, mut rows, mut number) = (Vec::new(), 0, 0);
    // Few rows are spread over the hours too, so that every book and contract is used.
    let step = u64::try_from(rows_wanted).map_or(1, |wanted| (hours * 100 / wanted.max(1)).max(1));
    while rows < rows_wanted {
        for group in hour(&mut random, at(number), tenants) {
            for row in &group {
                let line = json!({ "tenant": row.tenant, "container": row.container, "hour": row.hour,
                    "meter": row.meter, "quantity": row.quantity.to_string() });
                writeln!(file, "{line}").expect("writes");
            }
            rows += group.len();
            all.push(group);
        }
        number += step;
    }
    file.flush().expect("writes");
    let mut rater = Rater::new(&books, &contracts);
    for group in &all {
        rater.scan(group.clone());
    }
    let mut product = Product {
        books: &books,
        contracts: &contracts,
        rated: create("rated.jsonl"),
        statements: create("statements.jsonl"),
        builders: BTreeMap::new(),
        used: BTreeMap::new(),
        month: None,
        seen: BTreeSet::new(),
    };
    for group in &all {
        product.take(&mut rater, group);
    }
    product.close(&rater);
    product.rated.flush().expect("writes");
    product.statements.flush().expect("writes");
    product.seen
}

fn rerate(directory: &Path) -> Output {
    let files = ["hours.jsonl", "price-books.json", "contracts.json", "rated.jsonl", "statements.jsonl"];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rerate.py");
    let files = files.map(|name| directory.join(name));
    Command::new("python3").arg(script).args(files).output().expect("python3 is there")
}

fn seed() -> u64 {
    let given = std::env::var("WHARF_RERATE_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).expect("masked")
    })
}

#[test]
fn another_program_comes_to_the_same_rows_and_statements_to_the_last_digit() {
    let seed = seed();
    let is_soak = std::env::var_os("WHARF_SOAK").is_some();
    let (rounds, rows) = if is_soak { (20, 50_000) } else { (5, 2_000) };
    println!("WHARF_RERATE_SEED={seed}");
    for round in 0..rounds {
        let directory = tempfile::tempdir().expect("a directory");
        generate(directory.path(), seed.wrapping_add(round), rows);
        let output = rerate(directory.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "round {round} of seed {seed}: {said}");
        println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    }
}

#[test]
fn random_hours_meet_every_kind_of_price() {
    let directory = tempfile::tempdir().expect("a directory");
    let seen: BTreeSet<String> = (0..6).flat_map(|seed| generate(directory.path(), seed, 2_000)).collect();
    for kind in [
        "standard",
        "t0",
        "t1",
        "t2",
        "t3",
        "minimum",
        "none",
        "used",
        "reserved",
        "max",
        "blend",
        "free_quantity",
        "cap",
    ] {
        assert!(seen.contains(kind), "{kind} is not in {seen:?}");
    }
}

#[test]
fn it_finds_a_changed_digit_and_a_missing_row() {
    let directory = tempfile::tempdir().expect("a directory");
    generate(directory.path(), 7, 500);
    assert!(rerate(directory.path()).status.success());
    for (name, field) in [
        ("rated.jsonl", "\"pricing_quantity\":\""),
        ("rated.jsonl", "\"amount\":\""),
        ("rated.jsonl", "\"list_unit_price\":\""),
        ("statements.jsonl", "\"total\":\""),
        ("statements.jsonl", "\"adjustment\":\""),
    ] {
        let path = directory.path().join(name);
        let whole = std::fs::read_to_string(&path).expect("reads");
        let place = whole.rfind(field).expect(field) + field.len();
        let (before, after) = whole.split_at(place);
        std::fs::write(&path, format!("{before}1{after}")).expect("writes");
        assert!(!rerate(directory.path()).status.success(), "{field} changed");
        let last = whole.trim_end().rfind('\n').expect("lines");
        std::fs::write(&path, whole.get(..=last).expect("lines")).expect("writes");
        assert!(!rerate(directory.path()).status.success(), "{name} is short");
        std::fs::write(&path, whole).expect("writes");
    }
}
