//! How does a picture of some series look, as SVG that a browser and a Markdown page show?

use std::fmt::Write as _;

use super::Point;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 236.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 58.0;
/// Colours that people with the common kinds of colour blindness tell apart (after Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#555555"];

/// What a picture shows besides its points.
pub struct Picture {
    pub file: &'static str,
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    /// Names of the places on the x axis, where they are not numbers.
    pub names: &'static [(f64, &'static str)],
    /// Series that are shown first, and in strong lines.
    pub first: &'static str,
}

/// Draws a picture with two logarithmic axes. `None` where there is nothing to show.
pub fn draw(picture: &Picture, points: &[Point], caption: &str) -> Option<String> {
    let mut series: Vec<&str> = Vec::new();
    for point in points {
        if !series.contains(&point.series.as_str()) {
            series.push(&point.series);
        }
    }
    series.sort_by_key(|name| !name.starts_with(picture.first));
    series.truncate(COLOURS.len());
    let shown: Vec<&Point> = points.iter().filter(|point| series.contains(&point.series.as_str())).collect();
    let axis_x = Axis::over(shown.iter().map(|point| point.x), LEFT, WIDTH - RIGHT)?;
    let axis_y = Axis::over(shown.iter().map(|point| point.y), HEIGHT - BOTTOM, TOP)?;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\" fill=\"#111\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"38\" font-size=\"11\" fill=\"#555\">{}</text>",
        escape(picture.title),
        escape(picture.title),
        escape(caption)
    );
    draw_axes(&mut svg, picture, (&axis_x, &axis_y));
    for (n, name) in series.iter().enumerate() {
        let mut line: Vec<(f64, f64)> = shown
            .iter()
            .filter(|point| point.series == *name)
            .map(|point| (axis_x.place(point.x), axis_y.place(point.y)))
            .collect();
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        let strong = name.starts_with(picture.first);
        draw_series(&mut svg, name, &line, (n, strong));
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw_axes(svg: &mut String, picture: &Picture, (x, y): (&Axis, &Axis)) {
    for value in y.ticks() {
        let at = y.place(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#333\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            metric(value)
        );
    }
    let named: Vec<(f64, String)> = if picture.names.is_empty() {
        x.ticks().into_iter().map(|value| (value, metric(value))).collect()
    } else {
        picture.names.iter().map(|(value, name)| (*value, (*name).to_owned())).collect()
    };
    for (value, name) in named.iter().filter(|(value, _)| x.holds(*value)) {
        let at = x.place(*value);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#eee\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            escape(name)
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">{}</text>\n\
         <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
        HEIGHT - 14.0,
        escape(picture.x),
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escape(picture.y)
    );
}

fn draw_series(svg: &mut String, name: &str, line: &[(f64, f64)], (n, strong): (usize, bool)) {
    let colour = COLOURS.get(n).copied().unwrap_or("#000");
    let width = if strong { 3.0 } else { 1.5 };
    let path: Vec<String> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        path.join(" ")
    );
    for (x, y) in line {
        let _ =
            write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"{colour}\"/>", width + 1.5);
    }
    let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 8.0 + 22.0 * n as f64);
    let weight = if strong { " font-weight=\"bold\"" } else { "" };
    let _ = writeln!(
        svg,
        "\n<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222\"{weight}>{}</text>",
        x + 22.0,
        x + 28.0,
        y + 4.0,
        escape(name)
    );
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        (high > 0.0).then(|| Self { low: low / 1.25, high: high * 1.25, from, to })
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Powers of ten, and their halves and fifths where few powers fit.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let lowest = self.low.log10().floor() as i32;
        let powers = (lowest..=lowest + decades as i32 + 2).map(|power| 10_f64.powi(power));
        powers
            .flat_map(|power| steps.iter().map(move |step| power * step))
            .filter(|value| self.holds(*value))
            .collect()
    }
}

fn metric(value: f64) -> String {
    let (scaled, letter) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{scaled:.4}");
    format!("{}{letter}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Picture =
        Picture { file: "a.svg", title: "a < b", x: "x", y: "y", names: &[], first: "pocketmq" };

    #[test]
    fn every_series_is_drawn_and_named_and_ours_comes_first() {
        let point =
            |series: &str, x: f64, y: f64| Point { picture: "p".to_owned(), series: series.to_owned(), x, y };
        let points =
            [point("peer", 1.0, 10.0), point("pocketmq", 1.0, 20.0), point("pocketmq", 100.0, 2_000.0)];
        let svg = draw(&PICTURE, &points, "how").unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.find(">pocketmq<").unwrap() < svg.find(">peer<").unwrap());
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        assert!(draw(&PICTURE, &[], "how").is_none());
    }

    #[test]
    fn ticks_lie_within_the_axis_and_are_written_shortly() {
        let axis = Axis::over([3.0, 40_000.0].into_iter(), 0.0, 100.0).unwrap();
        assert_eq!(axis.ticks(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(metric(2_500_000.0), "2.5M");
        assert_eq!(metric(0.5), "0.5");
    }
}
