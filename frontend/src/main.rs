//! The dashboard: rendered in the browser, embedded in the agent.
//!
//! `view` holds what can be decided without a browser, `api` alone knows HTTP and WebSockets, `state`
//! is shared by all pages, `components` are parts of pages, and `pages` mirror the routes.
#![forbid(unsafe_code)]
#![expect(unreachable_pub, reason = "the component macro makes parts of its props `pub`")]

mod api;
mod app;
mod browser;
mod components;
mod keys;
mod lazy;
mod pages;
mod state;
mod view;

fn main() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(app::App);
}
