//! One unit of an experiment: what came together of each reading, and what that changes in the sums of its arm.

use std::collections::BTreeMap;

use flywheel_core::metric::{self, MetricKind};
use flywheel_core::plan::{Part, Plan, Reading};
use flywheel_storage::exact::Double;
use flywheel_storage::statistics::{COLUMNS, UnitSums};
use serde::{Deserialize, Serialize};

/// Counts units that were assigned.
pub(super) const ASSIGNED: i64 = -1;
/// Counts units that were seen in two arms.
pub(super) const IN_TWO_ARMS: i64 = -2;
/// Counts units that a change of the weights moved.
pub(super) const MOVED: i64 = -3;

/// Whether a unit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Counts = 0,
    InTwoArms = 1,
    Moved = 2,
}

impl Standing {
    pub(super) fn of(number: i64) -> Self {
        match number {
            0 => Self::Counts,
            1 => Self::InTwoArms,
            _ => Self::Moved,
        }
    }

    /// Where units are counted that stand so.
    fn reading(self) -> i64 {
        match self {
            Self::Counts => ASSIGNED,
            Self::InTwoArms => IN_TWO_ARMS,
            Self::Moved => MOVED,
        }
    }
}

/// Numerator and denominator of a reading, and both before the unit's first exposure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Value {
    pub(super) x: Double,
    pub(super) y: Double,
    pub(super) before: [f64; 2],
}

/// A unit that was exposed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    pub(super) epoch: u32,
    pub(super) arm: u32,
    pub(super) first_at: i64,
    pub(super) day: i64,
    pub(super) standing: Standing,
    /// Tags and their values at the first exposure, as `tag=value`.
    pub(super) segments: Vec<String>,
    pub(super) values: BTreeMap<usize, Value>,
}

/// Where a unit's contribution goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellKey {
    pub(super) experiment: String,
    pub(super) epoch: u32,
    pub(super) arm: u32,
    pub(super) reading: i64,
    pub(super) segment: String,
    pub(super) day: i64,
}

/// A histogram of one arm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HistogramKey {
    pub(super) experiment: String,
    pub(super) epoch: u32,
    pub(super) arm: u32,
    pub(super) reading: u32,
}

/// What changes in sums and histograms.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pub(super) cells: BTreeMap<CellKey, UnitSums>,
    pub(super) histograms: BTreeMap<HistogramKey, BTreeMap<i32, i64>>,
}

/// An experiment as far as its units are counted.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) readings: Vec<Reading>,
}

impl Counted {
    pub(super) fn new(name: String, plan: Plan) -> Self {
        Self {
            name,
            readings: plan.readings(),
            plan,
        }
    }

    /// The place of the reading of a metric that takes in all, and, for the primary metric, the one for this tenure.
    fn places(&self, metric: usize, is_early: bool) -> impl Iterator<Item = usize> {
        let tenure = if is_early { Part::Early } else { Part::Late };
        self.readings
            .iter()
            .enumerate()
            .filter(move |(_, reading)| {
                reading.metric == metric && (reading.part == Part::Whole || reading.part == tenure)
            })
            .map(|(place, _)| place)
    }

    fn kind(&self, place: usize) -> MetricKind {
        self.plan.metrics[self.readings[place].metric].kind
    }
}

/// What the histogram of an ordinal metric and the sums of a reading hold of a unit.
fn contribution(counted: &Counted, place: usize, value: &Value) -> Option<([f64; COLUMNS], bool)> {
    let reading = counted.readings[place];
    let metric = &counted.plan.metrics[reading.metric];
    let mut x = value.x.value();
    let y = match metric.kind {
        MetricKind::Count => 1.0,
        _ => value.y.value(),
    };
    if y == 0.0 {
        return None;
    }
    let mut is_capped = false;
    let [mut x_before, y_before] = value.before;
    if reading.part == Part::Capped {
        let (most, most_before) = (metric.most(y), metric.most(y_before));
        is_capped = x > most;
        (x, x_before) = (x.min(most), x_before.min(most_before));
    }
    Some(([x, y, x_before, y_before], is_capped))
}

impl Unit {
    /// Whether a call began while the unit was new.
    pub(super) fn is_early(&self, counted: &Counted, started_at: i64) -> bool {
        started_at < self.first_at + counted.plan.newcomer_seconds() * 1_000_000
    }

