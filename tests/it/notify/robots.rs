//! The robots of chats, against receivers that check what the vendors check and answer as they do.

use storage_guard::domain::settings::{Language, Robot};
use storage_guard::system::Clock as _;

use super::*;

const ROBOTS: [Robot; 4] = [Robot::Dingtalk, Robot::Wecom, Robot::Feishu, Robot::Slack];
/// What each says when it has taken a message.
const TAKEN: [&str; 4] =
    [r#"{"errcode":0,"errmsg":"ok"}"#, r#"{"errcode":0,"errmsg":"ok"}"#, r#"{"code":0,"msg":"success"}"#, "ok"];
const SIGNING: &str = "SECcanary-of-signing";

fn robot(robot: Robot, port: u16) -> ChannelSettings {
    let path = match robot {
        Robot::Dingtalk => "robot/send?access_token=canary-token",
        Robot::Wecom => "cgi-bin/webhook/send?key=canary-token",
        Robot::Feishu => "open-apis/bot/v2/hook/canary-token",
        Robot::Slack => "services/T000/B000/canary-token",
    };
    let url = Secret::new(&format!("http://127.0.0.1:{port}/{path}"));
    let kind = ChannelKind::Robot { robot, url, secret: Some(Secret::new(SIGNING)) };
    ChannelSettings { name: "robot".to_owned(), kind, per_minute: 1000 }
}

/// An answer with a text.
fn says(status: &str, text: &str) -> &'static str {
    let length = text.len();
    Box::leak(
        format!("{status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}").into_boxed_str(),
    )
}

