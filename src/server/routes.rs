//! The addresses, and what is asked of the backend for each.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router, middleware};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::archive::{CopiesWanted, RestoreRequest};
use super::auth::{Auth, Caller};
use super::backend::{Backend, Plans};
use super::calls::Calls;
use super::deletions::DeletionRequest;
use super::events::{Listeners, Telling};
use super::gaps::GapQuery;
use super::gate::{Gate, careful, gate, panicked};
use super::holds::HoldRequest;
use super::hook_records::Posted;
use super::listen::Limits;
use super::orphans::{Remedied, RemedyRequest};
use super::query::{JsonBody, Named, Params};
use super::records::NewSilence;
use super::refusal::Refusal;
use super::shapes::{Page, Status};
use crate::domain::remedy::RemedyKind;

/// A reason that a person gives has at most so many characters.
const REASON: usize = 1000;
/// Scrapes at once.
const SCRAPES: usize = 4;
/// How long a scrape may take: Prometheus' own patience.
const SCRAPE: Duration = Duration::from_secs(10);

/// Channels that are tried at once.
const TRIES: usize = 4;
/// How long a try may take: longer than the notifier's own patience, so that the reason is what is answered.
const TRY: Duration = Duration::from_secs(90);

/// Looks at jobs at once, for those who listen.
const NEWS: usize = 4;

/// The first page, up to what is wrong.
const INDEX: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>storage-guard</title>
<h1>storage-guard</h1>
";

/// Where everything is.
const LINKS: &str = "<ul>
<li><a href=\"/metrics\">Metrics</a>
<li><a href=\"/-/healthy\">Healthy?</a> <a href=\"/-/ready\">Ready?</a>
<li><a href=\"/api/v1/status\">Status</a>
<li><a href=\"/api/v1/plan\">Plan</a>
<li><a href=\"/api/v1/streams\">Streams</a>
<li><a href=\"/api/v1/journal\">Journal</a>
<li><a href=\"/api/v1/failures\">Failures</a>
<li><a href=\"/api/v1/caps\">Caps</a>
<li><a href=\"/api/v1/archives\">Archives</a>
<li><a href=\"/api/v1/holds\">Holds</a>
<li><a href=\"/api/v1/orphans\">Orphans</a>
<li><a href=\"/api/v1/missing\">Missing files</a>
<li><a href=\"/api/v1/catalogues\">Catalogues</a>
<li><a href=\"/api/v1/alerts\">Alerts</a>
<li><a href=\"/api/v1/silences\">Silences</a>
<li><a href=\"/api/v1/channels\">Channels</a>
</ul>
</html>
";

/// What the handlers share. Each kind of call has its own places, so that none waits behind another.
struct App {
    backend: Arc<dyn Backend>,
    api: Calls,
    scrapes: Calls,
    probes: Calls,
    reloads: Calls,
    tries: Calls,
    /// Looks at jobs for those who listen.
    news: Arc<Calls>,
    listeners: Listeners,
}

type Shared = State<Arc<App>>;
type Who = Extension<Caller>;

