//! Metrics whose cells are made once: counting is one atomic addition, without a look-up or a lock.

use std::marker::PhantomData;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use super::Label;

/// From 50 µs to 10 s.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Counters by one label.
pub(super) struct Counters<L> {
    vec: IntCounterVec,
    cells: Vec<IntCounter>,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    pub(super) fn new(name: &str, help: &str, label: &str) -> Result<Self, Error> {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        let cells = L::ALL
            .iter()
            .map(|value| vec.with_label_values(&[value.text()]))
            .collect();
        Ok(Self {
            vec,
            cells,
            label: PhantomData,
        })
    }

    pub(super) fn count(&self, label: L) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.inc();
        }
    }
}

/// Counters by two labels.
pub(super) struct Counters2<A, B> {
    vec: IntCounterVec,
    cells: Vec<IntCounter>,
    labels: PhantomData<(A, B)>,
}

impl<A: Label, B: Label> Counters2<A, B> {
    pub(super) fn new(name: &str, help: &str, labels: [&str; 2]) -> Result<Self, Error> {
        let vec = IntCounterVec::new(Opts::new(name, help), &labels)?;
        let cell = |a: &A, b: &B| vec.with_label_values(&[a.text(), b.text()]);
        let cells = A::ALL
            .iter()
            .flat_map(|a| B::ALL.iter().map(move |b| cell(a, b)))
            .collect();
        Ok(Self {
            vec,
            cells,
            labels: PhantomData,
        })
    }

    pub(super) fn count(&self, a: A, b: B) {
        if let Some(cell) = self.cells.get(a.index() * B::ALL.len() + b.index()) {
            cell.inc();
        }
    }
}

/// Durations by one label.
pub(super) struct Durations<L> {
    vec: HistogramVec,
    cells: Vec<Histogram>,
    label: PhantomData<L>,
}

impl<L: Label> Durations<L> {
    pub(super) fn new(name: &str, help: &str, label: &str) -> Result<Self, Error> {
        let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), &[label])?;
        let cells = L::ALL
            .iter()
            .map(|value| vec.with_label_values(&[value.text()]))
            .collect();
        Ok(Self {
            vec,
            cells,
            label: PhantomData,
        })
    }

    pub(super) fn observe(&self, label: L, took: std::time::Duration) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.observe(took.as_secs_f64());
        }
    }
}

/// Gauges by one label.
pub(super) struct Gauges<L> {
    vec: IntGaugeVec,
    cells: Vec<IntGauge>,
    label: PhantomData<L>,
}

impl<L: Label> Gauges<L> {
    pub(super) fn new(name: &str, help: &str, label: &str) -> Result<Self, Error> {
        let vec = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        let cells = L::ALL
            .iter()
            .map(|value| vec.with_label_values(&[value.text()]))
            .collect();
        Ok(Self {
            vec,
            cells,
            label: PhantomData,
        })
    }

    pub(super) fn cell(&self, label: L) -> Option<&IntGauge> {
        self.cells.get(label.index())
    }
}

macro_rules! collected {
    ($($family:ident<$($label:ident),+>)+) => {$(
        impl<$($label: Label),+> Collector for $family<$($label),+> {
            fn desc(&self) -> Vec<&Desc> {
                self.vec.desc()
            }

            fn collect(&self) -> Vec<MetricFamily> {
                self.vec.collect()
            }
        }

        impl<$($label),+> Clone for $family<$($label),+> {
            fn clone(&self) -> Self {
                Self { vec: self.vec.clone(), cells: self.cells.clone(), ..*self }
            }
        }
    )+};
}

collected!(Counters<L> Counters2<A, B> Durations<L> Gauges<L>);
