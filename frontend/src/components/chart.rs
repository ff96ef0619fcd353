//! A live line chart on a canvas, with a cursor shared by all charts of a page.

use std::collections::VecDeque;

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};
use wharf_shared::time::{SECOND_US, Timestamp};

use crate::browser;
use crate::state::Theme;
use crate::view::chart::{self, Blank, Frame, Point};
use crate::view::number::{float, pixels};
use crate::view::quantity::{self, NOT_MEASURABLE};

const HEIGHT: f64 = 150.0;
/// Room for `10.00 cores`.
const LEFT: f64 = 72.0;
const BOTTOM: f64 = 18.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 6.0;
const LINES: u64 = 4;

/// What the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChartKind {
    /// Thousandths of a CPU.
    Cpu,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    Rate,
    /// A count.
    Count,
}

impl ChartKind {
    fn show(self, value: u64) -> String {
        match self {
            Self::Cpu => format!("{}\u{202f}cores", quantity::cpus(value)),
            Self::Bytes => quantity::bytes(value),
            Self::Rate => quantity::rate(value),
            Self::Count => value.to_string(),
        }
    }
}

/// What all charts of a page look at.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// Seconds shown.
    pub(crate) span_s: RwSignal<i64>,
    /// Moment under the pointer.
    pub(crate) cursor_us: RwSignal<Option<i64>>,
    /// Changes with each new point.
    pub(crate) tick: RwSignal<u32>,
    /// Points of all metrics, oldest first.
    pub(crate) points: StoredValue<VecDeque<Point>>,
}

/// One chart: some series of the points that [`Sight`] holds.
#[component]
pub(crate) fn Chart(
    /// Its title.
    title: &'static str,
    /// What the values are.
    kind: ChartKind,
    /// Which values of a point, and their names.
    series: &'static [(usize, &'static str)],
    /// A limit, drawn dashed.
    #[prop(into, optional)]
    limit: Signal<Option<u64>>,
    /// What is looked at.
    sight: Sight,
) -> impl IntoView {
    let canvas = NodeRef::<html::Canvas>::new();
    let blank = RwSignal::new(Some(Blank::NoData));
    let summary = RwSignal::new(String::new());
    let theme = use_context::<RwSignal<Theme>>();
    let last_frame = StoredValue::new(None::<Frame>);
    Effect::new(move |_| {
        sight.tick.track();
        let span_us = sight.span_s.get() * SECOND_US;
        let cursor_us = sight.cursor_us.get();
        let limit = limit.get();
        if let Some(theme) = theme {
            theme.track();
        }
        let Some(canvas) = canvas.get() else { return };
        let points = picked(sight, series, span_us);
        let now_blank = chart::blank(&points);
        if blank.get_untracked() != now_blank {
            blank.set(now_blank);
        }
        let figure = Figure { kind, series, points: &points, limit, cursor_us, span_us };
        last_frame.set_value(figure.draw(&canvas));
        summary.set(figure.legend());
    });
    let over = move |event: web_sys::MouseEvent| {
        let moment = last_frame.get_value().and_then(|frame| frame.moment(f64::from(event.offset_x())));
        sight.cursor_us.set(moment);
    };
    view! {
        <figure class="chart">
            <figcaption>
                <strong>{title}</strong>
                <span class="legend" data-testid=format!("legend-{}", title.to_lowercase())>{summary}</span>
            </figcaption>
            <div class="plot">
                <canvas node_ref=canvas role="img" aria-label=move || format!("{title}: {}", summary.get())
                    on:mousemove=over on:mouseleave=move |_| sight.cursor_us.set(None)></canvas>
                {move || blank.get().map(|blank| view! {
                    <p class="blank">{match blank {
                        Blank::NoData => "no data yet",
                        Blank::NotMeasurable => NOT_MEASURABLE,
                    }}</p>
                })}
            </div>
        </figure>
    }
    .into_any()
}

fn picked(sight: Sight, series: &[(usize, &str)], span_us: i64) -> Vec<Point> {
    sight.points.with_value(|points| {
        let from = points.back().map_or(0, |last| last.at.0 - span_us);
        points
            .iter()
            .filter(|point| point.at.0 >= from)
            .map(|point| Point {
                at: point.at,
                values: series.iter().filter_map(|(at, _)| point.values.get(*at).copied()).collect(),
            })
            .collect()
    })
}

struct Figure<'a> {
    kind: ChartKind,
    series: &'static [(usize, &'static str)],
    points: &'a [Point],
    limit: Option<u64>,
    cursor_us: Option<i64>,
    span_us: i64,
}

