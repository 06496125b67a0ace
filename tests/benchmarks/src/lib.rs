//! Compares cases: measures them in turn in one run, and prints their ratios.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// The number of measurements of each case.
const ROUNDS: usize = 41;

/// The shortest duration of a measurement.
const ROUND: Duration = Duration::from_millis(20);

/// A measured operation.
pub struct Case<'a> {
    name: String,
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    times: u64,
    nanos: Vec<f64>,
}

impl<'a> Case<'a> {
    /// Measures repeated calls of `once`. Its result is not optimised away.
    pub fn new<T>(name: &str, mut once: impl FnMut() -> T + 'a) -> Self {
        let run = move |times| {
            let begun = Instant::now();
            for _ in 0..times {
                black_box(once());
            }
            begun.elapsed()
        };
        Self { name: name.to_owned(), run: Box::new(run), times: 1, nanos: Vec::new() }
    }

    /// Like `new`, with a preparation before each call that is not measured.
    pub fn prepared<T>(
        name: &str,
        mut prepare: impl FnMut() + 'a,
        mut once: impl FnMut() -> T + 'a,
    ) -> Self {
        let run = move |times| {
            let each = (0..times).map(|_| {
                prepare();
                let begun = Instant::now();
                black_box(once());
                begun.elapsed()
            });
            each.sum()
        };
        Self { name: name.to_owned(), run: Box::new(run), times: 1, nanos: Vec::new() }
    }

    /// The name of the case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs the operation this many times.
    pub fn run(&mut self, times: u64) {
        (self.run)(times);
    }

    /// Finds the number of runs for one measurement.
    fn calibrate(&mut self) {
        loop {
            if (self.run)(self.times) >= ROUND {
                return;
            }
            self.times *= 2;
        }
    }

    fn measure(&mut self) {
        let took = (self.run)(self.times);
        self.nanos.push(took.as_nanos() as f64 / self.times as f64);
    }

    /// The median of the measurements, in nanoseconds.
    pub fn median(&self) -> f64 {
        quantile(&self.nanos, 500)
    }
}

/// Measures the cases in turn, A B C A B C, and prints a table with the ratios to the first.
pub fn compare(title: &str, cases: &mut [Case<'_>]) {
    cases.iter_mut().for_each(Case::calibrate);
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::measure);
    }
    print_table(title, cases);
}

fn print_table(title: &str, cases: &[Case<'_>]) {
    let base = cases.first().map_or(1.0, Case::median);
    println!("\n| {title} | median | 10 % … 90 % | ratio |\n|---|---|---|---|");
    for case in cases {
        let (low, high) = (quantile(&case.nanos, 100), quantile(&case.nanos, 900));
        let (median, ratio) = (case.median(), case.median() / base);
        let spread = format!("{} … {}", with_unit(low), with_unit(high));
        println!("| {} | {} | {spread} | {ratio:.2} × |", case.name, with_unit(median));
    }
}

/// The quantile of the values, in thousandths: 500 is the median.
pub fn quantile(values: &[f64], per_mille: u16) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    hotswap_protocol::quantile(&sorted, per_mille).unwrap_or(f64::NAN)
}

/// Nanoseconds with a fitting unit.
pub fn with_unit(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}
