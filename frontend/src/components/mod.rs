//! Parts that pages are made of.

mod banner;
mod button;
mod chart;
mod dialog;
mod field;
mod log;
mod notices;
mod page;
mod remote;
mod spark;
mod state;
mod terminal;

pub(crate) use banner::Banner;
pub(crate) use button::{Copy, Working};
pub(crate) use chart::{Chart, ChartKind, Sight};
pub(crate) use dialog::{Modal, QuestionDialog};
pub(crate) use field::{Check, Choice, Choose, Field, Lines};
pub(crate) use log::LogView;
pub(crate) use notices::NoticeList;
pub(crate) use page::{Empty, PageHead};
pub(crate) use remote::{FailureBox, FormFailure, Skeleton, show};
pub(crate) use spark::{Spark, spark_colour};
pub(crate) use state::StateChip;
pub(crate) use terminal::Terminal;