impl App {
    fn new(backend: Arc<dyn Backend>, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            backend,
            api: Calls::new(limits.calls, limits.call_deadline),
            scrapes: Calls::new(SCRAPES, SCRAPE.min(limits.call_deadline)),
            probes: Calls::new(SCRAPES, SCRAPE.min(limits.call_deadline)),
            reloads: Calls::new(1, limits.call_deadline),
            tries: Calls::new(TRIES, TRY),
            news: Arc::new(Calls::new(NEWS, limits.call_deadline)),
            listeners: Listeners::default(),
        })
    }

    /// Asks for something, and answers with it as JSON, made on the call's own thread since it may be large.
    async fn answer<T: Serialize>(
        &self,
        status: StatusCode,
        question: impl FnOnce(&dyn Backend) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response, Refusal> {
        let body = self.api.ask(&self.backend, |backend| {
            let answer = question(backend)?;
            serde_json::to_vec(&answer).map_err(|error| {
                tracing::error!(%error, "An answer cannot be written as JSON.");
                Refusal::internal()
            })
        });
        let body = body.await??;
        Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
    }

    async fn show<T: Serialize>(
        &self,
        question: impl FnOnce(&dyn Backend) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response, Refusal> {
        self.answer(StatusCode::OK, question).await
    }
}

/// Everything: metrics, state, API, the first page.
pub fn router(backend: Arc<dyn Backend>, auth: Arc<Auth>, limits: &Limits) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/plan", get(plans))
        .route("/plans/{id}/apply", post(apply))
        .route("/jobs/{id}", get(job).merge(delete(cancel)))
        .route("/jobs/{id}/items", get(job_items))
        .route("/jobs/{id}/events", get(job_events))
        .route("/deletions", post(delete_recordings))
        .route("/holds", get(holds).post(hold))
        .route("/holds/{id}", delete(let_go))
        .route("/archives", get(archives))
        .route("/archives/copies", get(copies))
        .route("/archive/restore", post(restore))
        .route("/plan/explain", get(explain))
        .route("/streams", get(streams))
        .route("/journal", get(journal))
        .route("/journal/explain", get(gap))
        .route("/journal/verify", get(verify))
        .route("/caps", get(caps))
        .route("/caps/{tree}/{cap}/acknowledge", post(acknowledge))
        .route("/orphans", get(orphans))
        .route("/orphans/{remedy}", post(remedy))
        .route("/missing", get(missing))
        .route("/missing/remove", post(remove_rows))
        .route("/catalogues", get(catalogues))
        .route("/catalogues/{name}/accept", post(accept))
        .route("/hook-records", post(hook_records))
        .route("/failures", get(failures))
        .route("/failures/retry", post(retry_all))
        .route("/failures/{id}/retry", post(retry))
        .route("/failures/{id}/close", post(close))
        .route("/alerts", get(alerts))
        .route("/silences", get(silences).post(silence))
        .route("/silences/{id}", delete(end_silence))
        .route("/channels/{name}/test", post(test_channel))
        .route("/channels", get(channels));
    let all = machine_routes().route("/", get(index)).nest("/api/v1", api);
    finish(all, backend, auth, limits)
}

/// `/metrics` and `/-/` alone, for a Prometheus elsewhere.
pub fn metrics_router(backend: Arc<dyn Backend>, auth: Arc<Auth>, limits: &Limits) -> Router {
    finish(machine_routes(), backend, auth, limits)
}

fn machine_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics).layer(CompressionLayer::new()))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload))
}

/// What surrounds all routes. The last layer is the outermost: every answer, also to a panic, bears the headers.
fn finish(routes: Router<Arc<App>>, backend: Arc<dyn Backend>, auth: Arc<Auth>, limits: &Limits) -> Router {
    let unknown = || async { Refusal::not_found("there is nothing at this address; `GET /` lists what there is") };
    let other_method =
        || async { Refusal::new(405, "method_not_allowed", "this address has other methods; see the header `Allow`") };
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        .with_state(App::new(backend, limits))
        .layer(middleware::from_fn_with_state(Arc::new(Gate::new(auth, *limits)), gate))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::map_response(careful))
}

/// The first page. It is the way to see what no channel tells.
async fn index(State(app): Shared) -> Html<String> {
    let wrong = app.probes.ask(&app.backend, |backend| wrong(&backend.status())).await;
    let banner = wrong.unwrap_or_else(|_| alert("The guard does not answer."));
    Html(format!("{INDEX}{banner}{LINKS}"))
}

/// What is wrong that a person should see first.
fn wrong(status: &Status) -> String {
    let mut out = String::new();
    if let Some(since) = &status.delivery_failing_since {
        // A time is digits and letters: nothing in it is markup.
        out.push_str(&alert(&format!(
            "ALERTS ARE NOT DELIVERED since {since}: no channel works. See <a href=\"/api/v1/channels\">the channels</a>."
        )));
    }
    for volume in &status.volumes {
        if let Some(promises) = volume.promises.as_ref().filter(|promises| !promises.fits) {
            let (name, sentence) = (plain(&volume.name), plain(&promises.sentence));
            out.push_str(&alert(&format!(
                "Volume {name}: {sentence}. See <a href=\"/api/v1/streams\">the streams</a>."
            )));
        }
    }
    out
}