fn all(answers: &[&'static str]) -> &'static [&'static str] {
    Box::leak(answers.to_vec().into_boxed_slice())
}

/// HMAC-SHA256 in base64, as the vendors' documents have it.
fn hmac(key: &str, message: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The values of the query.
fn query(seen: &Seen) -> Vec<(String, String)> {
    let target = seen.line.strip_prefix("POST ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let url = reqwest::Url::parse(&format!("http://host{target}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Looks at a request as the vendor does, and hands over title and text.
fn accept(robot: Robot, seen: &Seen) -> (String, String) {
    assert!(seen.header("content-type").starts_with("application/json"), "{seen:?}");
    assert!(seen.body.len() <= 20_000);
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    let text = |path: &str| {
        let found = body.pointer(path).and_then(serde_json::Value::as_str);
        found.unwrap_or_else(|| panic!("no `{path}` in {body}")).to_owned()
    };
    let recent = |secs: i64| (SystemClock.now().secs() - secs).abs() < 600;
    match robot {
        Robot::Dingtalk => {
            let query = query(seen);
            let value = |name: &str| query.iter().find(|(known, _)| known == name).unwrap().1.clone();
            let stamp = value("timestamp");
            assert_eq!(value("access_token"), "canary-token");
            assert_eq!(value("sign"), hmac(SIGNING, &format!("{stamp}\n{SIGNING}")));
            assert!(stamp.len() == 13 && recent(stamp.parse::<i64>().unwrap() / 1000), "milliseconds: {stamp}");
            assert_eq!((text("/msgtype").as_str(), &body["at"]["isAtAll"]), ("markdown", &false.into()));
            (text("/markdown/title"), text("/markdown/text"))
        }
        Robot::Wecom => {
            assert_eq!(query(seen), [("key".to_owned(), "canary-token".to_owned())]);
            assert_eq!(text("/msgtype"), "markdown");
            let content = text("/markdown/content");
            assert!(content.len() <= 4096, "{}", content.len());
            (content.lines().next().unwrap().to_owned(), content)
        }
        Robot::Feishu => {
            let stamp = text("/timestamp");
            assert_eq!(text("/sign"), hmac(&format!("{stamp}\n{SIGNING}"), ""));
            assert!(recent(stamp.parse().unwrap()), "seconds: {stamp}");
            assert_eq!(text("/msg_type"), "interactive");
            assert_eq!(text("/card/header/title/tag"), "plain_text");
            (text("/card/header/title/content"), text("/card/elements/0/text/content"))
        }
        Robot::Slack => {
            let section = text("/blocks/1/text/text");
            assert!(section.encode_utf16().count() <= 3000 && !text("/text").is_empty());
            assert_eq!((text("/blocks/0/type").as_str(), text("/blocks/1/type").as_str()), ("header", "section"));
            assert_eq!(text("/blocks/1/text/type"), "mrkdwn");
            (text("/blocks/0/text/text"), section)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_robot_gets_an_alert_and_its_resolution_signed_and_in_its_form() {
    for (which, taken) in ROBOTS.into_iter().zip(TAKEN) {
        let (port, mut seen) = receiver(all(&[says("200 OK", taken)])).await;
        let by = NotifySettings { language: Language::Chinese, ..settings(vec![robot(which, port)]) };
        let mut running = Running::start(by, memory());
        running.notifier.changed(vec![Change::Fired(alert(b"cam_01/a.mp4"))]);
        running.expect(&[Sent]).await;
        let (title, text) = accept(which, &seen.recv().await.unwrap());
        assert!(title.contains("【告警·警告】SpaceNotReclaimed data"), "{title}");
        for part in ["storage-guard", "cam_01/a.mp4", "1 GiB", "ffmpeg (pid 7)", "已删除但仍被进程打开"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        running.notifier.changed(vec![Change::Resolved(alert(b"a.mp4"))]);
        running.expect(&[Sent]).await;
        let (title, text) = accept(which, &seen.recv().await.unwrap());
        assert!(title.contains("【已恢复·警告】SpaceNotReclaimed data"), "{title}");
        assert!(text.contains("1970-01-01T00:00:01Z") && text.contains("持续："), "it names its firing: {text}");
        running.stop().await;
    }
}

/// Faults 106 and 119: nasty names and many files make a message that is taken, and mean nothing in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_nasty_names_fits_and_mentions_nobody() {
    for (which, taken) in ROBOTS.into_iter().zip(TAKEN) {
        let (port, mut seen) = receiver(all(&[says("200 OK", taken)])).await;
        let mut running = Running::start(settings(vec![robot(which, port)]), memory());
        let mut active = alert("<!channel>@all<at id=all>[x](http:||e)🎥磁盘".repeat(60).as_bytes());
        let condition = &mut active.condition;
        condition.items = vec![condition.items[0].clone(); 20];
        condition.unreclaimed.files = 10_000;
        running.notifier.changed(vec![Change::Fired(active)]);
        running.expect(&[Sent]).await;
        let (_, text) = accept(which, &seen.recv().await.unwrap());
        for bad in ["<", "@", "](", "://"] {
            assert!(!text.contains(bad), "{which:?} {bad}: {text}");
        }
        let named = text.matches("live: ").count();
        assert!(
            named >= 5 && text.contains("10000 files") && text.contains(&format!("the first {named} of")),
            "{text}"
        );
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_answer_decides_and_says_what_to_do() {
    let code = |code: i64, said: &str| {
        format!(r#"{{"errcode":{code},"errmsg":"{said} canary-token","code":{code},"msg":"{said}"}}"#)
    };
    for (which, status, text, result, said) in [
        (Robot::Dingtalk, "200 OK", code(130_101, "send too fast"), Retried, "130101 send too fast"),
        (Robot::Dingtalk, "200 OK", code(310_000, "keywords not in content"), Dropped, "set the keyword"),
        (Robot::Dingtalk, "200 OK", code(310_000, "sign not match"), Dropped, "compare `secret`"),
        (Robot::Dingtalk, "200 OK", "<html>log in first</html>".to_owned(), Retried, "not the answer of a robot"),
        (Robot::Wecom, "200 OK", code(45_009, "api freq out of limit"), Retried, "45009 api freq"),
        (Robot::Wecom, "200 OK", code(93_000, "invalid webhook url"), Dropped, "no such robot"),
        (Robot::Feishu, "200 OK", code(11_232, "frequency limited"), Retried, "11232 frequency"),
        (Robot::Feishu, "400 Bad Request", code(19_021, "sign match fail"), Dropped, "compare `secret`"),
        (Robot::Feishu, "200 OK", code(19_024, "Key Words Not Found"), Dropped, "set the keyword"),
        (Robot::Feishu, "200 OK", code(4242, "something new"), Retried, "4242 something new"),
        (Robot::Slack, "404 Not Found", "no_service".to_owned(), Dropped, "no such robot"),
        (Robot::Slack, "429 Slow\r\nRetry-After: 30", "rate_limited".to_owned(), Retried, "rate_limited"),
        (Robot::Slack, "200 OK", String::new(), Retried, "not the answer of a robot"),
        (Robot::Wecom, "302 Found\r\nLocation: http://127.0.0.1:9/", String::new(), Dropped, "redirects"),
    ] {
        let (port, mut seen) = receiver(all(&[says(status, &text)])).await;
        let mut running = Running::start(settings(vec![robot(which, port)]), memory());
        running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
        let event = tokio::time::timeout(PATIENCE, running.events.recv()).await.unwrap().unwrap();
        assert_eq!(event.result, result, "{event:?}");
        assert!(event.detail.contains(said) && !event.detail.contains("canary"), "{said}: {event:?}");
        let shown = &running.database.recent_messages(9).unwrap();
        assert_eq!((shown.len(), shown[0].state == MessageState::Dropped), (1, result == Dropped), "{shown:?}");
        running.stop().await;
        accept(which, &seen.recv().await.unwrap());
    }
}

/// One that repeats all that it was sent, in the robots' own form: address, headers and body.
async fn echo(status: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let url = reqwest::Url::parse(&format!("http://host/?{query}")).unwrap();
        let values: Vec<String> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        // What stands first is shown for certain.
        let said = format!("{} {} {values:?} {SIGNING} {}", body["sign"], head.uri, body["timestamp"]);
        let answer = serde_json::json!({ "errcode": 7, "errmsg": said, "code": 7, "msg": said, "error": said });
        (axum::http::StatusCode::from_u16(status).unwrap(), [("x-said", head.uri.to_string())], answer.to_string())
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// Fault 112: whatever happens, what stands in the log, the events, the database and the transcript is no key.
#[tokio::test(flavor = "multi_thread")]
async fn neither_tokens_nor_signatures_are_shown_whatever_the_robot_says() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (silent, _seen) = receiver(&["hang"]).await;
    let (broken, _seen_too) = receiver(&["200 OK\r\nContent-Length: 99\r\n\r\n{\"err"]).await;
    let mut ports = vec![gone, silent, broken];
    for status in [200, 302, 400, 403, 429, 500] {
        ports.push(echo(status).await);
    }
    for which in ROBOTS {
        for port in &ports {
            // Tried once, so that the channel is free when it is tried by hand.
            let later = Duration::from_secs(60);
            let by = NotifySettings { retry_first: later, retry_max: later, ..settings(vec![robot(which, *port)]) };
            let by = NotifySettings { timeout: Duration::from_millis(300), ..by };
            let mut running = Running::start(by, memory());
            running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
            let event = tokio::time::timeout(PATIENCE, running.events.recv()).await.unwrap().unwrap();
            let transcript = running.notifier.test("robot").await.unwrap_err();
            let kept = format!("{:?}", running.database.recent_messages(9).unwrap());
            for shown in [format!("{event:?}"), transcript.clone(), kept] {
                assert!(!shown.contains("canary"), "{which:?}: {shown}");
                // Neither does any signature stand there: 32 bytes in base64.
                let signature = |word: &str| word.len() == 44 && word.ends_with('=');
                let words = shown.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c));
                assert_eq!(words.filter(|word| signature(word)).count(), 0, "{which:?}: {shown}");
                assert!(!shown.contains("%3D"), "{which:?}: {shown}");
            }
            assert!(
                transcript.ends_with("not delivered") && transcript.contains("> POST http://127.0.0.1:"),
                "{transcript}"
            );
            running.stop().await;
        }
    }
}

/// The error of a send is one that fits a line: it repeats no message.
#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_does_not_finish_its_answer_is_tried_again_and_shown_in_a_line() {
    for (answer, expected) in [
        ("hang", "no answer within 300ms"),
        ("200 OK\r\nContent-Length: 99\r\n\r\n{\"err", "not the answer of a robot"),
    ] {
        let (port, mut seen) = receiver(all(&[answer])).await;
        let by = NotifySettings { timeout: Duration::from_millis(300), ..settings(vec![robot(Robot::Dingtalk, port)]) };
        let mut running = Running::start(by, memory());
        running.notifier.changed(vec![Change::Fired(alert(b"a.mp4"))]);
        let event = running.expect(&[Retried]).await;
        assert!(event.detail.contains(expected) && event.detail.len() < 200, "{event:?}");
        accept(Robot::Dingtalk, &seen.recv().await.unwrap());
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcript_of_a_test_shows_the_whole_exchange() {
    let (port, mut seen) = receiver(all(&[says("200 OK", r#"{"code":0,"msg":"success"}"#)])).await;
    let notifier =
        Notifier::new(settings(vec![robot(Robot::Feishu, port)]), Arc::new(memory()), Arc::new(SystemClock), |_| {});
    let said = notifier.test("robot").await.unwrap();
    accept(Robot::Feishu, &seen.recv().await.unwrap());
    for line in [
        "channel `robot`: robot of Feishu, its address kept secret, signed",
        "> content-type: application/json; charset=utf-8",
        "[TEST] Test",
        r#""sign":"***""#,
        "< 200 OK",
        r#"< {"code":0,"msg":"success"}"#,
        "delivered",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
}
