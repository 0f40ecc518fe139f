//! How are figures written so that a person can read them?

/// A whole number in groups of three digits, or three significant digits where it is small.
pub fn count(value: f64) -> String {
    if value.abs() < 100.0 {
        return short(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// Three significant digits.
pub fn short(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A time in the unit that suits it.
pub fn time(seconds: f64) -> String {
    match seconds {
        value if value >= 1.0 => format!("{} s", short(value)),
        value if value >= 1e-3 => format!("{} ms", short(value * 1e3)),
        value if value >= 1e-6 => format!("{} µs", short(value * 1e6)),
        value => format!("{} ns", short(value * 1e9)),
    }
}

/// Bytes in the unit that suits them.
pub fn bytes(value: f64) -> String {
    match value {
        value if value >= 1_073_741_824.0 => format!("{} GiB", short(value / 1_073_741_824.0)),
        value if value >= 1_048_576.0 => format!("{} MiB", short(value / 1_048_576.0)),
        value if value >= 1_024.0 => format!("{} KiB", short(value / 1_024.0)),
        value => format!("{} B", short(value)),
    }
}

/// A figure with its unit.
pub fn figure(value: f64, unit: &str) -> String {
    match unit {
        "ns" => time(value / 1e9),
        "s" => time(value),
        "B" => bytes(value),
        "B/s" => format!("{}/s", bytes(value)),
        unit => format!("{} {unit}", count(value)),
    }
}

/// A figure, or a dash.
pub fn or_dash(value: Option<f64>, write: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), write)
}

/// The exponent with which y grows over x: the slope of the line through the logarithms. 0 is flat, 1 is linear.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (mean_x, mean_y) = (
        logs.iter().map(|point| point.0).sum::<f64>() / count,
        logs.iter().map(|point| point.1).sum::<f64>() / count,
    );
    let spread: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let both: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (logs.len() >= 2 && spread > 0.0).then(|| both / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_in_the_unit_that_suits_them() {
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(count(100.0), "100");
        assert_eq!(count(12.345), "12.3");
        assert_eq!(time(0.000_026), "26.0 µs");
        assert_eq!(time(2.5e-7), "250 ns");
        assert_eq!(bytes(1_536.0), "1.50 KiB");
        assert_eq!(figure(8.5e9, "B/s"), "7.92 GiB/s");
        assert_eq!(or_dash(None, count), "–");
    }

    #[test]
    fn the_slope_of_a_power_is_its_exponent() {
        let line: Vec<(f64, f64)> = (1..6).map(|n| (f64::from(n), 3.0 * f64::from(n))).collect();
        assert!((slope(&line).unwrap() - 1.0).abs() < 1e-9);
        let flat: Vec<(f64, f64)> = (1..6).map(|n| (f64::from(n), 7.0)).collect();
        assert!(slope(&flat).unwrap().abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
    }
}
