//! Containers: the list, the create form and a container's page.

mod actions;
mod create;
mod detail;
mod grid;
mod list;
mod summary;

pub(crate) use create::CreateContainer;
pub(crate) use detail::ContainerPage;
pub(crate) use list::ContainerList;
