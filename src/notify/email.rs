//! Mail by SMTP: encrypted, or to this machine only.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::body::{Body, one_line};
use super::delivery::{Answer, Failure, Outgoing, innermost};
use super::{mail_text, webhook};
use crate::domain::secret::Secret;
use crate::domain::settings::MailTls;

/// Replies about the login rather than the mail: who fixes the password gets the mail.
const LOGIN: [u16; 4] = [530, 534, 535, 538];

/// The mail server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) tls: MailTls,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// How the connection is protected, in words.
pub(super) fn words(tls: MailTls) -> &'static str {
    match tls {
        MailTls::Required => "STARTTLS required",
        MailTls::Implicit => "TLS",
        MailTls::None => "not encrypted",
    }
}

/// Sends once. The caller sets the deadline: lettre's own covers the connection only.
///
/// If the server refuses the mail, each recipient is tried alone: one wrong address must not keep it from the others.
pub(super) async fn send(server: Server<'_>, from: &str, to: &[String], outgoing: Outgoing<'_>) -> Answer {
    let mail = compose(from, to, outgoing)?;
    let transport = connect(server).await?;
    let (envelope, text) = (mail.envelope().clone(), mail.formatted());
    let all = answer(transport.send_raw(&envelope, &text).await);
    if !matches!(all, Err(Failure::Refused { .. })) || envelope.to().len() < 2 {
        return all;
    }
    let (mut accepted, mut refused) = (0, Vec::new());
    for address in envelope.to() {
        let Ok(alone) = Envelope::new(envelope.from().cloned(), vec![address.clone()]) else { continue };
        match answer(transport.send_raw(&alone, &text).await) {
            Ok(_) => accepted += 1,
            Err(Failure::Refused { why }) => refused.push(format!("{address}: {why}")),
            retry @ Err(Failure::Retry { .. }) => return retry,
        }
    }
    let refused = one_line(&refused.join("; "), 500);
    match accepted {
        0 => Err(Failure::Refused { why: refused }),
        _ => Ok(format!("SMTP 250 for {accepted} recipients; refused for {refused}")),
    }
}

fn answer(result: Result<lettre::transport::smtp::response::Response, lettre::transport::smtp::Error>) -> Answer {
    match result {
        Ok(answer) => {
            let said: Vec<_> = answer.message().collect();
            Ok(one_line(&format!("SMTP {} {}", answer.code(), said.join(" ")), 300))
        }
        Err(error) => Err(judge(&error)),
    }
}

fn judge(error: &lettre::transport::smtp::Error) -> Failure {
    let status = error.status().map(u16::from);
    let why = match status {
        Some(code) => format!("SMTP {code} {}", innermost(error)),
        None => format!("cannot send: {}", innermost(error)),
    };
    let why = one_line(&why, 300);
    if error.is_permanent() && !status.is_some_and(|code| LOGIN.contains(&code)) {
        return Failure::Refused { why };
    }
    Failure::Retry { why, after: None, channel: true }
}

async fn connect(server: Server<'_>) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failure> {
    let (host, tls) = match server.tls {
        MailTls::Required => (server.host.to_owned(), Tls::Required(parameters(server).await?)),
        MailTls::Implicit => (server.host.to_owned(), Tls::Wrapper(parameters(server).await?)),
        MailTls::None => (loopback(server).await?.to_string(), Tls::None),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(server.port)
        .tls(tls)
        .hello_name(ClientId::Domain(hello(rustix::system::uname().nodename().to_bytes())));
    if let (Some(username), Some(password)) = (server.username, server.password) {
        builder = builder.credentials(Credentials::new(username.to_owned(), password.reveal().to_owned()));
    }
    Ok(builder.build())
}

/// The address to speak to without encryption: this machine's, and never with a login.
async fn loopback(server: Server<'_>) -> Result<IpAddr, Failure> {
    let refused = |why: &str| Failure::Refused { why: why.to_owned() };
    if server.username.is_some() || server.password.is_some() {
        return Err(refused("`tls: none` never sends a login; use `required` or `implicit`"));
    }
    let found = tokio::net::lookup_host((server.host, server.port)).await;
    let found = found.map_err(|error| Failure::unreachable(format!("cannot resolve `{}`: {error}", server.host)))?;
    let mut addresses = found.map(|address| address.ip()).filter(IpAddr::is_loopback);
    addresses.next().ok_or_else(|| refused("`tls: none` is only for a server on this machine; use `required`"))
}

/// Reads certificates, so it runs where blocking is allowed.
async fn parameters(server: Server<'_>) -> Result<TlsParameters, Failure> {
    webhook::install_provider();
    let (host, ca_file) = (server.host.to_owned(), server.ca_file.map(Path::to_owned));
    let work = move || {
        let mut builder = TlsParameters::builder(host);
        if let Some(path) = ca_file {
            let at = path.display();
            let pem = std::fs::read(&path).map_err(|error| format!("cannot read `ca_file` `{at}`: {error}"))?;
            let root = Certificate::from_pem(&pem);
            builder = builder.add_root_certificate(
                root.map_err(|error| format!("`ca_file` `{at}` holds no certificate: {}", innermost(&error)))?,
            );
        }
        builder.build().map_err(|error| format!("cannot prepare TLS: {}; give a `ca_file`?", innermost(&error)))
    };
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(error.to_string())).map_err(Failure::unreachable)
}