fn alert(text: &str) -> String {
    format!("<p role=\"alert\"><strong>{text}</strong>\n")
}

/// A text without markup (promise 12).
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

async fn metrics(State(app): Shared) -> Result<Response, Refusal> {
    let text = app.scrapes.ask(&app.backend, |backend| backend.metrics()).await?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn ready(State(app): Shared) -> Result<&'static str, Refusal> {
    if app.probes.ask(&app.backend, |backend| backend.ready()).await? {
        return Ok("ready\n");
    }
    let message = "not every volume was probed yet; it is ready once each was, or its deadline has passed";
    Err(Refusal::unavailable("not_ready", message))
}

async fn reload(State(app): Shared, Extension(caller): Who) -> Result<Response, Refusal> {
    match app.reloads.ask(&app.backend, move |backend| backend.reload(&caller.0)).await? {
        Ok(()) => Ok(axum::Json(json!({"reloaded": true})).into_response()),
        Err(problems) => Err(Refusal::bad_request("bad_configuration", problems.join("\n"))),
    }
}

async fn status(State(app): Shared) -> Result<Response, Refusal> {
    app.show(|backend| Ok(backend.status())).await
}

async fn explain(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let path = params.get("path")?.unwrap_or_default().to_owned();
    let encoded = params.get("encoded")? == Some("true");
    app.show(move |backend| Ok(Page { items: backend.explain(&path, encoded)?, next: None })).await
}

async fn streams(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let (tree, page) = (params.get("tree")?.map(str::to_owned), params.page()?);
    app.show(move |backend| page.slice(backend.streams(tree.as_deref())?)).await
}

async fn plans(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let volume = params.get("volume")?.map(str::to_owned);
    let page = params.page()?;
    app.show(move |backend| match backend.plans(volume.as_deref())? {
        Plans::One(plan) => Ok(Plans::One(plan)),
        Plans::All(all) => Ok(Plans::All(page.slice(all.items)?)),
    })
    .await
}

async fn apply(State(app): Shared, Extension(caller): Who, Named(id): Named<String>) -> Result<Response, Refusal> {
    let job = app.api.ask(&app.backend, move |backend| backend.apply(&id, &caller.0)).await??;
    Ok(begun(job))
}

/// A job was made: its number, and where it is.
fn begun(job: u64) -> Response {
    let location = [(header::LOCATION, format!("/api/v1/jobs/{job}"))];
    (StatusCode::ACCEPTED, location, axum::Json(json!({"job": job}))).into_response()
}

async fn job(State(app): Shared, Named(id): Named<u64>) -> Result<Response, Refusal> {
    app.show(move |backend| backend.job(id)).await
}

async fn job_items(State(app): Shared, Named(id): Named<u64>, params: Params) -> Result<Response, Refusal> {
    let (outcome, page) = (params.outcome()?, params.page()?);
    app.show(move |backend| backend.job_items(id, outcome, &page)).await
}

async fn job_events(State(app): Shared, Named(id): Named<u64>) -> Result<Response, Refusal> {
    let place = app.listeners.enter()?;
    let feed = app.news.ask(&app.backend, move |backend| backend.job_feed(id)).await??;
    let (backend, calls) = (app.backend.clone(), app.news.clone());
    Ok(Telling { backend, calls, id, feed, place }.begin())
}

async fn delete_recordings(
    State(app): Shared,
    Extension(caller): Who,
    JsonBody(request): JsonBody<DeletionRequest>,
) -> Result<Response, Refusal> {
    Ok(begun(app.api.ask(&app.backend, move |backend| backend.delete(&request, &caller.0)).await??))
}

async fn archives(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.slice(backend.archives())).await
}

async fn copies(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let key = |key| Ok::<_, Refusal>(params.get(key)?.map(str::to_owned));
    let wanted = CopiesWanted { archive: key("archive")?, tree: key("tree")?, stream: key("stream")? };
    let page = params.page()?;
    app.show(move |backend| backend.copies(&wanted, &page)).await
}