    fn cell(&self, counted: &Counted, reading: i64, segment: &str, day: i64) -> CellKey {
        CellKey {
            experiment: counted.name.clone(),
            epoch: self.epoch,
            arm: self.arm,
            reading,
            segment: segment.to_owned(),
            day,
        }
    }

    /// Counts the unit itself, as assigned or as dropped, or takes it back.
    fn count(&self, counted: &Counted, reading: i64, sign: i64, deltas: &mut Deltas) {
        let cell = self.cell(counted, reading, "", self.day);
        deltas.cells.entry(cell).or_default().n += sign;
    }

    /// Adds all that the unit comes to, but for what calls measured for quantiles, or takes it away.
    pub(super) fn enter(&self, counted: &Counted, is_added: bool, deltas: &mut Deltas) {
        let sign = if is_added { 1 } else { -1 };
        self.count(counted, ASSIGNED, sign, deltas);
        match self.standing {
            Standing::Counts => {
                for place in 0..counted.readings.len() {
                    let value = self.value_for(counted, place);
                    self.put(counted, place, &value, is_added, deltas);
                }
            }
            dropped => self.count(counted, dropped.reading(), sign, deltas),
        }
    }

    /// Takes over what metrics were before the first exposure.
    pub(super) fn keep_before(&mut self, known: &Self) {
        for (place, value) in &known.values {
            if value.before != [0.0; 2] {
                self.values.entry(*place).or_default().before = value.before;
            }
        }
    }

    /// Says anew what a metric was before the first exposure.
    pub(super) fn was_before(
        &mut self,
        counted: &Counted,
        metric: usize,
        before: [f64; 2],
        deltas: &mut Deltas,
    ) {
        let is_its = |reading: &Reading, part| reading.metric == metric && reading.part == part;
        let whole = |reading: &Reading| is_its(reading, Part::Whole);
        let capped = |reading: &Reading| is_its(reading, Part::Capped);
        let Some(place) = counted.readings.iter().position(whole) else {
            return;
        };
        if self.value_for(counted, place).before == before {
            return;
        }
        let touched: Vec<usize> = (place..counted.readings.len())
            .filter(|p| *p == place || capped(&counted.readings[*p]))
            .collect();
        for place in &touched {
            let value = self.value_for(counted, *place);
            self.put(counted, *place, &value, false, deltas);
        }
        self.values.entry(place).or_default().before = before;
        for place in &touched {
            let value = self.value_for(counted, *place);
            self.put(counted, *place, &value, true, deltas);
        }
    }

    /// Begins to count: units' totals have a value, 0, from the exposure on.
    pub(super) fn begin(&mut self, counted: &Counted, deltas: &mut Deltas) {
        self.count(counted, ASSIGNED, 1, deltas);
        for place in 0..counted.readings.len() {
            let is_delay = counted.readings[place].part == Part::Delay;
            if counted.kind(place) == MetricKind::Count && !is_delay {
                let value = self.value_for(counted, place);
                self.put(counted, place, &value, true, deltas);
            }
        }
    }

    /// Takes the unit out of all sums.
    pub(super) fn drop_from(&mut self, counted: &Counted, as_what: Standing, deltas: &mut Deltas) {
        for place in 0..counted.readings.len() {
            let value = self.value_for(counted, place);
            self.put(counted, place, &value, false, deltas);
        }
        self.values.clear();
        self.standing = as_what;
        self.count(counted, as_what.reading(), 1, deltas);
    }

    /// Adds to, or takes from, the readings of a metric.
    pub(super) fn change(
        &mut self,
        counted: &Counted,
        metric: usize,
        is_early: bool,
        (x, y): (f64, f64),
        deltas: &mut Deltas,
    ) {
        let stored: Vec<usize> = counted.places(metric, is_early).collect();
        let touched = |place: usize| {
            let reading = counted.readings[place];
            stored.contains(&place) || (reading.metric == metric && reading.part == Part::Capped)
        };
        let places: Vec<usize> = (0..counted.readings.len())
            .filter(|p| touched(*p))
            .collect();
        for place in &places {
            let before = self.value_for(counted, *place);
            self.put(counted, *place, &before, false, deltas);
        }
        for place in &stored {
            let value = self.values.entry(*place).or_default();
            value.x += x.into();
            value.y += y.into();
        }
        for place in &places {
            let after = self.value_for(counted, *place);
            self.put(counted, *place, &after, true, deltas);
        }
    }

