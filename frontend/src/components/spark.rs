//! A sparkline of the last minute.

use std::collections::VecDeque;

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::CanvasRenderingContext2d;

use crate::browser;
use crate::state::{Row, SPARK_POINTS};
use crate::view::number::{float, float_count};

const WIDTH: f64 = 72.0;
const HEIGHT: f64 = 18.0;

/// The colour of the lines in the theme that holds: asked once a second and not for each line,
/// because each question makes the browser compute styles.
pub(crate) fn spark_colour(tick: Signal<u32>) -> Memo<String> {
    Memo::new(move |_| {
        tick.track();
        let root = document().document_element();
        root.map(|root| browser::style_variable(&root, "--c-series-1")).unwrap_or_default()
    })
}

/// CPU in the last minute.
#[component]
pub(crate) fn Spark(
    /// Whose.
    row: Row,
    /// Colour of the line.
    colour: Memo<String>,
) -> impl IntoView {
    let canvas = NodeRef::<html::Canvas>::new();
    let point = row.point.clone();
    // What an idle container did in the last minute stays the same: it is not drawn again.
    Effect::new(move |drawn: Option<(VecDeque<u64>, String)>| {
        point.track();
        let Some(canvas) = canvas.get() else { return Default::default() };
        let now = (row.spark.get_value(), colour.get());
        if drawn.as_ref() != Some(&now) {
            draw(&canvas, now.0.iter().copied(), &now.1);
        }
        now
    });
    // Twice the size, so that it is sharp on dense screens.
    view! { <canvas class="spark" node_ref=canvas width="144" height="36" aria-hidden="true"></canvas> }
        .into_any()
}

fn draw(
    canvas: &web_sys::HtmlCanvasElement,
    values: impl ExactSizeIterator<Item = u64> + Clone,
    colour: &str,
) -> Option<()> {
    let context: CanvasRenderingContext2d = canvas.get_context("2d").ok()??.dyn_into().ok()?;
    context.set_transform(2.0, 0.0, 0.0, 2.0, 0.0, 0.0).ok()?;
    context.clear_rect(0.0, 0.0, WIDTH, HEIGHT);
    let greatest = values.clone().max()?.max(100);
    let first = SPARK_POINTS.saturating_sub(values.len());
    context.set_stroke_style_str(colour);
    context.set_line_width(1.25);
    context.begin_path();
    for (at, value) in values.enumerate() {
        let x = WIDTH * float_count(first + at) / float_count(SPARK_POINTS - 1);
        let y = HEIGHT - 1.5 - (HEIGHT - 3.0) * float(value) / float(greatest);
        context.line_to(x, y);
    }
    context.stroke();
    Some(())
}
