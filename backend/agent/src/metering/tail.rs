//! Block I/O after the end: what a container wrote and the kernel had still to write when it ended.
//!
//! On cgroup v2 a buffered write is charged when it is written back, up to half a minute after its writer is
//! gone, and to the writer's cgroup only while that is there. So the empty cgroup lingers until none of its
//! pages is dirty; then a last reading of kind [`ReadingKind::FinalBlock`] is made durable, and only then may
//! the cgroup go. What is deleted before it is written costs nothing. Who does not wait, and what is still
//! dirty after [`LOOKS`], is marked: the rest is in the tenant's whole cgroup, and nobody's.
//!
//! Nothing of it has to be remembered: that a cgroup lingers is to be seen from its last reading in the
//! journal, so the sweep of the next agent goes on where one was killed.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wharf_runtime::cgroup::{CgroupError, LayoutKind};
use wharf_runtime::usage::{Depth, Measured, UsageError, UsageReader};
use wharf_shared::id::ContainerId;
use wharf_shared::reading::ReadingKind;
use wharf_shared::usage::Meter;

use super::Metering;
use super::series::Series;
use crate::error::{Result, ServiceError, chain};

/// Between looks, and before the first: what `memory.stat` says may be two seconds old (`flush_memcg_stats_dwork`).
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So many looks, 120 s: four times what pages stay dirty by default (`vm.dirty_expire_centisecs`).
const LOOKS: u32 = 60;
/// So many starts linger at a time. A tenant whose containers end faster gets their tails as unattributed.
pub(super) const LINGERING_MAX: usize = 200;

impl Metering {
    /// Whether this host charges a container after its end.
    pub(crate) fn lingers(&self) -> bool {
        self.0.layout.kind() == LayoutKind::V2
    }

    /// Waits until everything that an ended start wrote is written, or was waited for long enough, and makes
    /// it durable. `true`: its cgroup may go. `false`: the agent stops, and the next one goes on.
    pub(crate) async fn linger(
        &self,
        id: &ContainerId,
        generation: u64,
        cgroup: &Path,
        stop: &CancellationToken,
    ) -> bool {
        let place = self.0.lingering.try_acquire();
        let mut looks_left = if place.is_ok() { LOOKS } else { 1 };
        let mut failed = false;
        loop {
            // Dropping either loses nothing.
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return false,
            }
            looks_left = looks_left.saturating_sub(1);
            match self.book_tail(id, generation, cgroup, looks_left == 0).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::error!(container.id = %id, error = chain(&error), "what a container wrote last is not stored; it is tried again");
                }
                Err(error) => {
                    tracing::debug!(container.id = %id, error = chain(&error), "it is still not stored");
                }
            }
        }
    }

    /// Books what an ended start wrote, if all of it is written or this is the last look; whether its cgroup
    /// may go. Booking twice changes nothing.
    pub(crate) async fn book_tail(
        &self,
        id: &ContainerId,
        generation: u64,
        cgroup: &Path,
        is_last_look: bool,
    ) -> Result<bool> {
        let (layout, path) = (self.0.layout.clone(), cgroup.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let reader = UsageReader::open(&layout, &path)?;
            // In this order: what is written in between is in the counters.
            let unwritten = reader.unwritten();
            Ok::<_, UsageError>((unwritten, reader.read(Depth::Live)))
        });
        let (unwritten, reading) = match looked
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
        {
            Ok(looked) => looked,
            // It was removed under us; its counters are in the tenant's.
            Err(UsageError::Group(CgroupError::Missing(_))) => return Ok(true),
            Err(error) => {
                return Err(ServiceError::internal("an ended container's counters cannot be opened", error));
            }
        };
        let is_whole = unwritten == Measured::Value(0);
        if !is_whole && !is_last_look {
            return Ok(false);
        }
        let _order = self.order().await;
        let Some((_, last)) = self.0.journal.last_reading(id, generation).await? else { return Ok(true) };
        let measures = last.meter(Meter::BlockWrite).is_some_and(|writes| writes.raw.is_some());
        if last.kind != ReadingKind::Final || last.series.boot_id != self.0.boot_id || !measures {
            return Ok(last.kind.is_end());
        }
        self.append_last(&[Series::resume(&last).tail(&reading, is_whole)]).await?;
        wharf_shim::failpoint::reach("agent.tail.booked");
        Ok(true)
    }
}