impl Figure<'_> {
    /// The values under the cursor, or the latest, with mean and peak.
    fn legend(&self) -> String {
        let under = self.cursor_us.and_then(|cursor| chart::nearest(self.points, cursor));
        let mut parts = Vec::new();
        if let Some(point) = under {
            parts.push(browser::zone().clock(point.at));
        }
        for (at, (_, name)) in self.series.iter().enumerate() {
            let point = under.or(self.points.last());
            let Some(value) = point.and_then(|point| point.values.get(at)).copied() else { continue };
            let mut part = quantity::measured(value, |value| self.kind.show(value));
            if !name.is_empty() {
                part = format!("{name} {part}");
            }
            if under.is_none()
                && self.series.len() == 1
                && let Some((mean, peak)) = chart::summary(self.points, at)
            {
                part = format!("{part} (mean {}, peak {})", self.kind.show(mean), self.kind.show(peak));
            }
            parts.push(part);
        }
        parts.join(" · ")
    }

    fn draw(&self, canvas: &HtmlCanvasElement) -> Option<Frame> {
        let context: CanvasRenderingContext2d = canvas.get_context("2d").ok()??.dyn_into().ok()?;
        let width = f64::from(canvas.client_width());
        let density = window().device_pixel_ratio();
        let wanted = u32::try_from(pixels(width * density)).ok()?;
        if canvas.width() != wanted {
            canvas.set_width(wanted);
            canvas.set_height(u32::try_from(pixels(HEIGHT * density)).ok()?);
        }
        context.set_transform(density, 0.0, 0.0, density, 0.0, 0.0).ok()?;
        context.clear_rect(0.0, 0.0, width, HEIGHT);
        let greatest =
            self.points.iter().flat_map(|point| &point.values).filter_map(|value| value.value()).max();
        let to_us = self.points.last().map_or_else(|| browser::now().0, |point| point.at.0);
        let frame = Frame {
            left: LEFT,
            top: TOP,
            width: (width - LEFT - RIGHT).max(1.0),
            height: HEIGHT - TOP - BOTTOM,
            from_us: to_us - self.span_us,
            to_us,
            ceiling: self.ceiling(greatest.unwrap_or(0)),
        };
        let paint = Paint { context: &context, canvas };
        paint.axes(&frame, self.kind)?;
        if let Some(limit) = self.limit.filter(|limit| *limit <= frame.ceiling) {
            paint.dashed(&frame, limit)?;
        }
        for (at, _) in self.series.iter().enumerate() {
            paint.series(&frame, self.points, at);
        }
        if let Some(cursor) = self.cursor_us {
            paint.cursor(&frame, cursor);
        }
        Some(frame)
    }

    /// The limit is in sight when use comes near it.
    fn ceiling(&self, greatest: u64) -> u64 {
        let near = self.limit.filter(|limit| greatest >= limit / 4);
        let least = match self.kind {
            ChartKind::Cpu => 10,
            ChartKind::Bytes | ChartKind::Rate => 1_024,
            ChartKind::Count => 4,
        };
        let greatest = greatest.max(near.unwrap_or(0)).max(least);
        chart::ceiling(greatest, matches!(self.kind, ChartKind::Bytes | ChartKind::Rate))
    }
}

struct Paint<'a> {
    context: &'a CanvasRenderingContext2d,
    canvas: &'a HtmlCanvasElement,
}

impl Paint<'_> {
    fn colour(&self, name: &str) -> String {
        browser::style_variable(self.canvas, name)
    }

    fn line(&self, from: (f64, f64), to: (f64, f64)) {
        self.context.begin_path();
        self.context.move_to(from.0, from.1);
        self.context.line_to(to.0, to.1);
        self.context.stroke();
    }

    fn axes(&self, frame: &Frame, kind: ChartKind) -> Option<()> {
        let right = frame.left + frame.width;
        self.context.set_line_width(1.0);
        self.context.set_stroke_style_str(&self.colour("--c-line-subtle"));
        self.context.set_fill_style_str(&self.colour("--c-muted"));
        self.context.set_font("11px system-ui, sans-serif");
        self.context.set_text_align("right");
        for step in 0..=LINES {
            let value = frame.ceiling.saturating_mul(step) / LINES;
            let y = (frame.top + frame.height * (1.0 - float(step) / float(LINES))).round() + 0.5;
            self.line((frame.left, y), (right, y));
            if step % 2 == 0 {
                self.context.fill_text(&kind.show(value), frame.left - 6.0, y + 4.0).ok()?;
            }
        }
        self.context.set_text_align("left");
        let bottom = frame.top + frame.height + 14.0;
        let zone = browser::zone();
        self.context.fill_text(&zone.clock(Timestamp(frame.from_us)), frame.left, bottom).ok()?;
        self.context.set_text_align("right");
        self.context.fill_text(&zone.clock(Timestamp(frame.to_us)), right, bottom).ok()
    }

    fn dashed(&self, frame: &Frame, limit: u64) -> Option<()> {
        let dashes = js_sys::Array::of2(&6.0.into(), &4.0.into());
        self.context.set_line_dash(&dashes).ok()?;
        self.context.set_stroke_style_str(&self.colour("--c-warn"));
        let y = frame.y(limit);
        self.line((frame.left, y), (frame.left + frame.width, y));
        self.context.set_line_dash(&js_sys::Array::new()).ok()
    }

    fn series(&self, frame: &Frame, points: &[Point], at: usize) {
        self.context.set_stroke_style_str(&self.colour(&format!("--c-series-{}", at + 1)));
        self.context.set_line_width(1.5);
        for stroke in chart::strokes(points, at, frame) {
            self.context.begin_path();
            for (x, y) in &stroke {
                self.context.line_to(*x, *y);
            }
            if let [(x, y)] = stroke.as_slice() {
                // A lone point would draw nothing.
                self.context.line_to(x + 1.0, *y);
            }
            self.context.stroke();
        }
    }

    fn cursor(&self, frame: &Frame, cursor_us: i64) {
        let x = frame.x(cursor_us);
        self.context.set_line_width(1.0);
        self.context.set_stroke_style_str(&self.colour("--c-line-strong"));
        self.line((x, frame.top), (x, frame.top + frame.height));
    }
}