async fn restore(
    State(app): Shared,
    Extension(caller): Who,
    JsonBody(request): JsonBody<RestoreRequest>,
) -> Result<Response, Refusal> {
    Ok(begun(app.api.ask(&app.backend, move |backend| backend.restore(&request, &caller.0)).await??))
}

async fn holds(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.page(backend.holds().into_iter(), |hold| hold.id)).await
}

async fn hold(
    State(app): Shared,
    Extension(caller): Who,
    JsonBody(wanted): JsonBody<HoldRequest>,
) -> Result<Response, Refusal> {
    app.answer(StatusCode::CREATED, move |backend| backend.hold(&wanted, &caller.0)).await
}

async fn let_go(State(app): Shared, Extension(caller): Who, Named(id): Named<u64>) -> Result<Response, Refusal> {
    app.show(move |backend| {
        backend.let_go(id, &caller.0)?;
        Ok(json!({"removed": id}))
    })
    .await
}

async fn cancel(State(app): Shared, Extension(caller): Who, Named(id): Named<u64>) -> Result<Response, Refusal> {
    app.show(move |backend| backend.cancel(id, &caller.0)).await
}

async fn verify(State(app): Shared) -> Result<Response, Refusal> {
    app.show(|backend| backend.verify()).await
}

async fn journal(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let query = params.journal()?;
    app.show(move |backend| backend.journal(&query)).await
}

async fn gap(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let (stream, time) = (params.get("stream")?.unwrap_or_default(), params.get("time")?.unwrap_or_default());
    let asked = GapQuery::new(stream, time, params.get("to")?, params.get("tree")?)?;
    app.show(move |backend| backend.gap(&asked)).await
}

async fn caps(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.slice(backend.caps())).await
}

async fn acknowledge(
    State(app): Shared,
    Extension(caller): Who,
    Named((tree, cap)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    app.show(move |backend| {
        backend.acknowledge(&tree, &cap, &caller.0)?;
        Ok(json!({"acknowledged": {"tree": tree, "cap": cap}}))
    })
    .await
}

async fn orphans(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let (wanted, page) = (params.orphans()?, params.page()?);
    app.show(move |backend| backend.orphans(&wanted, &page)).await
}

async fn remedy(
    State(app): Shared,
    Extension(caller): Who,
    Named(word): Named<String>,
    JsonBody(request): JsonBody<RemedyRequest>,
) -> Result<Response, Refusal> {
    match RemedyKind::from_word(&word) {
        Some(RemedyKind::RemoveRows) | None => {
            let message = format!("there is no remedy `{word}`; there are: adopt, quarantine, delete, restore");
            Err(Refusal::not_found(message))
        }
        Some(kind @ (RemedyKind::Adopt | RemedyKind::Quarantine | RemedyKind::Delete | RemedyKind::Restore)) => {
            remedied(&app, kind, request, caller).await
        }
    }
}

async fn missing(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let (tree, page) = (params.get("tree")?.map(str::to_owned), params.page()?);
    app.show(move |backend| backend.missing(tree.as_deref(), &page)).await
}

async fn remove_rows(
    State(app): Shared,
    Extension(caller): Who,
    JsonBody(request): JsonBody<RemedyRequest>,
) -> Result<Response, Refusal> {
    remedied(&app, RemedyKind::RemoveRows, request, caller).await
}

async fn remedied(app: &App, kind: RemedyKind, request: RemedyRequest, caller: Caller) -> Result<Response, Refusal> {
    match app.api.ask(&app.backend, move |backend| backend.remedy(kind, &request, &caller.0)).await?? {
        Remedied::Job(job) => Ok(begun(job)),
        Remedied::Rehearsal(rehearsal) => Ok(axum::Json(rehearsal).into_response()),
    }
}

async fn catalogues(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.slice(backend.catalogues())).await
}

async fn accept(State(app): Shared, Extension(caller): Who, Named(name): Named<String>) -> Result<Response, Refusal> {
    app.show(move |backend| {
        backend.accept(&name, &caller.0)?;
        Ok(json!({"accepted": name}))
    })
    .await
}

