//! FOCUS 1.2 as data: the columns of the dataset `CostAndUsage`, the words that some of them may hold, and
//! the services. Source: `FOCUS_Spec` v1.2 (2025-05-30), column definitions and appendix of services.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A quantity or a unit price.
    Number,
    /// Money: a quantity times a unit price, so with the digits of both.
    Cost,
    /// A moment of UTC, in whole seconds.
    Time,
    /// A flat JSON object, as text.
    Json,
}

/// Whether a file must have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Mandatory,
    /// If the provider has what it tells of.
    Conditional,
    /// At best.
    Recommended,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether a file must have it.
    pub presence: Presence,
    /// Whether a row may have no value in it.
    pub nullable: bool,
}

const fn column(name: &'static str, kind: Kind, presence: Presence, nullable: bool) -> Column {
    Column { name, kind, presence, nullable }
}

/// The columns, in the order of their names.
pub const COLUMNS: [Column; 57] = {
    use Kind::{Cost, Json, Number, Text, Time};
    use Presence::{Conditional, Mandatory, Recommended};
    [
        column("AvailabilityZone", Text, Recommended, true),
        column("BilledCost", Cost, Mandatory, false),
        column("BillingAccountId", Text, Mandatory, false),
        column("BillingAccountName", Text, Mandatory, true),
        column("BillingAccountType", Text, Conditional, false),
        column("BillingCurrency", Text, Mandatory, false),
        column("BillingPeriodEnd", Time, Mandatory, false),
        column("BillingPeriodStart", Time, Mandatory, false),
        column("CapacityReservationId", Text, Conditional, true),
        column("CapacityReservationStatus", Text, Conditional, true),
        column("ChargeCategory", Text, Mandatory, false),
        column("ChargeClass", Text, Mandatory, true),
        column("ChargeDescription", Text, Mandatory, true),
        column("ChargeFrequency", Text, Recommended, false),
        column("ChargePeriodEnd", Time, Mandatory, false),
        column("ChargePeriodStart", Time, Mandatory, false),
        column("CommitmentDiscountCategory", Text, Conditional, true),
        column("CommitmentDiscountId", Text, Conditional, true),
        column("CommitmentDiscountName", Text, Conditional, true),
        column("CommitmentDiscountQuantity", Number, Conditional, true),
        column("CommitmentDiscountStatus", Text, Conditional, true),
        column("CommitmentDiscountType", Text, Conditional, true),
        column("CommitmentDiscountUnit", Text, Conditional, true),
        column("ConsumedQuantity", Number, Conditional, true),
        column("ConsumedUnit", Text, Conditional, true),
        column("ContractedCost", Cost, Mandatory, false),
        column("ContractedUnitPrice", Number, Conditional, true),
        column("EffectiveCost", Cost, Mandatory, false),
        column("InvoiceId", Text, Recommended, true),
        column("InvoiceIssuerName", Text, Mandatory, false),
        column("ListCost", Cost, Mandatory, false),
        column("ListUnitPrice", Number, Conditional, true),
        column("PricingCategory", Text, Conditional, true),
        column("PricingCurrency", Text, Conditional, true),
        column("PricingCurrencyContractedUnitPrice", Number, Conditional, true),
        column("PricingCurrencyEffectiveCost", Cost, Conditional, true),
        column("PricingCurrencyListUnitPrice", Number, Conditional, true),
        column("PricingQuantity", Number, Mandatory, true),
        column("PricingUnit", Text, Mandatory, true),
        column("ProviderName", Text, Mandatory, false),
        column("PublisherName", Text, Mandatory, false),
        column("RegionId", Text, Conditional, true),
        column("RegionName", Text, Conditional, true),
        column("ResourceId", Text, Conditional, true),
        column("ResourceName", Text, Conditional, true),
        column("ResourceType", Text, Conditional, true),
        column("ServiceCategory", Text, Mandatory, false),
        column("ServiceName", Text, Mandatory, false),
        column("ServiceSubcategory", Text, Recommended, false),
        column("SkuId", Text, Conditional, true),
        column("SkuMeter", Text, Conditional, true),
        column("SkuPriceDetails", Json, Conditional, true),
        column("SkuPriceId", Text, Conditional, true),
        column("SubAccountId", Text, Conditional, true),
        column("SubAccountName", Text, Conditional, true),
        column("SubAccountType", Text, Conditional, true),
        column("Tags", Json, Conditional, true),
    ]
};