    /// Adds how long an outcome took, or takes it away.
    pub(super) fn delay(
        &mut self,
        counted: &Counted,
        metric: usize,
        (microseconds, outcomes): (f64, f64),
        deltas: &mut Deltas,
    ) {
        let is_it = |reading: &Reading| reading.metric == metric && reading.part == Part::Delay;
        let Some(place) = counted.readings.iter().position(is_it) else {
            return;
        };
        let before = self.value_for(counted, place);
        self.put(counted, place, &before, false, deltas);
        let value = self.values.entry(place).or_default();
        value.x += microseconds.into();
        value.y += outcomes.into();
        let after = *value;
        self.put(counted, place, &after, true, deltas);
    }

    /// The value of a reading; that of a capped one is the whole one's.
    fn value_for(&self, counted: &Counted, place: usize) -> Value {
        let reading = counted.readings[place];
        let stored = match reading.part {
            // The whole reading of a metric stands just before its capped one.
            Part::Capped => place.saturating_sub(1),
            _ => place,
        };
        self.values.get(&stored).copied().unwrap_or_default()
    }

    fn put(
        &self,
        counted: &Counted,
        place: usize,
        value: &Value,
        is_added: bool,
        deltas: &mut Deltas,
    ) {
        let sign = if is_added { 1 } else { -1 };
        if counted.readings[place].part == Part::Delay {
            if value.y != Double::default() {
                let class = metric::bucket(value.x.value() / value.y.value());
                self.classify(counted, place, class, sign, deltas);
            }
            return;
        }
        let Some((columns, is_capped)) = contribution(counted, place, value) else {
            return;
        };
        let mut into = |cell| {
            let sums: &mut UnitSums = deltas.cells.entry(cell).or_default();
            sums.put(&columns, is_added);
            sums.capped += if is_capped { sign } else { 0 };
        };
        into(self.cell(counted, place as i64, "", self.day));
        let reading = counted.readings[place];
        let metric = &counted.plan.metrics[reading.metric];
        let is_whole = reading.part == Part::Whole;
        if is_whole && counted.plan.primary.as_ref() == Some(&metric.name) {
            for segment in &self.segments {
                into(self.cell(counted, place as i64, segment, 0));
            }
        }
        let class = match metric.kind {
            MetricKind::Ordinal => metric.grade(columns[0] / columns[1]),
            MetricKind::Count => metric::bucket(columns[0]),
            _ => return,
        };
        if is_whole {
            self.classify(counted, place, class, sign, deltas);
        }
    }

    /// Counts a value in a histogram.
    pub(super) fn classify(
        &self,
        counted: &Counted,
        place: usize,
        class: i32,
        sign: i64,
        deltas: &mut Deltas,
    ) {
        let key = HistogramKey {
            experiment: counted.name.clone(),
            epoch: self.epoch,
            arm: self.arm,
            reading: place as u32,
        };
        let classes = deltas.histograms.entry(key).or_default();
        *classes.entry(class).or_default() += sign;
    }
}

/// The values as a row keeps them.
pub(super) fn write_values(values: &BTreeMap<usize, Value>) -> String {
    let rows: Vec<Vec<f64>> = values
        .iter()
        .map(|(place, value)| {
            let Value { x, y, before } = *value;
            let mut row = vec![*place as f64, x.high, y.high];
            if x.low != 0.0 || y.low != 0.0 || before != [0.0; 2] {
                row.extend([x.low, y.low, before[0], before[1]]);
            }
            row
        })
        .collect();
    serde_json::to_string(&rows).unwrap_or_else(|_| "[]".to_owned())
}

/// Reads what [`write_values`] wrote; what cannot be read is none.
pub(super) fn read_values(text: &str) -> BTreeMap<usize, Value> {
    let rows: Vec<Vec<f64>> = serde_json::from_str(text).unwrap_or_default();
    rows.into_iter()
        .filter(|row| row.len() >= 3)
        .map(|row| {
            let low = |place: usize| row.get(place).copied().unwrap_or(0.0);
            let value = Value {
                x: Double {
                    high: row[1],
                    low: low(3),
                },
                y: Double {
                    high: row[2],
                    low: low(4),
                },
                before: [low(5), low(6)],
            };
            (row[0] as usize, value)
        })
        .collect()
}
