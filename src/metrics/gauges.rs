//! What goes up and down: taken from what is known when somebody asks.

use std::collections::HashMap;

use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Families of gauges, in the order in which they were named first.
#[derive(Default)]
pub(super) struct Gauges {
    families: Vec<(&'static str, &'static str, Vec<Metric>)>,
    place: HashMap<&'static str, usize>,
}

impl Gauges {
    /// Names a family, which may stay without values.
    pub(super) fn family(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        let at = *self.place.entry(name).or_insert_with(|| {
            self.families.push((name, help, Vec::new()));
            self.families.len() - 1
        });
        Family(&mut self.families[at].2)
    }

    /// All of them, for the encoder. A family without values is left out, as the format asks.
    pub(super) fn gather(self) -> Vec<MetricFamily> {
        let with_values = self.families.into_iter().filter(|(_, _, metrics)| !metrics.is_empty());
        with_values
            .map(|(name, help, metrics)| {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_help(help.to_owned());
                family.set_field_type(MetricType::GAUGE);
                family.set_metric(metrics);
                family
            })
            .collect()
    }
}

/// One family.
pub(super) struct Family<'a>(&'a mut Vec<Metric>);

impl Family<'_> {
    /// Sets the value for these labels.
    pub(super) fn set(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let mut metric = Metric::default();
        let mut pairs: Vec<LabelPair> = Vec::with_capacity(labels.len());
        for (name, text) in labels {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*text).to_owned());
            pairs.push(pair);
        }
        metric.set_label(pairs);
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        self.0.push(metric);
        self
    }
}