/// Columns that hold one of these words.
pub(crate) const WORDS: [(&str, &[&str]); 8] = [
    ("CapacityReservationStatus", &["Used", "Unused"]),
    ("ChargeCategory", &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]),
    ("ChargeClass", &["Correction"]),
    ("ChargeFrequency", &["One-Time", "Recurring", "Usage-Based"]),
    ("CommitmentDiscountCategory", &["Spend", "Usage"]),
    ("CommitmentDiscountStatus", &["Used", "Unused"]),
    ("PricingCategory", &["Standard", "Dynamic", "Committed", "Other"]),
    (
        "ServiceCategory",
        &[
            "AI and Machine Learning",
            "Analytics",
            "Business Applications",
            "Compute",
            "Databases",
            "Developer Tools",
            "Identity",
            "Integration",
            "Internet of Things",
            "Management and Governance",
            "Media",
            "Migration",
            "Mobile",
            "Multicloud",
            "Networking",
            "Other",
            "Security",
            "Storage",
            "Web",
        ],
    ),
];

/// Keys of `SkuPriceDetails` that FOCUS defines; others begin with `x_`.
pub(crate) const SKU_PRICE_DETAILS: [&str; 13] = [
    "CoreCount",
    "DiskMaxIops",
    "DiskSpace",
    "DiskType",
    "GpuCount",
    "InstanceType",
    "InstanceSeries",
    "MemorySize",
    "NetworkMaxIops",
    "NetworkMaxThroughput",
    "OperatingSystem",
    "Redundancy",
    "StorageClass",
];

/// Every category of services with its subcategories.
pub(crate) const SERVICES: [(&str, &[&str]); 19] = [
    (
        "AI and Machine Learning",
        &[
            "AI Platforms",
            "Bots",
            "Generative AI",
            "Machine Learning",
            "Natural Language Processing",
            "Other (AI and Machine Learning)",
        ],
    ),
    (
        "Analytics",
        &[
            "Analytics Platforms",
            "Business Intelligence",
            "Data Processing",
            "Other (Analytics)",
            "Search",
            "Streaming Analytics",
        ],
    ),
    ("Business Applications", &["Other (Business Applications)", "Productivity and Collaboration"]),
    (
        "Compute",
        &[
            "Containers",
            "End User Computing",
            "Other (Compute)",
            "Quantum Compute",
            "Serverless Compute",
            "Virtual Machines",
        ],
    ),
    (
        "Databases",
        &[
            "Caching",
            "Data Warehouses",
            "Ledger Databases",
            "NoSQL Databases",
            "Other (Databases)",
            "Relational Databases",
            "Time Series Databases",
        ],
    ),
    (
        "Developer Tools",
        &[
            "Continuous Integration and Deployment",
            "Developer Platforms",
            "Development Environments",
            "Other (Developer Tools)",
            "Quality Assurance",
            "Source Code Management",
        ],
    ),
    ("Identity", &["Identity and Access Management", "Other (Identity)"]),
    ("Integration", &["API Management", "Messaging", "Other (Integration)", "Workflow Orchestration"]),
    ("Internet of Things", &["IoT Analytics", "IoT Platforms", "Other (Internet of Things)"]),
    (
        "Management and Governance",
        &[
            "Architecture",
            "Compliance",
            "Cost Management",
            "Data Governance",
            "Disaster Recovery",
            "Endpoint Management",
            "Observability",
            "Other (Management and Governance)",
            "Support",
        ],
    ),
    ("Media", &["Content Creation", "Gaming", "Media Streaming", "Mixed Reality", "Other (Media)"]),
    ("Migration", &["Data Migration", "Other (Migration)", "Resource Migration"]),
    ("Mobile", &["Other (Mobile)"]),
    ("Multicloud", &["Multicloud Integration", "Other (Multicloud)"]),
    (
        "Networking",
        &[
            "Application Networking",
            "Content Delivery",
            "Network Connectivity",
            "Network Infrastructure",
            "Network Routing",
            "Network Security",
            "Other (Networking)",
        ],
    ),
    ("Other", &["Other (Other)"]),
    (
        "Security",
        &[
            "Other (Security)",
            "Secret Management",
            "Security Posture Management",
            "Threat Detection and Response",
        ],
    ),
    (
        "Storage",
        &[
            "Backup Storage",
            "Block Storage",
            "File Storage",
            "Object Storage",
            "Other (Storage)",
            "Storage Platforms",
        ],
    ),
    ("Web", &["Application Platforms", "Other (Web)"]),
];
