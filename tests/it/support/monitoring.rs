//! Debian's Prometheus and Alertmanager, on ports and in folders of their own, ended when dropped.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::wait_for;

/// A program that serves HTTP on a port that it chooses.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    /// Starts it, and waits until its log says where it listens, and it is ready to answer.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn start(mut command: Command, log: &Path) -> Self {
        let output = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut served = Self { child: command.spawn().unwrap(), url: String::new() };
        wait_for("it listens", || {
            let said = std::fs::read_to_string(log).unwrap();
            let ended = served.child.try_wait().unwrap();
            assert!(ended.is_none(), "{said}");
            let line = said.lines().find(|line| line.contains("Listening on"));
            let address = line.and_then(|line| line.split("address=").nth(1));
            served.url = address.map(|address| format!("http://{}", address.trim())).unwrap_or_default();
            address.is_some()
        });
        wait_for("it is ready", || {
            let ready = Command::new("curl").args(["-sf", "-m", "5", &format!("{}/-/ready", served.url)]).output();
            ready.unwrap().status.success()
        });
        served
    }

    /// What it answers to a GET, whose parameters are given apart.
    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> serde_json::Value {
        let mut command = Command::new("curl");
        command.args(["-s", "-m", "30", "--get", &format!("{}{path}", self.url)]);
        for (name, value) in parameters {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let output = command.output().unwrap().stdout;
        let said = || panic!("{path} {parameters:?}: {}", String::from_utf8_lossy(&output));
        serde_json::from_slice(&output).unwrap_or_else(|_| said())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Prometheus that scrapes and evaluates every second.
pub(crate) struct Prometheus(Served);

impl Prometheus {
    /// Starts it. The guards, each with its name and address, are scraped as the job `storage-guard`; what the rules find goes to the
    /// Alertmanager.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn start(home: &Path, guards: &[(&str, &str)], rules: Option<(&Path, &Alertmanager)>) -> Self {
        let guard = |(name, address): &(&str, &str)| {
            format!("      - {{ targets: [\"{address}\"], labels: {{ instance: {name} }} }}\n")
        };
        let mut config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             scrape_configs:\n  - job_name: storage-guard\n    static_configs:\n{}",
            guards.iter().map(guard).collect::<String>()
        );
        if let Some((rules, alertmanager)) = rules {
            let peer = alertmanager.0.url.trim_start_matches("http://");
            config += &format!(
                "rule_files: [\"{}\"]\n\
                 alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [\"{peer}\"] }}] }}] }}\n",
                rules.display()
            );
        }
        let path = home.join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display())).arg("--web.listen-address=127.0.0.1:0");
        command.arg(format!("--storage.tsdb.path={}", home.join("prometheus").display()));
        Self(Served::start(command, &home.join("prometheus.log")))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// The alerts of its rules, pending and firing.
    pub(crate) fn alerts(&self) -> Vec<serde_json::Value> {
        self.0.get("/api/v1/alerts", &[])["data"]["alerts"].as_array().unwrap().clone()
    }

    /// The names of its rules that cannot be evaluated, and why.
    pub(crate) fn broken_rules(&self) -> Vec<String> {
        let answer = self.0.get("/api/v1/rules", &[]);
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(!rules.is_empty(), "{answer}");
        let broken = rules.into_iter().filter(|rule| rule["health"] != "ok");
        broken.map(|rule| format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"])).collect()
    }

    /// What an expression is now: labels and value of each series.
    pub(crate) fn query(&self, expression: &str) -> Vec<(serde_json::Value, f64)> {
        let result = result(expression, &self.0.get("/api/v1/query", &[("query", expression)]));
        let value = |series: &serde_json::Value| series["value"][1].as_str().unwrap().parse().unwrap();
        result.iter().map(|series| (series["metric"].clone(), value(series))).collect()
    }

    /// What an expression was since then, Unix seconds, second by second: the values of all series.
    pub(crate) fn query_range(&self, expression: &str, since: i64, until: i64) -> Vec<f64> {
        let (since, until) = (since.to_string(), until.to_string());
        let parameters = [("query", expression), ("start", &since), ("end", &until), ("step", "1")];
        let result = result(expression, &self.0.get("/api/v1/query_range", &parameters));
        let samples = result.iter().flat_map(|series| series["values"].as_array().unwrap());
        samples.map(|sample| sample[1].as_str().unwrap().parse().unwrap()).collect()
    }
}

/// The series of an answer, which must be one.
fn result(expression: &str, answer: &serde_json::Value) -> Vec<serde_json::Value> {
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    assert!(matches!(answer["data"]["resultType"].as_str(), Some("vector" | "matrix")), "{expression}: {answer}");
    answer["data"]["result"].as_array().unwrap().clone()
}

/// An Alertmanager that tells nobody.
pub(crate) struct Alertmanager(Served);

impl Alertmanager {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn start(home: &Path) -> Self {
        let path = home.join("alertmanager.yml");
        std::fs::write(&path, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n").unwrap();
        Self::with(home, &path)
    }

    /// Starts it with this configuration.
    pub(crate) fn with(home: &Path, config: &Path) -> Self {
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", config.display())).arg("--web.listen-address=127.0.0.1:0");
        command.arg(format!("--storage.path={}", home.join("alertmanager").display())).arg("--cluster.listen-address=");
        Self(Served::start(command, &home.join("alertmanager.log")))
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// The alerts that it knows, and that are not over.
    pub(crate) fn alerts(&self) -> Vec<serde_json::Value> {
        self.0.get("/api/v2/alerts", &[]).as_array().unwrap().clone()
    }
}
