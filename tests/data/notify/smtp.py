"""A mail server for the tests: python3-aiosmtpd, on a free port of 127.0.0.1.

usage: smtp.py MODE [CERT KEY]
MODE: starttls (required, with login guard/secret), implicit, plain, mute (accepts and says nothing), refuse (550), busy (451),
      picky (550 for one recipient), grey (451 for one recipient), rude (never answers QUIT),
      between (somebody between puts readable answers behind the one to STARTTLS; the server itself answers nothing after it).
It prints its port, then one line of JSON for each mail.
"""
import asyncio
import email
import email.policy
import json
import socket
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, Envelope

MODE = sys.argv[1]


def say(text):
    print(text, flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if MODE == "refuse" or (MODE == "picky" and address.startswith("li@")):
            return "550 no such user"
        if MODE == "busy" or (MODE == "grey" and address.startswith("li@")):
            return "451 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_QUIT(self, server, session, envelope):
        if MODE == "rude":
            await asyncio.sleep(3600)
        return "221 bye"

    async def handle_DATA(self, server, session, envelope: Envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        say(json.dumps({
            "tls": session.ssl is not None or MODE == "implicit",
            "login": bool(session.authenticated),
            "hello": session.host_name,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": parts.get("text/plain"),
            "html": parts.get("text/html"),
            "data": envelope.content.decode("utf-8", "replace"),
        }))
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"guard" and data.password == b"secret", handled=False)


async def mute(reader, writer):
    await reader.read()


async def between(reader, writer):
    writer.write(b"220 here\r\n")
    await reader.readline()
    writer.write(b"250-here\r\n250 STARTTLS\r\n")
    await reader.readline()
    writer.write(b"220 go on\r\n250-evil\r\n250 AUTH PLAIN\r\n235 fine\r\n250 fine\r\n250 fine\r\n354 go on\r\n250 taken\r\n")
    await writer.drain()
    await writer.start_tls(tls())
    await reader.read()


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    return context


async def main():
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    context = tls() if len(sys.argv) > 2 else None

    def protocol():
        if MODE == "starttls":
            return SMTP(Handler(), tls_context=context, require_starttls=True, authenticator=login, auth_required=True)
        return SMTP(Handler())

    if MODE in ("mute", "between"):
        server = await asyncio.start_server(mute if MODE == "mute" else between, sock=listener)
    else:
        server = await loop.create_server(protocol, sock=listener, ssl=context if MODE == "implicit" else None)
    say(listener.getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