/// The name we greet with: only what can stand in a host name.
fn hello(name: &[u8]) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let name: String = name.iter().copied().map(char::from).filter(fine).take(200).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn compose(from: &str, to: &[String], outgoing: Outgoing<'_>) -> Result<Message, Failure> {
    let mailbox = |text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|error| Failure::unreachable(format!("`{}` is no mail address: {error}", one_line(text, 100))))
    };
    let body: Body = serde_json::from_str(outgoing.body)
        .map_err(|error| Failure::Refused { why: format!("its body cannot be read: {error}") })?;
    let from = mailbox(from)?;
    let id = |id: &str| format!("<{id}@{}>", from.email.domain());
    // The time of the first attempt, so that every attempt sends the same mail.
    let created = Duration::from_millis(u64::try_from(outgoing.created.millis()).unwrap_or(0));
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut message = Message::builder()
        .date(SystemTime::UNIX_EPOCH + created)
        .subject(mail_text::subject(&body))
        .message_id(Some(id(outgoing.id)))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    if let Some(first) = outgoing.reply_to {
        message = message.in_reply_to(id(first)).references(id(first));
    }
    for address in to {
        message = message.to(mailbox(address)?);
    }
    message
        .from(from)
        .multipart(MultiPart::alternative_plain_html(mail_text::text(&body), mail_text::html(&body)))
        .map_err(|error| Failure::unreachable(format!("the mail cannot be composed: {}", innermost(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Timestamp;

    #[test]
    fn greets_with_a_plain_name() {
        for (name, expected) in [
            (&b"cam-07.lan"[..], "cam-07.lan"),
            (b"a\r\nMAIL FROM:<x>", "aMAILFROMx"),
            (b"\xff ", "localhost"),
            (b"", "localhost"),
        ] {
            assert_eq!(hello(name), expected);
        }
    }

    #[test]
    fn a_mail_names_itself_and_what_it_answers() {
        let body = Body::test("mail", Timestamp::from_secs(0)).json();
        let now = Timestamp::from_secs(86_400);
        let outgoing = Outgoing { id: "msg_2", reply_to: Some("msg_1"), body: &body, created: now, now };
        let to = ["Wu <wu@example.org>".to_owned(), "li@example.org".to_owned()];
        let mail = String::from_utf8(compose("Guard <guard@example.org>", &to, outgoing).unwrap().formatted()).unwrap();
        for line in [
            "Message-ID: <msg_2@example.org>\r\n",
            "In-Reply-To: <msg_1@example.org>\r\n",
            "References: <msg_1@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Subject: [TEST] Test\r\n",
            "Date: Fri, 02 Jan 1970 00:00:00 +0000\r\n",
        ] {
            assert!(mail.contains(line), "{line:?} is not in {mail}");
        }
        assert!(compose("no address", &to, outgoing).unwrap_err().why().contains("no address"));
    }

    #[tokio::test]
    async fn speaks_plainly_to_this_machine_only_and_never_logs_in() {
        let plain =
            Server { host: "127.0.0.1", port: 25, tls: MailTls::None, ca_file: None, username: None, password: None };
        assert!(loopback(plain).await.unwrap().is_loopback());
        assert!(loopback(Server { host: "192.0.2.1", ..plain }).await.is_err());
        assert!(loopback(Server { username: Some("me"), ..plain }).await.is_err());
    }
}
