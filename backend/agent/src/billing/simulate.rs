//! What a price book would change, tenant by tenant, before it exists.

use wharf_billing::amount::Amount;
use wharf_billing::price::{self, PriceBooks};
use wharf_shared::billing::PriceBookView;
use wharf_shared::decimal::Decimal;
use wharf_shared::id::TenantId;
use wharf_shared::permission::Permission;
use wharf_shared::problem::FieldProblem;
use wharf_shared::statement::{SimulateSpec, SimulatedTenant, Simulation};
use wharf_shared::time::Timestamp;
use wharf_store::pagination::PageRequest;
use wharf_store::usage;
use wharf_store::{Scope, Tx};

use super::rated::Terms;
use super::statements::parse_month;
use super::{Billing, read_terms, too_long};
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

impl Billing {
    /// Rates a period by the books in force and by this one, with the contracts there are. Nothing is kept.
    pub(crate) async fn simulate(&self, ctx: &Ctx, spec: SimulateSpec) -> Result<Simulation> {
        ctx.require(Permission::PriceManage)?;
        let period = parse_month(&spec.period)?;
        let _turn = self.turn().await?;
        let mut tx = self.0.db.read().await?;
        let current = read_terms(&mut tx).await?;
        let mut book = spec.book;
        book.effective_from = period.0;
        let known = current.books.currency();
        let known = (known != price::NO_CURRENCY).then_some(known);
        let found = price::problems(&book, known).into_iter();
        let fields: Vec<_> = found
            .map(|problem| FieldProblem { field: format!("book.{}", problem.field), ..problem })
            .collect();
        if !fields.is_empty() {
            return Err(ServiceError::invalid(fields));
        }
        let currency = book.currency.clone();
        let view = PriceBookView { id: crate::ids::new("prb_")?, book, created_at: self.0.clock.now() };
        let books = PriceBooks::new(&[view])
            .map_err(|error| ServiceError::internal("a price book that was checked cannot be used", error))?;
        let simulated = Terms { books, contracts: current.contracts.clone() };

        let mut tenants = Vec::new();
        let (mut sum_now, mut sum_then) = (Amount::zero(), Amount::zero());
        let mut page = PageRequest::whole();
        loop {
            let found = usage::tenants(&mut tx, &Scope::All, period, &page).await?;
            for (tenant, tenant_name) in found.items {
                let now = self.net(&mut tx, &current, &tenant, period).await?;
                let then = self.net(&mut tx, &simulated, &tenant, period).await?;
                let [current, simulated] = [wire(&now)?, wire(&then)?];
                let difference = wire(&then.minus(&now))?;
                tenants.push(SimulatedTenant { tenant, tenant_name, current, simulated, difference });
                (sum_now, sum_then) = (sum_now.plus(&now), sum_then.plus(&then));
            }
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        Ok(Simulation {
            from: period.0,
            to: period.1,
            currency,
            tenants,
            current: wire(&sum_now)?,
            simulated: wire(&sum_then)?,
            difference: wire(&sum_then.minus(&sum_now))?,
        })
    }

    /// What a tenant's lines of a period sum up to, before credits and tax.
    async fn net(
        &self,
        tx: &mut Tx,
        terms: &Terms,
        tenant: &TenantId,
        period: (Timestamp, Timestamp),
    ) -> Result<Amount> {
        let builder = self.rated_period(tx, terms, tenant, period, None).await?;
        let made = builder.finish(String::new(), Vec::new()).map_err(too_long)?;
        Ok(Amount::from(&made.view.net))
    }
}

fn wire(amount: &Amount) -> Result<Decimal> {
    amount.to_decimal().map_err(too_long)
}
