//! A sparkline of the last minute.

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::CanvasRenderingContext2d;

use crate::browser;
use crate::state::{Row, SPARK_POINTS};
use crate::view::number::{float, float_count};

const WIDTH: f64 = 72.0;
const HEIGHT: f64 = 18.0;

/// CPU in the last minute.
#[component]
pub(crate) fn Spark(
    /// Whose.
    row: Row,
) -> impl IntoView {
    let canvas = NodeRef::<html::Canvas>::new();
    let point = row.point.clone();
    Effect::new(move |_| {
        point.track();
        if let Some(canvas) = canvas.get() {
            row.spark.with_value(|spark| draw(&canvas, spark.iter().copied()));
        }
    });
    // Twice the size, so that it is sharp on dense screens.
    view! { <canvas class="spark" node_ref=canvas width="144" height="36" aria-hidden="true"></canvas> }
        .into_any()
}

fn draw(
    canvas: &web_sys::HtmlCanvasElement,
    values: impl ExactSizeIterator<Item = u64> + Clone,
) -> Option<()> {
    let context: CanvasRenderingContext2d = canvas.get_context("2d").ok()??.dyn_into().ok()?;
    context.set_transform(2.0, 0.0, 0.0, 2.0, 0.0, 0.0).ok()?;
    context.clear_rect(0.0, 0.0, WIDTH, HEIGHT);
    let greatest = values.clone().max()?.max(100);
    let first = SPARK_POINTS.saturating_sub(values.len());
    context.set_stroke_style_str(&browser::style_variable(canvas, "--c-series-1"));
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