async fn hook_records(State(app): Shared, JsonBody(body): JsonBody<serde_json::Value>) -> Result<Response, Refusal> {
    app.show(move |backend| {
        let posted = Posted::read(&body)?;
        let kept = backend.keep_hooks(&posted.records)?;
        Ok(posted.answer(kept))
    })
    .await
}

async fn failures(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| backend.failures(&page)).await
}

async fn retry(State(app): Shared, Extension(caller): Who, Named(id): Named<u64>) -> Result<Response, Refusal> {
    retrying(&app, Some(id), caller).await
}

async fn retry_all(State(app): Shared, Extension(caller): Who) -> Result<Response, Refusal> {
    retrying(&app, None, caller).await
}

async fn retrying(app: &App, id: Option<u64>, caller: Caller) -> Result<Response, Refusal> {
    app.answer(StatusCode::ACCEPTED, move |backend| Ok(json!({"retrying": backend.retry(id, &caller.0)?}))).await
}

/// The body of `POST /api/v1/failures/{id}/close`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    reason: String,
}

async fn close(
    State(app): Shared,
    Extension(caller): Who,
    Named(id): Named<u64>,
    JsonBody(Close { reason }): JsonBody<Close>,
) -> Result<Response, Refusal> {
    let reason = reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        let message = format!("`reason` must be a line of 1 to {REASON} characters");
        return Err(Refusal::bad_request("bad_reason", message));
    }
    app.show(move |backend| {
        backend.close(id, &reason, &caller.0)?;
        Ok(json!({"closed": id}))
    })
    .await
}

async fn alerts(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.slice(backend.alerts())).await
}

async fn channels(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let page = params.page()?;
    app.show(move |backend| page.slice(backend.channels())).await
}

async fn silences(State(app): Shared, params: Params) -> Result<Response, Refusal> {
    let (ended, page) = (params.get("ended")? == Some("true"), params.page()?);
    app.show(move |backend| page.slice(backend.silences(ended))).await
}

async fn silence(
    State(app): Shared,
    Extension(caller): Who,
    JsonBody(wanted): JsonBody<NewSilence>,
) -> Result<Response, Refusal> {
    app.answer(StatusCode::CREATED, move |backend| backend.silence(&wanted, &caller.0)).await
}

async fn end_silence(State(app): Shared, Extension(caller): Who, Named(id): Named<u64>) -> Result<Response, Refusal> {
    app.show(move |backend| {
        backend.end_silence(id, &caller.0)?;
        Ok(json!({"ended": id}))
    })
    .await
}

async fn test_channel(State(app): Shared, Named(name): Named<String>) -> Result<Response, Refusal> {
    let tested = app.tries.ask(&app.backend, move |backend| backend.test_channel(&name)).await??;
    Ok(axum::Json(tested).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conditions::tests::volume;
    use crate::domain::forecast::Need;
    use crate::domain::forecast::promises;
    use crate::domain::history::History;
    use crate::domain::units::Bytes;

    #[test]
    fn the_first_page_says_what_does_not_fit_and_a_name_is_no_markup() {
        let mut status = Status::of(&[volume()], &[], &[], &History::default());
        assert_eq!(wrong(&status), "");
        let need = Need { keep: Duration::from_secs(86_400), inflow: Bytes::MIB };
        let promised = |room| promises(room, &[need]).map(Into::into);
        status.volumes[0].name = "<b>&\"'".to_owned();
        status.volumes[0].promises = promised(Bytes::gib(200));
        assert_eq!(wrong(&status), "");
        status.volumes[0].promises = promised(Bytes::gib(42));
        assert_eq!(
            wrong(&status),
            "<p role=\"alert\"><strong>Volume &lt;b&gt;&amp;&quot;&#39;: what `keep` promises does not fit: up to 1d at the inflow of the last day need 84.3 GiB, and there is room for 42 GiB; 11h56m fit. See <a href=\"/api/v1/streams\">the streams</a>.</strong>\n"
        );
    }
}
