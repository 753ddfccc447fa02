//! Alerts to an Alertmanager, by its API of version 2.
//!
//! It knows an alert by its labels, the severity among them, and takes it for resolved at its `endsAt`, or once that was not moved on
//! for a while: so what fires is told again and again. All else it does by itself: grouping, waiting, repeating, silencing.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use serde::Serialize;

use super::body::{Body, one_line};
use super::delivery::Outcome;
use super::http::Target;
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;
use crate::system::host_name;

/// The kind of a body that tells of an end.
const RESOLVED: &str = "alert.resolved";

/// For so many rounds it holds an alert that it was not told of again: some may fail.
const ROUNDS: u32 = 5;

/// An Alertmanager.
pub(super) struct Alertmanager {
    target: Target,
    /// How long an alert holds by itself.
    holds: Duration,
    instance: String,
    generator_url: Option<String>,
}

/// An alert as it is posted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<&'a str>,
}

impl Alertmanager {
    /// The Alertmanager at an address, with or without a path before `/api`, which is told again after `every`. Loads the system's
    /// certificates for `https`: may block.
    pub(super) fn new(url: &Secret, every: Duration, generator_url: Option<String>) -> Result<Self, String> {
        let target = Target::new(url)?;
        let api = api(target.url());
        let holds = every.saturating_mul(ROUNDS);
        Ok(Self { target: target.at(api), holds, instance: host_name(), generator_url })
    }

    /// Tells of all these alerts at once. The caller bounds the time that it may take.
    pub(super) async fn send(&self, bodies: &[&Body], now: Timestamp, log: &mut Vec<String>) -> Outcome {
        let alerts: Vec<Posted<'_>> = bodies.iter().map(|body| self.posted(body, now)).collect();
        match self.target.send(self.target.post().json(&alerts), log).await {
            Ok(mut answer) => match answer.judge(now) {
                // What it says is the reason, and the only trace of it.
                Outcome::GivenUp(said) => {
                    let why = self.target.text(&mut answer, log).await;
                    Outcome::GivenUp(one_line(&format!("{said}: {why}"), 500))
                }
                other @ (Outcome::Delivered(_) | Outcome::Again { .. }) => other,
            },
            Err(outcome) => outcome,
        }
    }

    fn posted<'a>(&'a self, body: &'a Body, now: Timestamp) -> Posted<'a> {
        let data = &body.data;
        let mut labels = BTreeMap::from([
            ("alertname", data.alert.as_str()),
            ("severity", &data.severity),
            ("instance", &self.instance),
            ("job", "storage-guard"),
        ]);
        labels.extend(data.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let annotations = BTreeMap::from([
            ("summary", data.summary.as_str()),
            ("description", &data.description),
            ("runbook_url", &data.runbook),
        ]);
        let ends = if body.kind == RESOLVED { time_of(&body.timestamp).unwrap_or(now) } else { now.plus(self.holds) };
        // An alert that ends before it begins is refused; a clock that went back makes one.
        let starts = time_of(&data.since).unwrap_or(now).min(now).min(ends);
        Posted {
            labels,
            annotations,
            starts_at: starts.to_string(),
            ends_at: ends.to_string(),
            generator_url: self.generator_url.as_deref(),
        }
    }
}

/// The time that stands in a body.
fn time_of(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
}

/// Where alerts are posted to.
fn api(url: &Url) -> Url {
    let mut api = url.clone();
    let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
    api.set_path(&path);
    api
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{body, condition};
    use super::*;
    use crate::domain::alert::AlertName;

    const FIRING: &str = "alert.firing";
    const SINCE: Timestamp = Timestamp::from_secs(1000);

    /// Start and end of the alert as it is posted at `now`, whose message was made at `made`.
    fn times(kind: &str, made: i64, now: i64) -> (String, String) {
        let manager = Alertmanager::new(&Secret::new("http://127.0.0.1:9/"), Duration::from_secs(60), None).unwrap();
        let condition = condition(AlertName::VolumeExhausted, 0, b"x");
        let body = body(kind, &condition, SINCE, Timestamp::from_secs(made));
        let posted = manager.posted(&body, Timestamp::from_secs(now));
        assert_eq!(posted.labels["alertname"], "VolumeExhausted");
        assert_eq!((posted.labels["severity"], posted.labels["volume"]), ("critical", "data"));
        assert!(!posted.labels["instance"].is_empty());
        assert_eq!(posted.annotations["summary"], "space does not come back");
        (posted.starts_at, posted.ends_at)
    }

    #[test]
    fn what_fires_holds_for_five_rounds_from_now_and_what_ended_ends_when_it_did() {
        let at = |secs: i64| Timestamp::from_secs(secs).to_string();
        for (kind, made, now, starts, ends) in [
            (FIRING, 1030, 1030, 1000, 1330),
            // An hour later, after an outage.
            (FIRING, 1030, 4630, 1000, 4930),
            (RESOLVED, 2000, 2000, 1000, 2000),
            (RESOLVED, 2000, 5600, 1000, 2000),
            // The clock went back.
            (RESOLVED, 500, 500, 500, 500),
            (FIRING, 500, 500, 500, 800),
        ] {
            assert_eq!(times(kind, made, now), (at(starts), at(ends)), "{kind} made at {made}, now {now}");
        }
    }

    #[test]
    fn alerts_are_posted_below_the_path_that_was_given() {
        for (url, expected) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://u:p@host/alertmanager/", "https://u:p@host/alertmanager/api/v2/alerts"),
        ] {
            assert_eq!(api(&Url::parse(url).unwrap()).as_str(), expected);
        }
    }
}
